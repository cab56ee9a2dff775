package sandbox

import (
	"math"
	"slices"

	"golang.org/x/sys/unix"
)

// program is a classic BPF program that is written from its end, since jumps go
// forward only: so what an instruction leads to is there before it is.
type program struct {
	code     []unix.SockFilter // the last instruction first
	verdicts []verdictAt
	bodies   []body
}

// label is a place in a program, counted from its end.
type label int32

type verdictAt struct {
	verdict verdict
	at      label
}

// body is where the conditions of a rule are looked at.
type body struct {
	rule      *rule
	fails, at label
}

// usual is more than a program of a worker's has instructions.
const usual = 160

func newProgram() *program { return &program{code: make([]unix.SockFilter, 0, usual)} }

// finish returns the program as the kernel takes it.
func (p *program) finish() []unix.SockFilter {
	slices.Reverse(p.code)
	return p.code
}

// put puts an instruction before all others.
func (p *program) put(i unix.SockFilter) label {
	p.code = append(p.code, i)
	return label(len(p.code))
}

// verdict is where the program ends with a verdict.
func (p *program) verdict(v verdict) label {
	for _, known := range p.verdicts {
		if known.verdict == v {
			return known.at
		}
	}
	at := p.put(unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(v)})
	p.verdicts = append(p.verdicts, verdictAt{v, at})
	return at
}

// load puts a load of what is at that offset, with which the program goes on.
func (p *program) load(off int, next label) label {
	p.lead(next)
	return p.put(unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: uint32(off)})
}

// mask puts what leaves these bits of what is loaded.
func (p *program) mask(bits uint32, next label) label {
	p.lead(next)
	return p.put(unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: bits})
}

// lead has an instruction that is put now go on at that place.
func (p *program) lead(to label) {
	if p.over(to) > 0 {
		p.jump(to)
	}
}

func (p *program) jump(to label) label {
	return p.put(unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(p.over(to))})
}

// branch compares what is loaded and goes on where the condition leads.
func (p *program) branch(condition uint16, value uint32, holds, fails label) label {
	holds = p.near(holds, 1) // for there may come a jump for the other
	fails = p.near(fails, 0)
	return p.put(unix.SockFilter{
		Code: unix.BPF_JMP | condition | unix.BPF_K, Jt: uint8(p.over(holds)), Jf: uint8(p.over(fails)), K: value,
	})
}

// over is how many instructions one put now would jump over to get there.
func (p *program) over(to label) int { return len(p.code) - int(to) }

// near is a place that a comparison reaches which is put when so many more
// instructions are there: this one, or else that of a jump to it.
func (p *program) near(to label, more int) label {
	if p.over(to)+more <= math.MaxUint8 {
		return to
	}
	return p.jump(to)
}
