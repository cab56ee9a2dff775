package sandbox

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// judge is what the rules say of a call of this machine's, read as they stand: the
// first one that fits decides.
func (f *filter) judge(nr uint32, args [6]uint64) verdict {
	if nr >= x32Bit {
		return absent
	}
	for _, r := range f.rules {
		fits := slices.ContainsFunc(r.when, func(m match) bool {
			return !slices.ContainsFunc(m, func(a arg) bool { return uint32(args[a.n])&a.mask != a.value })
		})
		if slices.Contains(r.calls, uintptr(nr)) && (r.when == nil || fits) {
			return r.then
		}
	}
	return f.otherwise
}

// arguments are sets of them for which each condition of the filter holds, and none
// does, and those nearby.
func (f *filter) arguments(random *rand.Rand) (all [][6]uint64) {
	values := [6][]uint32{}
	for i := range values {
		values[i] = []uint32{0, ^uint32(0), random.Uint32()}
	}
	for _, r := range f.rules {
		for _, m := range r.when {
			var args [6]uint64
			for _, a := range m {
				values[a.n] = append(values[a.n], a.value, a.value+1, ^a.value, a.mask)
				args[a.n] |= uint64(a.value)
			}
			all = append(all, args)
		}
	}
	for range 300 {
		var args [6]uint64
		for i, v := range values {
			args[i] = uint64(v[random.IntN(len(v))]) | uint64(random.IntN(2))<<(32+random.IntN(32))
		}
		all = append(all, args)
	}
	return all
}

// TestAssembled: a program says of every number, with whatever arguments, what its
// rules say.
func TestAssembled(t *testing.T) {
	if auditArch == 0 {
		t.Skip("no list for this machine")
	}
	random := rand.New(rand.NewPCG(1, 2))
	for role, p := range profiles {
		said := p.calls().check(t, string(role), 600, random)
		if len(said) < 3 || said[allow] == 0 {
			t.Errorf("%s: verdicts %v: the test sees little", role, said)
		}
	}
}

// check compares what the program says with what the rules say, of that many numbers
// and those where x32 begins, of this machine and another.
func (f *filter) check(t *testing.T, name string, most uint32, random *rand.Rand) (said map[verdict]int) {
	t.Helper()
	vm, err := bpf.NewVM(instructions(f))
	if err != nil {
		t.Fatal(name, err)
	}
	numbers := []uint32{x32Bit - 1, x32Bit, x32Bit + 1, ^uint32(0)}
	for nr := range most {
		numbers = append(numbers, nr)
	}
	said = map[verdict]int{}
	arguments := f.arguments(random)
	for _, nr := range numbers {
		for i, args := range arguments {
			arch, want := uint32(auditArch), f.judge(nr, args)
			if i == 0 {
				arch, want = auditArch^1, f.foreign
			}
			got, err := vm.Run(seccompData(arch, uintptr(nr), args[:]...))
			if err != nil {
				t.Fatal(name, err)
			}
			if said[want]++; verdict(uint32(got)) != want {
				t.Fatalf("%s: call %d of machine %#x with %#x: %#x, want %#x", name, nr, arch, args, got, want)
			}
		}
	}
	return said
}

// TestAssembledAny: so it is with whatever rules, and with so many that no comparison
// reaches the verdicts.
func TestAssembledAny(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	nothing := &filter{otherwise: absent, foreign: allow, rules: []rule{{then: kill, calls: []uintptr{5}, when: []match{}}}}
	nothing.check(t, "filter without a condition that holds", 130, random)
	jumps := 0
	for i := range 60 {
		f := anyFilter(random, 1+i*i%23)
		f.check(t, fmt.Sprintf("filter %d", i), 130, random)
		for _, i := range f.assemble() {
			if i.Code == unix.BPF_JMP|unix.BPF_JA {
				jumps++
			}
		}
	}
	if jumps == 0 {
		t.Error("no filter was long")
	}
}

// anyFilter has so many rules, about numbers up to 128.
func anyFilter(random *rand.Rand, rules int) *filter {
	verdicts := []verdict{allow, denied, absent, kill}
	one := func() verdict { return verdicts[random.IntN(len(verdicts))] }
	masks := []uint32{^uint32(0), 0xf, 1 << 31}
	f := &filter{otherwise: one(), foreign: one()}
	for range rules {
		r := rule{then: one()}
		for range random.IntN(12) {
			r.calls = append(r.calls, uintptr(random.IntN(128)))
		}
		for range random.IntN(3) * random.IntN(12) {
			var m match
			for range random.IntN(4) {
				mask := masks[random.IntN(len(masks))]
				m = append(m, arg{random.IntN(3), mask, random.Uint32N(3) & mask})
			}
			r.when = append(r.when, m)
		}
		f.rules = append(f.rules, r)
	}
	return f
}

// TestShortWays: no call is compared with all others. The kernel goes each of these
// ways when a filter is installed, in every worker.
func TestShortWays(t *testing.T) {
	if auditArch == 0 {
		t.Skip("no list for this machine")
	}
	const most = 3 + 6 + 2 + 1 + 1 // whose call it is; halves of up to 64 clusters; numbers by themselves; a jump; the verdict
	for role, p := range profiles {
		prog := p.calls().assemble()
		for nr := range uint32(600) {
			if n := steps(prog, nr); n > most {
				t.Errorf("%s: %d instructions for call %d", role, n, nr)
			}
		}
	}
}

// steps is how many instructions there are until a verdict, or until something looks
// at the arguments, which few calls have.
func steps(prog []unix.SockFilter, nr uint32) int {
	loaded := uint32(auditArch)
	for n, at := 1, 0; ; n, at = n+1, at+1 {
		i := prog[at]
		switch d := (bpf.RawInstruction{Op: i.Code, Jt: i.Jt, Jf: i.Jf, K: i.K}).Disassemble().(type) {
		case bpf.RetConstant:
			return n
		case bpf.LoadAbsolute:
			if d.Off >= offArgs {
				return n
			}
			if d.Off == offNumber {
				loaded = nr
			}
		case bpf.Jump:
			at += int(d.Skip)
		case bpf.JumpIf:
			if d.Cond == bpf.JumpEqual && loaded == d.Val || d.Cond == bpf.JumpGreaterOrEqual && loaded >= d.Val {
				at += int(d.SkipTrue)
			} else {
				at += int(d.SkipFalse)
			}
		}
	}
}
