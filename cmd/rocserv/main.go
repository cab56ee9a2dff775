package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/urfave/cli/v2"

	"rocserv/internal/build"
	"rocserv/internal/doctor"
	"rocserv/internal/passwd"
	"rocserv/internal/quickstart"
	"rocserv/mainproc"
	"rocserv/secmod"
	"rocserv/secmod/helper"
	"rocserv/worker"
)

// Hidden roles.
const (
	roleWorker     = "__worker"
	roleSecMod     = "__secmod"
	roleHelper     = "__helper"
	roleQuickstart = "__quickstart"
	roleTrial      = "__trial"
)

func init() { runtime.LockOSThread() }

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case roleWorker:
			os.Exit(worker.Main(os.Args[2:]))
		case roleSecMod:
			os.Exit(secmod.Main(os.Args[2:]))
		case roleHelper:
			os.Exit(helper.Main(os.Args[2:], methods))
		case roleTrial:
			os.Exit(mainproc.Trial(os.Args[2:], mainOptions(mainproc.Options{Debug: -1})))
		case roleQuickstart:
			os.Exit(makeState(os.Args[2:]))
		}
	}
	if status, ok := runByName(os.Args); ok {
		os.Exit(status)
	}
	if err := app().Run(os.Args); err != nil {
		os.Exit(fail(err))
	}
}

// fail prints what is wrong once and returns the exit status.
func fail(err error) int {
	var coder cli.ExitCoder
	if errors.As(err, &coder) {
		if text := coder.Error(); text != "" {
			fmt.Fprintln(os.Stderr, text)
		}
		return coder.ExitCode()
	}
	fmt.Fprintf(os.Stderr, "error: %v\n", err)
	return 1
}

func app() *cli.App {
	return &cli.App{
		Name:            "rocserv",
		Usage:           "a rootless OpenConnect/AnyConnect VPN server",
		UsageText:       "rocserv quickstart\n   rocserv -f -c FILE [-d N] [-p PIDFILE]\n   rocserv -t -c FILE\n   rocserv passwd [-c FILE] USER\n   rocserv doctor [-c FILE] [--json]\n   rocserv ctl [COMMAND...]\n   rocserv top [--once]",
		Version:         build.Version,
		HideHelpCommand: true,
		Flags:           serverFlags(),
		Action:          runServer,
		Commands:        []*cli.Command{quickstart.Command(runQuickstart), passwd.Command(), doctor.Command(), controlCommand(), topCommand()},
		// cli would exit by itself for its ExitCoder; main does, once.
		ExitErrHandler: func(*cli.Context, error) {},
	}
}
