package sandbox

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Role names a profile.
type Role string

const (
	Main   Role = "main"
	SecMod Role = "secmod"
	Worker Role = "worker"
	Helper Role = "helper"
	// Modules is a helper that loads libraries in C while it runs (PAM's).
	Modules Role = "modules"
)

// profile is what Prepare and Confine do for a role.
type profile struct {
	comm    string      // what ps and top show; exec of /proc/self/exe would show "exe"
	limits  []limit     // beside a core size of 0, which holds for all
	oom     int         // oom_score_adj; 0: as inherited
	ignored []os.Signal // beside SIGPIPE

	calls func() *filter // the system calls
	files bool           // Landlock: only the files that Confine is told, signals and abstract sockets of its own
	data  bool           // limit-worker-memory is about it
	flows bool           // limit-worker-files is about it
}

type limit struct {
	name     string
	resource int
	value    uint64 // bytes or pieces; a lower hard limit wins
}

// fromOutside is what a terminal or "kill -- -PID" sends to the whole process
// group. The children are ended by main, in order, so that what happens first
// on a stop is not a matter of luck.
var fromOutside = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2}

var profiles = map[Role]profile{
	Main: {
		comm:  "rocserv-main",
		calls: mainFilter,
		// No Landlock: scripts would be in it too, and what they need nobody knows.
	},
	SecMod: {
		comm: "rocserv-secmod",
		limits: []limit{
			{"msgqueue", unix.RLIMIT_MSGQUEUE, 0}, // uses none
		},
		ignored: fromOutside,
		calls:   secModFilter,
		files:   true,
	},
	Helper: {
		comm: "rocserv-helper",
		limits: []limit{
			{"memlock", unix.RLIMIT_MEMLOCK, 0},   // locks nothing
			{"msgqueue", unix.RLIMIT_MSGQUEUE, 0}, // uses none
		},
		ignored: fromOutside,
		calls:   helperFilter,
		files:   true,
	},
	Modules: {
		comm: "rocserv-pam",
		limits: []limit{
			{"msgqueue", unix.RLIMIT_MSGQUEUE, 0}, // uses none
		},
		ignored: fromOutside,
		calls:   modulesFilter,
		files:   true,
	},
	Worker: {
		comm: "rocserv-worker",
		limits: []limit{
			{"memlock", unix.RLIMIT_MEMLOCK, 0},   // locks nothing
			{"msgqueue", unix.RLIMIT_MSGQUEUE, 0}, // uses none
		},
		oom:     1000, // a client's process goes before the server
		ignored: fromOutside,
		calls:   workerFilter,
		files:   true,
		data:    true,
		flows:   true,
	},
}
