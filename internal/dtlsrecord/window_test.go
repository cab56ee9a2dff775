package dtlsrecord

import (
	"math/rand/v2"
	"testing"
)

// oracle is the window told in the words of RFC 6347 section 4.1.2.6.
type oracle struct {
	seen map[uint64]bool
	top  uint64 // newest seen
	any  bool
}

func (o *oracle) fresh(seq uint64) bool {
	if !o.any || seq > o.top {
		return true
	}
	return o.top-seq < WindowSize && !o.seen[seq]
}

func (o *oracle) mark(seq uint64) {
	o.seen[seq] = true
	if !o.any || seq > o.top {
		o.top, o.any = seq, true
	}
}

// offer asks both and marks what is fresh.
func offer(t *testing.T, w *window, o *oracle, seq uint64) {
	t.Helper()
	got, want := w.fresh(seq), o.fresh(seq)
	if got != want {
		t.Fatalf("fresh(%d) = %v, oracle says %v (newest %d)", seq, got, want, o.top)
	}
	if got {
		w.mark(seq)
		o.mark(seq)
	}
}

func TestWindowEdges(t *testing.T) {
	tests := []struct {
		name string
		seen []uint64
		seq  uint64
		want bool
	}{
		{"first", nil, 0, true},
		{"first, far", nil, MaxSequence, true},
		{"same", []uint64{0}, 0, false},
		{"next", []uint64{0}, 1, true},
		{"oldest inside", []uint64{WindowSize - 1}, 0, true},
		{"just outside", []uint64{WindowSize}, 0, false},
		{"seen, then slid", []uint64{5, WindowSize}, 5, false},
		{"whole ring ahead", []uint64{7, 7 + wordBits*ringWords}, 8 + wordBits*ringWords - WindowSize, true},
		{"ring's old bit does not shine through", []uint64{70, 70 + wordBits*ringWords + 64}, 70 + wordBits*ringWords, true},
		{"last number", []uint64{MaxSequence - 1}, MaxSequence, true},
		{"last number again", []uint64{MaxSequence}, MaxSequence, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var w window
			for _, s := range tt.seen {
				w.mark(s)
			}
			if got := w.fresh(tt.seq); got != tt.want {
				t.Errorf("fresh(%d) after %v = %v, want %v", tt.seq, tt.seen, got, tt.want)
			}
		})
	}
}

func TestWindowAgainstOracle(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		var w window
		o := oracle{seen: map[uint64]bool{}}
		base := r.Uint64N(MaxSequence / 2)
		for range 2000 {
			switch r.IntN(20) {
			case 0:
				base += r.Uint64N(5000) // a burst was lost
			case 1:
				base += r.Uint64N(100)
			}
			base++
			back := r.Uint64N(1 + r.Uint64N(2*WindowSize))
			offer(t, &w, &o, base-min(base, back))
		}
	}
}

func FuzzWindow(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 0, 4, 255, 255})
	f.Add([]byte{0, 8, 0, 1, 0, 8, 0, 9, 4, 0})
	f.Fuzz(func(t *testing.T, steps []byte) {
		var w window
		o := oracle{seen: map[uint64]bool{}}
		at := int64(1 << 20)
		for ; len(steps) >= 2; steps = steps[2:] {
			at += int64(int16(uint16(steps[0])<<8|uint16(steps[1]))) / 4
			offer(t, &w, &o, uint64(max(at, 0)))
		}
	})
}
