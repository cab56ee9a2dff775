package occtl

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"rocserv/internal/control"
)

// Exit statuses.
const (
	statusOK       = 0
	statusFailed   = 1
	statusNotFound = 2
)

// IO is what the command reads and writes.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
	Version  string
	Now      func() time.Time
}

// session is one run of the command.
type session struct {
	IO
	places []string // where the socket may be
	json   bool
	pager  bool
	debug  bool
}

const usageText = `occtl: [OPTIONS...] {COMMAND}

  -s --socket-file       Specify the server's occtl socket file
  -h --help              Show this help
     --debug             Enable more verbose information in some commands
  -v --version           Show the program's version
  -j --json              Use JSON formatting for output
  -n --no-pager          Do not use a pager

`

// Run is the command with these arguments (without its own name). It returns
// the exit status.
func Run(args []string, sys IO) int {
	if sys.Now == nil {
		sys.Now = time.Now
	}
	s := &session{IO: sys, pager: true, places: control.Places("")}
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		option, value, has := strings.Cut(args[0], "=")
		args = args[1:]
		switch option {
		case "-s", "--socket-file":
			if !has {
				if len(args) == 0 {
					fmt.Fprintf(s.Err, "option '%s' requires an argument\n", option)
					return statusFailed
				}
				value, args = args[0], args[1:]
			}
			s.places = []string{value}
		case "-j", "--json":
			s.json = true
		case "-n", "--no-pager":
			s.pager = false
		case "--debug":
			s.debug = true
		case "-v", "--version":
			fmt.Fprintf(s.Out, "OpenConnect server control (occtl), rocserv %s\n", s.Version)
			return statusOK
		case "-h", "--help":
			fmt.Fprint(s.Out, usageText)
			s.help("")
			return statusOK
		case "--":
			return s.do(args)
		default:
			fmt.Fprintf(s.Err, "unknown option '%s'\n%s", option, usageText)
			return statusFailed
		}
	}
	return s.do(args)
}

func (s *session) do(args []string) int {
	if len(args) == 0 {
		return s.interact()
	}
	return s.execute(args)
}

// execute runs one command.
func (s *session) execute(words []string) int {
	c, arg, ok := match(words)
	switch {
	case !ok:
		if s.help(strings.Join(words, " ")) {
			return statusFailed
		}
		fmt.Fprintf(s.Err, "unknown command: %s\nuse help or '?' to get a list of the available commands\n", strings.Join(words, " "))
		return statusFailed
	case c.arg != "" && arg == "", c.arg == "" && arg != "":
		s.help(c.words)
		return statusFailed
	}
	return c.run(s, arg)
}

// fail prints why something did not work and returns the status.
func (s *session) fail(err error) int {
	fmt.Fprintln(s.Err, clean(strings.TrimPrefix(err.Error(), "control: ")))
	return statusFailed
}

// call asks the server once. A connection is made for each question, so that a
// prompt that is open for days holds none and survives the server's restart.
func (s *session) call(cmd string, args, result any) error { return s.callWithin(0, cmd, args, result) }

// callWithin is call for what takes longer than usual.
func (s *session) callWithin(patience time.Duration, cmd string, args, result any) error {
	c, err := control.Dial(s.places...)
	if err != nil {
		return err
	}
	defer c.Close()
	if patience > 0 {
		c.Patience = patience
	}
	return c.Call(cmd, args, result)
}

// is reports whether the server refused with this code.
func is(err error, code control.Code) bool {
	var e *control.Error
	return errors.As(err, &e) && e.Code == code
}

// terminal returns the file behind w if it is a terminal.
func terminal(w any) (*os.File, bool) {
	f, ok := w.(*os.File)
	return f, ok && isTerminal(f)
}
