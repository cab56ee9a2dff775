package sandbox

import (
	"errors"
	"fmt"
)

var errOff = errors.New("isolate-workers = false")

// Confine is the second stage: Landlock, then the system call filter. files
// are what the process opens from now on; a worker has none. The error is
// about a missing layer where the options require all, or about a process
// that is in an unknown state and must not go on.
func Confine(r Role, o Options, files Files) (Report, error) {
	p := profiles[r]
	var rep Report
	if r == Worker && !o.Isolate {
		rep.add("Landlock", errOff)
		rep.add("system call filter", errOff)
		return rep, nil
	}
	if p.files {
		rep.add(files.restrict())
	}
	f := p.calls()
	var err error
	if !f.inForce(o.InForce) {
		err = f.install() // one more of the same would change nothing and stay for good
	}
	rep.add("system call filter", err)
	if o.Require {
		if err := rep.Err(); err != nil {
			return rep, fmt.Errorf("sandbox: %w", err)
		}
	}
	return rep, nil
}
