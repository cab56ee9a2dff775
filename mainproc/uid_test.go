package mainproc

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// asUID runs f on a thread of that effective uid, which ends with its
// goroutine. The raw call, unlike syscall.Setresuid, changes one thread only.
func asUID(uid int, f func() error) error {
	runtime.LockOSThread()
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
		return errno
	}
	return f()
}
