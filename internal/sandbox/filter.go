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

// Offsets in struct seccomp_data. Both machines that have lists are little endian.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
	x32Bit    = 0x40000000 // of numbers of amd64's third set of calls
)

// assemble makes the program. Each call is a block of its own, which other
// calls jump over: simple to check, and the kernel remembers for each number
// whether it is always allowed (since 5.11), so length costs nothing.
//
// Every worker makes one and keeps what that takes, since it collects no garbage
// while its client is idle: so it is written once, in the kernel's form.
func (f *filter) assemble() []unix.SockFilter {
	prog := append(make([]unix.SockFilter, 0, f.length()),
		load(offArch),
		compare(unix.BPF_JEQ, auditArch, 1, 0),
		result(f.foreign),
		load(offNumber),
		compare(unix.BPF_JGE, x32Bit, 0, 1),
		result(absent),
	)
	var body []unix.SockFilter
	for _, r := range f.rules {
		body = r.body(body[:0])
		for _, nr := range r.calls {
			prog = append(prog, compare(unix.BPF_JEQ, uint32(nr), 0, len(body)))
			prog = append(prog, body...)
		}
	}
	return append(prog, result(f.otherwise))
}

// length is how many instructions assemble makes.
func (f *filter) length() int {
	n := 7
	for _, r := range f.rules {
		n += len(r.calls) * (1 + r.length())
	}
	return n
}

// body appends what follows once a call of the rule is recognised.
func (r *rule) body(prog []unix.SockFilter) []unix.SockFilter {
	if r.when == nil {
		return append(prog, result(r.then))
	}
	for _, m := range r.when {
		left := m.length() // a condition that does not hold jumps over what is left
		for _, a := range m {
			prog = append(prog, load(offArgs+8*a.n))
			if a.mask != ^uint32(0) {
				prog = append(prog, unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: a.mask})
			}
			left -= a.length()
			prog = append(prog, compare(unix.BPF_JEQ, a.value, 0, left))
		}
		prog = append(prog, result(r.then))
	}
	return append(prog, load(offNumber)) // for the rules after it
}

// length is how many instructions body appends.
func (r *rule) length() int {
	n := 1
	for _, m := range r.when {
		n += m.length()
	}
	return n
}

// length is how many instructions the conditions are, with what they lead to.
func (m match) length() int {
	n := 1
	for _, a := range m {
		n += a.length()
	}
	return n
}

func (a arg) length() int {
	if a.mask != ^uint32(0) {
		return 3
	}
	return 2
}

func load(off int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: uint32(off)}
}

func result(v verdict) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(v)}
}

// compare compares what is loaded and jumps over so many instructions if the
// condition holds, over so many others if it does not.
func compare(condition uint16, value uint32, holds, fails int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | condition | unix.BPF_K, Jt: uint8(holds), Jf: uint8(fails), K: value}
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
