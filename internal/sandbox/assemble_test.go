package sandbox

import (
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/net/bpf"
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
	numbers := []uint32{x32Bit - 1, x32Bit, x32Bit + 1, ^uint32(0)}
	for nr := range uint32(600) {
		numbers = append(numbers, nr)
	}
	for role, p := range profiles {
		f := p.calls()
		vm, err := bpf.NewVM(instructions(f))
		if err != nil {
			t.Fatal(err)
		}
		said := map[verdict]int{}
		arguments := f.arguments(random)
		for _, nr := range numbers {
			for _, args := range arguments {
				got, err := vm.Run(seccompData(auditArch, uintptr(nr), args[:]...))
				if err != nil {
					t.Fatal(err)
				}
				want := f.judge(nr, args)
				if said[want]++; verdict(uint32(got)) != want {
					t.Fatalf("%s: call %d with %#x: %#x, want %#x", role, nr, args, got, want)
				}
			}
		}
		if len(said) < 3 || said[allow] == 0 {
			t.Errorf("%s: verdicts %v: the test sees little", role, said)
		}
	}
}

// TestShortWays: no call is compared with all others. The kernel goes each of these
// ways when a filter is installed, in every worker.
func TestShortWays(t *testing.T) {
	if auditArch == 0 {
		t.Skip("no list for this machine")
	}
	const most = 6 + 9 + 1 // whose call it is; halves of up to 512 ranges; the verdict
	for role, p := range profiles {
		prog := p.calls().assemble()
		for nr := range uint32(600) {
			n, at := 0, 0
			for done := false; !done; n++ {
				i := prog[at]
				at++
				switch d := (bpf.RawInstruction{Op: i.Code, Jt: i.Jt, Jf: i.Jf, K: i.K}).Disassemble().(type) {
				case bpf.RetConstant:
					done = true
				case bpf.Jump: // to what looks at the arguments, which few calls have
					done = true
				case bpf.JumpIf:
					holds := at == 2 || d.Cond == bpf.JumpGreaterOrEqual && nr >= d.Val || d.Cond == bpf.JumpLessThan && nr < d.Val
					if holds {
						at += int(d.SkipTrue)
					} else {
						at += int(d.SkipFalse)
					}
				}
			}
			if n > most {
				t.Errorf("%s: %d instructions for call %d", role, n, nr)
			}
		}
	}
}
