package main

import (
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"rocserv/internal/build"
	"rocserv/internal/occtl"
	"rocserv/internal/passwd"
)

// programs are the names other than its own that this program answers to: a
// link of that name is the program of that name.
var programs = map[string]func(args []string) int{
	"occtl":    runControl,
	"ocpasswd": func(args []string) int { return passwd.Main(args, build.Version, os.Stdin, os.Stderr) },
	"ocserv":   func(args []string) int { return runOcserv(args, os.Stderr) },
}

// runByName runs the program that argv[0] names, if it is not rocserv itself.
func runByName(args []string) (status int, ok bool) {
	if len(args) == 0 {
		return 0, false
	}
	run, ok := programs[filepath.Base(args[0])]
	if !ok {
		return 0, false
	}
	return run(args[1:]), true
}

func runControl(args []string) int {
	return occtl.Run(args, occtl.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Version: build.Version})
}

// topCommand is `rocserv top`.
func topCommand() *cli.Command {
	return &cli.Command{
		Name:            "top",
		Usage:           "shows sessions and their rates as they change",
		ArgsUsage:       "[-s FILE] [-d SECONDS] [--sort COLUMN] [--once]",
		SkipFlagParsing: true,
		Action: func(c *cli.Context) error {
			io := occtl.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Version: build.Version}
			if status := occtl.Top(c.Args().Slice(), io); status != 0 {
				return cli.Exit("", status)
			}
			return nil
		},
	}
}

// controlCommand is `rocserv ctl`: occtl by another name, which reads its
// arguments itself.
func controlCommand() *cli.Command {
	return &cli.Command{
		Name:            "ctl",
		Usage:           "controls a running server, as occtl does",
		ArgsUsage:       "[-s FILE] [-j] [-n] [COMMAND...]",
		SkipFlagParsing: true,
		Action: func(c *cli.Context) error {
			if status := runControl(c.Args().Slice()); status != 0 {
				return cli.Exit("", status)
			}
			return nil
		},
	}
}
