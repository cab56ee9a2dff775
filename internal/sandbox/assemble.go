package sandbox

import (
	"cmp"
	"slices"

	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data. Both machines that have lists are little endian.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
	x32Bit    = 0x40000000 // of numbers of amd64's third set of calls
)

// assemble makes the program: whose call it is, then a search by halves for the range
// of numbers that the call is in, then what becomes of it, at once or by its
// arguments.
//
// The length of a way through it is what counts. For each of some four hundred and
// sixty numbers the kernel runs the program once when it is installed, to remember
// which are always allowed (since 5.11): with one comparison per call that was 0.2 ms
// of every worker's start. And what is judged by its arguments, as memory and
// sockets are, is run each time.
//
// Every worker makes one and keeps what that takes, since it collects no garbage
// while its client is idle: so it is written once, in the kernel's form.
func (f *filter) assemble() []unix.SockFilter {
	leaves, bodies := f.leaves()
	head := []unix.SockFilter{
		load(offArch),
		compare(unix.BPF_JEQ, auditArch, 1, 0),
		result(f.foreign),
		load(offNumber),
		compare(unix.BPF_JGE, x32Bit, 0, 1),
		result(absent),
	}
	search := 2*len(leaves) - 1
	prog := append(make([]unix.SockFilter, 0, len(head)+search+len(bodies)), head...)
	prog = halve(prog, leaves, len(head)+search)
	return append(prog, bodies...)
}

// leaf is a range of numbers, up to the next leaf's, that all come to the same.
type leaf struct {
	first uint32
	then  verdict
	body  int32 // where what looks at the arguments begins, among the bodies; noBody: nothing does
}

const noBody = -1

// leaves are all ranges in order, and the bodies that they refer to.
func (f *filter) leaves() ([]leaf, []unix.SockFilter) {
	type named struct {
		nr   uint32
		rule int32
	}
	n, room := 0, 0
	for i := range f.rules {
		r := &f.rules[i]
		n += len(r.calls)
		if r.when != nil {
			room += len(r.calls) * (r.length() + 1)
		}
	}
	calls, bodies := make([]named, 0, n), make([]unix.SockFilter, 0, room)
	for i, r := range f.rules {
		for _, nr := range r.calls {
			calls = append(calls, named{uint32(nr), int32(i)})
		}
	}
	slices.SortFunc(calls, func(a, b named) int { return cmp.Or(cmp.Compare(a.nr, b.nr), cmp.Compare(a.rule, b.rule)) })
	all := append(make([]leaf, 0, n), leaf{0, f.otherwise, noBody})
	for len(calls) > 0 {
		nr := calls[0].nr
		l := leaf{nr, f.otherwise, noBody}
		decided := false
		for len(calls) > 0 && calls[0].nr == nr {
			if r := &f.rules[calls[0].rule]; !decided {
				decided = r.when == nil
				if decided {
					l.then = r.then
				} else if l.body == noBody {
					l.body = int32(len(bodies))
				}
				bodies = r.body(bodies)
			}
			calls = calls[1:]
		}
		if l.body != noBody {
			bodies = append(bodies, result(l.then))
		}
		all = join(join(all, l), leaf{nr + 1, f.otherwise, noBody})
	}
	return all, bodies
}

// join appends a range, to the one before if both come to the same.
func join(all []leaf, l leaf) []leaf {
	if last := len(all) - 1; all[last].first == l.first {
		all = all[:last] // of which nothing is left
	}
	if last := len(all) - 1; last >= 0 && all[last].body == noBody && l.body == noBody && all[last].then == l.then {
		return all
	}
	return append(all, l)
}

// halve appends the search for a number in these ranges. The bodies begin at a
// place of the program that is further on.
func halve(prog []unix.SockFilter, leaves []leaf, bodies int) []unix.SockFilter {
	if len(leaves) > 1 {
		half := len(leaves) / 2
		prog = append(prog, compare(unix.BPF_JGE, leaves[half].first, 2*half-1, 0))
		return halve(halve(prog, leaves[:half], bodies), leaves[half:], bodies)
	}
	l := leaves[0]
	if l.body == noBody {
		return append(prog, result(l.then))
	}
	skip := bodies + int(l.body) - len(prog) - 1
	return append(prog, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(skip)})
}

// body appends what looks at the arguments of a rule's call, if it has conditions. It
// falls through where none of them holds.
func (r *rule) body(prog []unix.SockFilter) []unix.SockFilter {
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
	return prog
}

// length is how many instructions body appends.
func (r *rule) length() (n int) {
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
