package sandbox

import (
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
// Every worker makes one, which the kernel checks, converts and compiles: so its length
// counts. All ways to a verdict share one instruction, an argument is loaded once for
// all values it is compared with, and a number by itself within a range is one
// comparison. The length of a way through it counts too: for each of some four hundred
// and sixty numbers the kernel runs the program once when it is installed, to remember
// which are always allowed (since 5.11), for which it knows these instructions only:
// loads, comparisons, AND with a constant. What is judged by its arguments, as memory
// and sockets are, is run each time.
//
// What this takes a worker keeps, since it collects no garbage while its client is
// idle: so the program is written once, in the kernel's form.
func (f *filter) assemble() []unix.SockFilter {
	p := newProgram()
	number := p.load(offNumber, p.search(clusters(f.leaves(p))))
	p.load(offArch, p.branch(unix.BPF_JEQ, auditArch, number, p.verdict(f.foreign)))
	return p.finish()
}

// call is a number, and below it the place of a rule about it: so they are sorted
// fast.
type call uint64

func (c call) number() uint32 { return uint32(c >> 32) }
func (c call) rule() uint32   { return uint32(c) }

// numbered are the rules by the numbers they are about, the first rule first.
func (f *filter) numbered() []call {
	n := 0
	for i := range f.rules {
		n += len(f.rules[i].calls)
	}
	all := make([]call, 0, n)
	for i := range f.rules {
		for _, nr := range f.rules[i].calls {
			all = append(all, call(nr)<<32|call(i))
		}
	}
	slices.Sort(all)
	return all
}

// leaf is a range of numbers, up to the next leaf's, that all come to the same.
type leaf struct {
	first uint32
	then  label
}

// leaves are all ranges in order, each another one's neighbour only if it comes to
// something else.
func (f *filter) leaves(p *program) []leaf {
	calls := f.numbered()
	all := append(make([]leaf, 0, len(calls)+2), leaf{0, p.verdict(f.otherwise)})
	for len(calls) > 0 {
		n, nr := 1, calls[0].number()
		for n < len(calls) && calls[n].number() == nr {
			n++
		}
		all = join(all, leaf{nr, f.decision(p, calls[:n])})
		all = join(all, leaf{nr + 1, p.verdict(f.otherwise)})
		calls = calls[n:]
	}
	return join(all, leaf{x32Bit, p.verdict(absent)})
}

// join appends a range, to the one before if both come to the same.
func join(all []leaf, l leaf) []leaf {
	if last := len(all) - 1; all[last].first == l.first {
		all = all[:last] // of which nothing is left
	}
	if last := len(all) - 1; last >= 0 && all[last].then == l.then {
		return all
	}
	return append(all, l)
}

// decision is what becomes of a call, with these rules about it.
func (f *filter) decision(p *program, rules []call) label {
	if len(rules) == 0 {
		return p.verdict(f.otherwise)
	}
	r := &f.rules[rules[0].rule()]
	if r.when == nil {
		return p.verdict(r.then)
	}
	return p.rule(r, f.decision(p, rules[1:]))
}

// cluster is ranges that come to the same, and between them numbers by themselves:
// its leaves are such a range, a number, a range and so on.
type cluster []leaf

// longest is how many numbers by themselves a cluster may have: they are compared one
// by one.
const longest = 2

// clusters divides the ranges, all in order.
func clusters(leaves []leaf) []cluster {
	all := make([]cluster, 0, len(leaves)/2)
	for len(leaves) > 0 {
		n := 1
		for n < 2*longest && n+1 < len(leaves) && leaves[n].first+1 == leaves[n+1].first && leaves[n+1].then == leaves[0].then {
			n += 2
		}
		all = append(all, leaves[:n])
		leaves = leaves[n:]
	}
	return all
}

// search puts the search for a number in these clusters.
func (p *program) search(all []cluster) label {
	if len(all) > 1 {
		half := len(all) / 2
		above := p.search(all[half:])
		below := p.search(all[:half])
		return p.branch(unix.BPF_JGE, all[half][0].first, above, below)
	}
	ranges := all[0]
	to := ranges[0].then
	for i := len(ranges) - 2; i > 0; i -= 2 {
		to = p.branch(unix.BPF_JEQ, ranges[i].first, ranges[i].then, to)
	}
	return to
}

// rule puts what looks at the arguments of a rule's call, which has conditions. It is
// there once for all calls of the rule that come to the same if none of them holds.
func (p *program) rule(r *rule, fails label) label {
	for _, b := range p.bodies {
		if b.rule == r && b.fails == fails {
			return b.at
		}
	}
	at := p.any(r.when, 0, p.verdict(r.then), fails)
	p.bodies = append(p.bodies, body{r, fails, at})
	return at
}

// any puts the question whether any of the matches holds, whose conditions before the
// one of that number are known to.
func (p *program) any(all []match, known int, holds, fails label) label {
	if len(all) == 0 {
		return fails
	}
	if len(all[0]) == known {
		return holds
	}
	n := alike(all, known)
	fails = p.any(all[n:], known, holds, fails)
	first, to := all[0][known], fails
	for end := n; end > 0; { // each value, the last one first: with one of them the others fail
		begin, value := end-1, all[end-1][known].value
		for begin > 0 && all[begin-1][known].value == value {
			begin--
		}
		to = p.branch(unix.BPF_JEQ, value, p.any(all[begin:end], known+1, holds, fails), to)
		end = begin
	}
	if first.mask != ^uint32(0) {
		to = p.mask(first.mask, to)
	}
	return p.load(offArgs+8*first.n, to)
}

// alike is how many of the first matches look at the same bits of the same argument,
// those with the same value one after the other.
func alike(all []match, known int) int {
	for n, m := range all {
		if len(m) == known || m[known].n != all[0][known].n || m[known].mask != all[0][known].mask {
			return n
		}
		if n > 0 && m[known] != all[n-1][known] && slices.ContainsFunc(all[:n], func(o match) bool { return o[known] == m[known] }) {
			return n
		}
	}
	return len(all)
}
