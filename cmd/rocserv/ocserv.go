package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"

	"rocserv/internal/build"
	"rocserv/internal/getopt"
	"rocserv/mainproc"
)

// ocservFlags are those of the program ocserv, old and new.
var ocservFlags = []getopt.Flag{
	{Short: 'f', Long: "foreground"},
	{Short: 'd', Long: "debug", Value: true},
	{Short: 'c', Long: "config", Value: true},
	{Short: 'p', Long: "pid-file", Value: true},
	{Short: 't', Long: "test-config"},
	{Short: 'e', Long: "log-stderr"},
	{Short: 's', Long: "syslog"},
	{Long: "syslog-facility", Value: true},
	{Long: "no-chdir"},
	{Short: 'x', Long: "traceable"},
	{Short: 'v', Long: "version", Last: true},
	{Short: 'h', Long: "help", Last: true},
}

const ocservUsage = `ocserv - OpenConnect VPN server (rocserv)
Usage:  ocserv [ -<flag> [<val>] | --<name>[{=| }<val>] ]...

   -f, --foreground           stay with the terminal
   -d, --debug=num            log level, 0 to 9
   -c, --config=file          configuration file
   -t, --test-config          check the configuration and exit
   -p, --pid-file=file        write the server's pid to a file
   -e, --log-stderr           log to standard error
   -s, --syslog               log to syslog, as without -e; where there is none, to standard error
       --syslog-facility=name facility of the log
       --no-chdir             taken: the working directory is never changed
   -x, --traceable            taken, and without effect: no process can be traced
   -v, --version              print the version
   -h, --help                 print this
`

// runOcserv is the program called ocserv: its command line, streams and exit
// codes. What is wrong with an option is said and the server starts all the
// same, as ocserv does.
func runOcserv(args []string, errs io.Writer) int {
	line := getopt.Parse("ocserv", ocservFlags, args)
	for _, w := range line.Wrong {
		fmt.Fprintln(errs, w)
	}
	given := map[string]string{} // the last of each counts
	for _, o := range line.Options {
		given[o.Long] = o.Value
	}
	has := func(name string) bool { _, ok := given[name]; return ok }
	switch {
	case has("version"):
		printOcservVersion(errs)
		return 0
	case has("help"):
		fmt.Fprint(errs, ocservUsage)
		return 0
	case len(line.Args) > 0:
		fmt.Fprintln(errs, "error: no additional command line options are allowed")
		return 1
	}
	name, err := findConfig(given["config"])
	if err == nil {
		_, err = os.Stat(name)
	}
	if err != nil {
		fmt.Fprintf(errs, "error: cannot access config file: %s\nUsage: ocserv -c [config]\nUse ocserv --help for more information.\n", given["config"])
		return 1
	}
	if has("test-config") {
		return finished(testConfig(name))
	}
	if has("traceable") {
		fmt.Fprintln(errs, "note: --traceable has no effect")
	}
	if f := given["syslog-facility"]; !isFacility(f) {
		fmt.Fprintf(errs, "error: unknown syslog facility '%s'\n", f)
		return 1
	}
	debug := -1
	if has("debug") {
		debug, _ = strconv.Atoi(given["debug"]) // 0 for what is no number, as atoi(3)
	}
	return finished(serve(mainproc.Options{
		ConfigName: name,
		ReadConfig: func() ([]byte, error) { return os.ReadFile(name) },
		PIDFile:    given["pid-file"],
		Foreground: has("foreground"),
		Debug:      debug,
		Facility:   given["syslog-facility"],
	}, logs{ // -d alone has the log at standard error too (ocserv)
		stderr: has("log-stderr") || has("debug"),
		syslog: has("syslog") || !has("log-stderr"),
		tag:    "ocserv",
	}))
}

// finished prints what went wrong, if anything, and returns the exit status.
func finished(err error) int {
	if err == nil {
		return 0
	}
	return fail(err)
}

// printOcservVersion says what is compiled in, in the words that ocserv's own
// tests and people's scripts look for.
func printOcservVersion(w io.Writer) {
	fmt.Fprintf(w, "ocserv %s (rocserv)\n\nCompiled with: seccomp, oath, radius, gssapi, AnyConnect\nTLS: crypto/tls of %s\n", build.Version, runtime.Version())
}
