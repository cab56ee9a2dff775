package mainproc

import "slices"

// role is a row of the table of processes that main starts. Descriptors 0 and
// 1 are /dev/null, 2 is a pipe to main's log, in every role but a script's,
// whose output is the log.
type role struct {
	name string   // in the log; argv[0] is rocserv-<name>
	arg  string   // argv[1], which cmd dispatches on
	env  []string // the whole environment
	exe  string   // the program; empty: procs.exe
	fds  []string // what is at 3 and 4, for the reader
	// vital: its end is the server's end. The end of another is the end of
	// one client, and the pool starts the next one.
	vital bool
}

var (
	roleSecMod = &role{
		name:  "secmod",
		arg:   "__secmod",
		fds:   []string{"channel to main"},
		vital: true,
	}
	// Sec-mod asks for them: helpers.go. What follows the role is the method.
	roleHelper = &role{
		name: "helper",
		arg:  "__helper",
		fds:  []string{"channel to sec-mod"},
	}
	// One client keeps one processor busy at most; a second P costs a worker
	// 0.2 MB (measured). When to collect garbage a worker says itself. What it does
	// without of the processor: roles_amd64.go.
	roleWorker = &role{
		name: "worker",
		arg:  "__worker",
		env:  slices.Concat([]string{"GOMAXPROCS=1", "GOGC=off"}, without),
		fds:  []string{"channel to main", "channel to sec-mod"},
	}
	// Programs of the operator: hooks.go. Program and environment are theirs.
	roleScript = &role{name: "script"}
)
