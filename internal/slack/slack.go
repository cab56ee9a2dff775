package slack

import (
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	usual   = 50 * time.Microsecond // as the kernel gives it to the first process
	relaxed = time.Millisecond      // more brings nothing more
)

// restored says that every thread has the usual slack.
var restored atomic.Bool

// Relax gives every thread of this process much slack, and what it starts from now on.
// The error is syscall.ENOTSUP in a program with cgo, or the kernel's.
func Relax() error {
	restored.Store(false)
	return setAll(relaxed)
}

// Restore gives every thread the usual slack again, and does nothing if it has been called
// since. It sends each a signal, with which the kernel writes the thread's registers to
// its signal stack: what a secret was moved through lately is in memory then. The errors
// are those of Relax.
func Restore() error {
	if restored.Swap(true) {
		return nil
	}
	return setAll(usual)
}

func setAll(d time.Duration) error {
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, uintptr(d), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// Lend gives the calling thread alone the usual slack, for what it starts, until back is
// called. The goroutine must be locked to it.
func Lend() (back func()) {
	before := get()
	set(usual)
	return func() { set(before) }
}

// get and set are about the calling thread. Both fail on no kernel since 2.6.28.
func get() time.Duration {
	ns, _ := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	return time.Duration(ns)
}

func set(d time.Duration) { unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(d), 0, 0, 0) }
