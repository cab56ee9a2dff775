package datagram

import (
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/faketime"

	"rocserv/egress"
	"rocserv/netstack/shape"
)

// What is beyond the rate goes nowhere, is counted, and opens no socket; later
// packets pass again. Both directions have a rate of their own.
func TestRates(t *testing.T) {
	for _, to := range []netip.AddrPort{web4, web6} {
		clock := faketime.NewManualClock()
		var up, down *shape.Limiter
		g := newRig(t, func(c *Config) {
			up, down = shape.New(100_000, clock), shape.New(10_000, clock)
			c.Up, c.Down = up, down
		})
		payload := string(make([]byte, 1000))
		flood := func() (sent int) {
			for range 100 {
				g.inject(udp(5000, to, payload))
			}
			for _, batch := range g.net.sock(t, 0).sent {
				sent += len(batch)
			}
			g.net.sock(t, 0).sent = nil
			return sent
		}
		first := flood()
		if first < 10 || first > 20 || up.Dropped() != uint64(100-first) {
			t.Errorf("%v: %d packets sent of what is a second's worth, %d counted as dropped", to, first, up.Dropped())
		}
		g.inject(udp(5001, to, payload))
		if n := g.net.opened(); n != 1 {
			t.Errorf("%v: %d sockets for what was dropped", to, n)
		}
		clock.Advance(time.Second)
		if again := flood(); again < first {
			t.Errorf("%v: %d packets a second later", to, again)
		}
		var answers []egress.Message
		for range 50 {
			answers = append(answers, msg(to, payload))
		}
		g.net.sock(t, 0).receive(answers...)
		got := len(g.sink.packets())
		if got < 1 || got > 10 || down.Dropped() != uint64(50-got) {
			t.Errorf("%v: %d answers came, %d counted as dropped", to, got, down.Dropped())
		}
		if st := g.Stats(); st.Down.Packets != uint64(got) {
			t.Errorf("%v: counted %d answers, not %d", to, st.Down.Packets, got)
		}
	}
}
