package cstp

import (
	"slices"
	"testing"
	"time"
)

// TestHold: what comes in spans of a tenth of a second, in MB a second, while the
// window is the kernel's and while it is held, and what is done with the window.
func TestHold(t *testing.T) {
	constant := func(rate float64) func(int) float64 { return func(int) float64 { return rate } }
	for _, tt := range []struct {
		name       string
		free, held func(span int) float64
		far        bool
		spans      int
		narrowed   []int // the spans at whose end it is
		widened    []int
	}{
		{"it helps", constant(150), constant(200), false, 100, []int{2}, nil},
		{"and is looked at anew after ten seconds", constant(150), constant(200), false, 210, []int{2, 106, 210}, []int{104, 208}},
		{"it does not help", constant(150), constant(150), false, 210, []int{2, 104, 206}, []int{4, 106, 208}},
		{"it harms", constant(118), constant(100), false, 100, []int{2}, []int{4}},
		{"the client is far", constant(150), constant(200), true, 100, nil, nil},
		{"little comes", constant(20), constant(200), false, 100, nil, nil},
		{"it grows at first", func(i int) float64 { return min(float64(i)*float64(i)*10, 150) }, constant(200), false, 50, []int{5}, nil},
		{"the upload ends", constant(150), func(i int) float64 { return 200 * float64(min(max(40-i, 0), 1)) }, false, 45, []int{2, 42}, []int{40, 44}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Unix(1000, 0)
			h := hold{since: now}
			var narrowed, widened []int
			asked := 0
			for i := 1; i <= tt.spans; i++ {
				rate := tt.free
				if h.small() {
					rate = tt.held
				}
				for range 10 {
					now = now.Add(holdSpan / 10)
					switch h.add(int(rate(i)*1e6*holdSpan.Seconds()/10), now, func() bool { asked++; return !tt.far }) {
					case narrow:
						narrowed = append(narrowed, i)
					case widen:
						widened = append(widened, i)
					}
				}
			}
			if !slices.Equal(narrowed, tt.narrowed) || !slices.Equal(widened, tt.widened) {
				t.Errorf("narrowed at %v, widened at %v; want %v, %v", narrowed, widened, tt.narrowed, tt.widened)
			}
			if tt.far != (asked > len(narrowed)) {
				t.Errorf("asked %d times whether the client is near, narrowed %d times", asked, len(narrowed))
			}
		})
	}
}

// TestHoldPause: an upload that pauses is not held when it goes on, and a rate
// across the pause is no rate.
func TestHoldPause(t *testing.T) {
	h := hold{state: held, base: 150e6, since: time.Unix(1000, 0), until: time.Unix(1010, 0)}
	near := func() bool { t.Error("asked"); return true }
	if m := h.add(100, time.Unix(1005, 0), near); m != widen || h.small() {
		t.Errorf("after a pause: %v, small %v", m, h.small())
	}
	if m := h.add(20e6, time.Unix(1005, 1e8), near); m != stay {
		t.Errorf("in the first span after it: %v", m)
	}
}
