package sandbox

import (
	"errors"
	"fmt"
)

// Options are what the configuration says of confinement. Main gives them to
// its children as arguments.
type Options struct {
	Isolate     bool // isolate-workers: a worker's system call filter and Landlock
	LimitMemory bool // limit-worker-memory
	Require     bool // require-confinement: a layer that is missing is an error
}

// The words of Args.
const (
	argIsolate = "isolate"
	argMemory  = "limit-memory"
	argRequire = "require"
)

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
	return args
}

// ParseArgs reads what Args made.
func ParseArgs(args []string) (o Options, err error) {
	for _, a := range args {
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
