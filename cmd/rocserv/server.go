package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"rocserv/internal/build"
	"rocserv/internal/config"
	"rocserv/internal/quickstart"
	"rocserv/internal/rolelog"
	"rocserv/mainproc"
	"rocserv/secmod"
)

// configFiles are looked for, in order, without -c (as ocserv).
var configFiles = []string{"/etc/ocserv/ocserv.conf", "/etc/ocserv.conf"}

func serverFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "configuration `FILE`, in ocserv's syntax"},
		&cli.BoolFlag{Name: "foreground", Aliases: []string{"f"}, Usage: "stay with the terminal"},
		&cli.IntFlag{Name: "debug", Aliases: []string{"d"}, Value: -1, DefaultText: "the file's log-level", Usage: "log level `N`, 0-9"},
		&cli.StringFlag{Name: "pid-file", Aliases: []string{"p"}, Usage: "write main's pid to `FILE`"},
		&cli.BoolFlag{Name: "log-stderr", Aliases: []string{"e"}, Usage: "log to standard error, beside --syslog"},
		&cli.BoolFlag{Name: "syslog", Aliases: []string{"s"}, Usage: "log to syslog"},
		&cli.StringFlag{Name: "syslog-facility", DefaultText: "the file's", Usage: "`NAME` of the facility: daemon, user, auth, authpriv, local0 to local7"},
		&cli.BoolFlag{Name: "test-config", Aliases: []string{"t"}, Usage: "check the configuration and the files it names, and exit"},
	}
}

// runServer is the command without a subcommand.
func runServer(c *cli.Context) error {
	if c.NArg() > 0 {
		return cli.Exit("error: no additional command line options are allowed", 1)
	}
	if f := c.String("syslog-facility"); !isFacility(f) {
		return cli.Exit("error: unknown syslog facility '"+f+"'", 1)
	}
	name, err := findConfig(c.String("config"))
	if err != nil {
		return err
	}
	if c.Bool("test-config") {
		return testConfig(name)
	}
	return serve(mainproc.Options{
		ConfigName: name,
		ReadConfig: func() ([]byte, error) { return os.ReadFile(name) },
		PIDFile:    c.String("pid-file"),
		Foreground: c.Bool("foreground"),
		Debug:      c.Int("debug"),
		Facility:   c.String("syslog-facility"),
	}, logs{stderr: c.Bool("log-stderr") || !c.Bool("syslog"), syslog: c.Bool("syslog"), tag: "rocserv"})
}

func isFacility(name string) bool {
	_, ok := rolelog.Facilities[strings.ToLower(name)]
	return ok || name == ""
}

// mainOptions adds what is the same for every main.
func mainOptions(o mainproc.Options) mainproc.Options {
	o.Level = new(slog.LevelVar)
	var h slog.Handler
	o.Log, h = rolelog.NewMain(os.Stderr, o.Level)
	o.Logger = slog.New(h)
	o.Version, o.Build = build.Version, build.Fingerprint()
	o.Parse = func(name string, b []byte) (*config.Config, error) { return config.Parse(name, b, config.Main) }
	return o
}

// logs is what the command line says of the log.
type logs struct {
	stderr, syslog bool
	tag            string // of lines in syslog
}

// syslogSocket is where syslog(3) sends to.
const syslogSocket = "/dev/log"

// serve makes this process main.
func serve(o mainproc.Options, to logs) error {
	o = mainOptions(o)
	if to.syslog {
		if s, err := rolelog.OpenSyslog(syslogSocket, to.tag); err != nil {
			o.Logger.Warn("there is no syslog, the log goes to standard error", "err", err)
		} else {
			o.Log.SetSyslog(s, !to.stderr)
			defer o.Log.Close()
		}
	}
	if err := mainproc.Run(o); err != nil {
		if to.syslog && !to.stderr { // standard error is told below
			o.Logger.Error("the server ends", "err", err)
		}
		return cli.Exit(describe(err), 1)
	}
	return nil
}

// describe prints every problem of a configuration on a line of its own, and last
// what ocserv says of the first one with a line.
func describe(err error) string {
	text := "error: " + strings.ReplaceAll(err.Error(), "\n", "\nerror: ")
	var bad *config.Error
	if errors.As(err, &bad) {
		if i := slices.IndexFunc(bad.Problems, func(p config.Problem) bool { return p.Line > 0 }); i >= 0 {
			text += fmt.Sprintf("\nerror: config file error in line %d", bad.Problems[i].Line)
		}
	}
	return text
}

// findConfig finds the configuration file and says how to name one.
func findConfig(name string) (string, error) {
	if name != "" {
		return name, nil
	}
	for _, name := range configFiles {
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			return name, nil
		}
	}
	return "", cli.Exit(fmt.Sprintf("error: no configuration file: name one with -c, or try 'rocserv quickstart' (looked for %s)", configFiles), 1)
}

// runQuickstart lets a child make the state, so that this process, which
// becomes main, never holds a key or a password; then it starts the server.
func runQuickstart(_ *cli.Context, o quickstart.Options) error {
	files, err := quickstart.Paths(o)
	if err != nil {
		return cli.Exit("error: "+err.Error(), 1)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child, err := os.StartProcess(self, append([]string{self, roleQuickstart}, o.Args()...), &os.ProcAttr{
		Files: []*os.File{nil, os.Stdout, os.Stderr},
		Env:   os.Environ(),
	})
	if err != nil {
		return err
	}
	state, err := child.Wait()
	if err != nil {
		return err
	}
	if !state.Success() {
		return cli.Exit("", 1) // the child has said why
	}
	return serve(mainproc.Options{
		ConfigName: files.Config,
		ReadConfig: func() ([]byte, error) { return os.ReadFile(files.Config) },
		Foreground: true,
		Debug:      -1,
	}, logs{stderr: true})
}

// makeState is the hidden role that writes quickstart's files.
func makeState(args []string) int {
	o, err := quickstart.ParseArgs(args)
	if err == nil {
		err = quickstart.MakeState(o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		return 1
	}
	return 0
}

// testConfig is -t: every file that the start would read is read, login helpers'
// too, as the user who asks. Nothing is started or opened for others, and nobody is
// asked: names of servers are not looked up.
func testConfig(name string) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return cli.Exit("error: "+err.Error(), 1)
	}
	cfg, err := config.Parse(name, b, config.SecMod)
	if err != nil {
		return cli.Exit(describe(err), 1)
	}
	report(os.Stderr, cfg)
	inMain, err1 := mainproc.Check(cfg)
	inSecMod, err2 := secmod.Check(name, b)
	inHelpers, err3 := checkHelpers(cfg)
	for _, w := range slices.Concat(inMain, inSecMod, inHelpers) {
		fmt.Fprintf(os.Stderr, "warning: %s\n", w)
	}
	if err := errors.Join(err1, err2, err3); err != nil {
		return cli.Exit(describe(err), 1)
	}
	return nil
}

// report prints what there is to say about a file that is right: ocserv's notes,
// what works otherwise here, and warnings.
func report(w io.Writer, cfg *config.Config) {
	for _, p := range cfg.Notes {
		if p.Line == 0 {
			fmt.Fprintf(w, "note: %s\n", p.Text)
		} else {
			fmt.Fprintf(w, "note: %v\n", p)
		}
	}
	for _, p := range cfg.Warnings {
		fmt.Fprintf(w, "warning: %v\n", p)
	}
}
