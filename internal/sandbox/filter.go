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

	"golang.org/x/net/bpf"
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
func (f *filter) assemble() []bpf.Instruction {
	prog := []bpf.Instruction{
		load(offArch),
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: auditArch, SkipTrue: 1},
		bpf.RetConstant{Val: uint32(f.foreign)},
		load(offNumber),
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: x32Bit, SkipFalse: 1},
		bpf.RetConstant{Val: uint32(absent)},
	}
	for _, r := range f.rules {
		body := r.body()
		for _, nr := range r.calls {
			prog = append(prog, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(nr), SkipFalse: uint8(len(body))})
			prog = append(prog, body...)
		}
	}
	return append(prog, bpf.RetConstant{Val: uint32(f.otherwise)})
}

// body is what follows once a call of the rule is recognised.
func (r *rule) body() []bpf.Instruction {
	decide := bpf.RetConstant{Val: uint32(r.then)}
	if r.when == nil {
		return []bpf.Instruction{decide}
	}
	var all []bpf.Instruction
	for _, m := range r.when {
		// From the end: a condition that does not hold jumps over what is there.
		block := []bpf.Instruction{decide}
		for _, a := range slices.Backward(m) {
			test := []bpf.Instruction{load(offArgs + 8*a.n)}
			if a.mask != ^uint32(0) {
				test = append(test, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: a.mask})
			}
			test = append(test, bpf.JumpIf{Cond: bpf.JumpEqual, Val: a.value, SkipFalse: uint8(len(block))})
			block = append(test, block...)
		}
		all = append(all, block...)
	}
	return append(all, load(offNumber)) // for the rules after it
}

func load(off int) bpf.Instruction { return bpf.LoadAbsolute{Off: uint32(off), Size: 4} }

// FilterName names a role's system call filter: equal filters have equal names.
// It is empty where there is none.
func FilterName(r Role) string { return profiles[r].calls().name() }

func (f *filter) name() string {
	raw, err := bpf.Assemble(f.assemble())
	if auditArch == 0 || err != nil {
		return ""
	}
	h := sha256.New()
	for _, i := range raw {
		binary.Write(h, binary.LittleEndian, i)
	}
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
	raw, err := bpf.Assemble(f.assemble())
	if err != nil {
		return err
	}
	code := make([]unix.SockFilter, 0, len(raw))
	for _, i := range raw {
		code = append(code, unix.SockFilter{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}
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
