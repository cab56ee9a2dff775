package netstack

import (
	"io"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"rocserv/netstack/recovery"
)

// feed gives the endpoint of a flow what the client is to get, for the goroutine
// that moves bytes down.
type feed struct {
	*flow
	entry   waiter.Entry  // in flow.queue
	ready   chan struct{} // capacity 1: the endpoint may want more, or has ended
	wake    func()        // fills ready, bound once
	name    recovery.Flow
	written uint32 // bytes the endpoint has taken, modulo 2³²
}

func newFeed(f *flow) *feed {
	d := &feed{flow: f, name: recoveryName(f.Flow)}
	d.entry, d.ready = waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventHUp | waiter.EventErr)
	d.wake = func() {
		select {
		case d.ready <- struct{}{}:
		default:
		}
	}
	return d
}

// full says whether the endpoint wants nothing for now, because its buffer is full
// or because it has plenty that has not been sent. Then ready will tell. An endpoint
// that has ended is not full: writing to it is how one learns of the end.
func (d *feed) full() bool {
	if d.ep.Readiness(waiter.WritableEvents) == 0 {
		return true
	}
	return d.stack.repair.path.Ahead(d.name, d.written, d.wake) && !d.dead()
}

// dead says whether the endpoint has ended.
func (f *flow) dead() bool {
	switch tcp.EndpointState(f.ep.State()) {
	case tcp.StateClose, tcp.StateError:
		return true
	}
	return false
}

// send gives p to the endpoint and waits until it has taken all of it.
func (d *feed) send(p *payload) error {
	for {
		blocked, err := d.trySend(p)
		if err != nil || !blocked {
			return err
		}
		<-d.ready
	}
}

// trySend gives the endpoint as much of p as it takes now.
func (d *feed) trySend(p *payload) (blocked bool, err error) {
	for len(p.b) > 0 {
		p.off = 0
		n, terr := d.ep.Write(p, tcpip.WriteOptions{})
		// What counts is n, not what was read of p: the endpoint throws away
		// what exceeds a send buffer that shrank meanwhile.
		p.b = p.b[n:]
		d.written += uint32(n)
		if terr == nil {
			continue
		}
		if _, ok := terr.(*tcpip.ErrWouldBlock); ok {
			return true, nil
		}
		return false, errClientReset
	}
	return false, nil
}

// payload is a tcpip.Payloader over bytes. gVisor probes it with Read(nil):
// only an empty one may answer io.EOF, or Write spins.
type payload struct {
	b   []byte
	off int
}

func (p *payload) Len() int { return len(p.b) - p.off }

func (p *payload) Read(b []byte) (int, error) {
	if p.off == len(p.b) {
		return 0, io.EOF
	}
	n := copy(b, p.b[p.off:])
	p.off += n
	return n, nil
}
