package netstack

import (
	"fmt"
	"io"
	"testing"

	"rocserv/netstack/stacktest"
)

// TestFeed: of what a host has for a client that does not read, little waits in the
// stack, far less than its send buffer holds. When the client reads, all of it
// comes; a reset ends the flow.
func TestFeed(t *testing.T) {
	const size, most = 6 << 20, 3 << 20
	want, _, err := stacktest.Checksum(io.LimitReader(stacktest.Stream(1), size))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []rigOptions{{}, {sockets: true}} {
		t.Run(fmt.Sprintf("sockets %v", o.sockets), func(t *testing.T) {
			r := newRig(t, o)
			dst := port(host4, 80)
			stalled := func() *stacktest.TCPConn {
				sent := new(counter)
				r.network.Serve(dst, func(c stacktest.Conn) {
					io.Copy(sent.writer(c), io.LimitReader(stacktest.Stream(1), size))
					c.CloseWrite()
				})
				c := r.dial(dst)
				if n := sent.settled(t); n > most && !o.sockets { // a kernel takes all of it
					t.Errorf("%d bytes taken from the host", n)
				}
				return c
			}
			c := stalled()
			if sum, n, err := stacktest.Checksum(c); err != nil || n != size || sum != want {
				t.Errorf("%d of %d bytes, %v", n, size, err)
			}
			c.Close()
			eventually(t, "the flow ends", func() bool { return r.stack.Unfinished() == 0 })
			stalled().Reset()
			eventually(t, "the flow ends", func() bool { return r.stack.Unfinished() == 0 })
		})
	}
}
