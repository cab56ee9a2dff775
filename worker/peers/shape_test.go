package peers

import (
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/faketime"

	"rocserv/netstack/shape"
)

// Packets between clients keep to the rate of who sends and of who receives.
func TestRates(t *testing.T) {
	for _, who := range []string{"sender", "receiver"} {
		fake := faketime.NewManualClock()
		l := shape.New(10_000, fake)
		var tuneA, tuneB func(*Config)
		if who == "sender" {
			tuneA = func(c *Config) { c.Up = l }
		} else {
			tuneB = func(c *Config) { c.Down = l }
		}
		_, a, b := couple(t, tuneA, tuneB)
		const flood = 30
		for range flood {
			a.send(udp(at(anna4, 1), at(ben4, 2), string(make([]byte, 1000))))
		}
		came := func() int {
			b.mu.Lock()
			defer b.mu.Unlock()
			return len(b.got)
		}
		for deadline := time.Now().Add(10 * time.Second); came()+int(l.Dropped()) < flood; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d packets came, %d dropped, of %d", who, came(), l.Dropped(), flood)
			}
		}
		if n := came(); n < 1 || n > 10 {
			t.Errorf("%s: %d packets came of what is a second's worth", who, n)
		}
		fake.Advance(time.Second)
		b.mu.Lock()
		b.got = nil
		b.mu.Unlock()
		a.send(udp(at(anna4, 1), at(ben4, 2), "later"))
		b.arrives(at(anna4, 1), at(ben4, 2), "later")
	}
}
