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
)

// profile is what Prepare does for a role.
type profile struct {
	comm    string      // what ps and top show; exec of /proc/self/exe would show "exe"
	limits  []limit     // beside a core size of 0, which holds for all
	oom     int         // oom_score_adj; 0: as inherited
	ignored []os.Signal // beside SIGPIPE
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
		comm: "rocserv-main",
	},
	SecMod: {
		comm: "rocserv-secmod",
		limits: []limit{
			{"msgqueue", unix.RLIMIT_MSGQUEUE, 0}, // uses none
		},
		ignored: fromOutside,
	},
	Worker: {
		comm: "rocserv-worker",
		limits: []limit{
			{"nofile", unix.RLIMIT_NOFILE, 4096},  // a socket per flow; the flow limits are below it
			{"data", unix.RLIMIT_DATA, 512 << 20}, // one client cannot take the machine's memory
			{"memlock", unix.RLIMIT_MEMLOCK, 0},   // locks nothing
			{"msgqueue", unix.RLIMIT_MSGQUEUE, 0}, // uses none
		},
		oom:     1000, // a client's process goes before the server
		ignored: fromOutside,
	},
}
