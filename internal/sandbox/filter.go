package sandbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// verdict is what a filter returns to the kernel (seccomp(2)).
type verdict uint32

const (
	allow  = verdict(unix.SECCOMP_RET_ALLOW)
	kill   = verdict(unix.SECCOMP_RET_KILL_PROCESS)
	denied = verdict(unix.SECCOMP_RET_ERRNO) | verdict(unix.EPERM)
	absent = verdict(unix.SECCOMP_RET_ERRNO) | verdict(unix.ENOSYS) // callers have another way
	// unsupported is what a kernel says that has no such sockets.
	unsupported = verdict(unix.SECCOMP_RET_ERRNO) | verdict(unix.EAFNOSUPPORT)
)

// rule is a line of a filter: system calls, perhaps only with certain
// arguments, and what becomes of them. The first rule that fits decides.
type rule struct {
	why   string
	then  verdict
	calls []uintptr
	when  []match // any of them; none: always
}

// match is conditions that must all hold.
type match []arg

// arg is a condition on the low half of an argument: all that are looked at
// are of 32 bits or have their flags there, and the kernel ignores the rest.
type arg struct {
	n           int
	mask, value uint32
}

func is(n int, value uint32) arg           { return arg{n, ^uint32(0), value} }
func has(n int, bit uint32) arg            { return arg{n, bit, bit} }
func lacks(n int, bits uint32) arg         { return arg{n, bits, 0} }
func masked(n int, mask, value uint32) arg { return arg{n, mask, value} }

// filter is a profile's system calls.
type filter struct {
	rules     []rule
	otherwise verdict // for calls without a rule
	foreign   verdict // for calls by another machine's numbers: a 32-bit program's
}

// FilterName names a role's system call filter: equal filters have equal names.
// It is empty where there is none.
func FilterName(r Role) string { return profiles[r].calls().name() }

func (f *filter) name() string {
	if auditArch == 0 {
		return ""
	}
	h := sha256.New()
	binary.Write(h, binary.LittleEndian, f.assemble())
	return hex.EncodeToString(h.Sum(nil))
}

// inForce says whether the filter is on this process already: its name is among
// those that who started it gives, and the kernel knows of one.
func (f *filter) inForce(names string) bool {
	if names == "" {
		return false // as for every worker: the name costs as much as the filter
	}
	name := f.name()
	return name != "" && slices.Contains(strings.Fields(names), name) && filtered()
}

// filtered says whether the kernel has a filter on this process, proc(5).
func filtered() bool {
	b, err := os.ReadFile("/proc/self/status")
	return err == nil && bytes.Contains(b, []byte("\nSeccomp:\t2\n"))
}

// install puts the filter on all threads of the process, for good. The process
// must have no_new_privs.
func (f *filter) install() error {
	if auditArch == 0 {
		return errors.New("no list of system calls for this kind of machine")
	}
	code := f.assemble()
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	// Without TSYNC_ESRCH (Linux 5.7) a thread that cannot take the filter is
	// a success with that thread's number.
	flags := uintptr(unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH)
	thread, errno := seccomp(flags, &prog)
	if errno == unix.EINVAL {
		thread, errno = seccomp(unix.SECCOMP_FILTER_FLAG_TSYNC, &prog)
	}
	if errno != 0 {
		return errno
	}
	if thread != 0 {
		return fmt.Errorf("thread %d cannot take the filter", thread)
	}
	return nil
}

func seccomp(flags uintptr, prog *unix.SockFprog) (thread uintptr, errno unix.Errno) {
	thread, _, errno = unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(prog)))
	return thread, errno
}
