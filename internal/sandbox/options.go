package sandbox

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Options are what the configuration says of confinement. Main gives them to
// its children as arguments.
type Options struct {
	Isolate     bool // isolate-workers: a worker's system call filter and Landlock
	LimitMemory bool // limit-worker-memory
	OpenFiles   int  // limit-worker-files; 0: DefaultOpenFiles
	Require     bool // require-confinement: a layer that is missing is an error

	// InForce names (FilterName, with spaces between) the filters that this very
	// process has already: another program was in it before. It is no argument of a
	// child's.
	InForce string
}

// The words of Args.
const (
	argIsolate = "isolate"
	argMemory  = "limit-memory"
	argRequire = "require"
	argFiles   = "files="
)

// DefaultOpenFiles is a worker's limit of open files: a socket per flow, and the
// limits of flows are below it.
const DefaultOpenFiles = 4096

// ErrNotIsolated is Check's error.
var ErrNotIsolated = errors.New("require-confinement = true contradicts isolate-workers = false")

// Check says whether the options fit each other.
func (o Options) Check() error {
	if o.Require && !o.Isolate {
		return ErrNotIsolated
	}
	return nil
}

// Args are the options as arguments of a process.
func (o Options) Args() (args []string) {
	for _, a := range []struct {
		word string
		on   bool
	}{{argIsolate, o.Isolate}, {argMemory, o.LimitMemory}, {argRequire, o.Require}} {
		if a.on {
			args = append(args, a.word)
		}
	}
	if o.OpenFiles > 0 {
		args = append(args, argFiles+strconv.Itoa(o.OpenFiles))
	}
	return args
}

// ParseArgs reads what Args made.
func ParseArgs(args []string) (o Options, err error) {
	for _, a := range args {
		if n, ok := strings.CutPrefix(a, argFiles); ok {
			if o.OpenFiles, err = strconv.Atoi(n); err != nil || o.OpenFiles <= 0 {
				return Options{}, fmt.Errorf("sandbox: '%s' is no limit of files", n)
			}
			continue
		}
		switch a {
		case argIsolate:
			o.Isolate = true
		case argMemory:
			o.LimitMemory = true
		case argRequire:
			o.Require = true
		default:
			return Options{}, fmt.Errorf("sandbox: unknown argument %q", a)
		}
	}
	return o, nil
}
