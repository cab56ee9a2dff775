package netstack

import (
	"errors"
	"io"
	"sync/atomic"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// errClientReset ends a direction, as the errors of the network's socket do.
var errClientReset = errors.New("netstack: connection reset by the client")

// mover is what a flow has for moving bytes up.
type mover struct {
	state atomic.Int32
	start func() // f.up, bound once
	raw   *rawUp // nil if the stream has no descriptor
}

// States of a mover: is there a goroutine moving bytes up?
const (
	upIdle  = iota // none: the endpoint has said that it is empty
	upBusy         // one
	upAgain        // one, and the endpoint has become readable meanwhile
	upEnded        // none any more
)

// run begins to move the bytes of an established flow. Down has a goroutine of
// its own, which waits for the host. Up has one only while there is something
// to move: the endpoint's notification starts it. So an idle flow costs one
// goroutine and no buffer.
func (f *flow) run() {
	if rc := rawConn(f.conn); rc != nil {
		f.mover.raw = newRawUp(f, rc)
	}
	f.mover.start = f.up
	go func() { f.ended(f.down()) }()
	f.events.Init(f, waiter.ReadableEvents|waiter.EventHUp|waiter.EventErr)
	f.queue.EventRegister(&f.events)
	f.NotifyEvent(waiter.ReadableEvents | waiter.EventHUp) // what happened before
}

// NotifyEvent implements waiter.EventListener: the endpoint has bytes, an end,
// or another state. gVisor may hold the endpoint's lock.
func (f *flow) NotifyEvent(mask waiter.EventMask) {
	if mask&waiter.ReadableEvents != 0 {
		switch {
		case f.mover.state.CompareAndSwap(upIdle, upBusy):
			go f.mover.start()
		default:
			f.mover.state.CompareAndSwap(upBusy, upAgain)
		}
	}
	if mask&(waiter.EventHUp|waiter.EventErr) != 0 {
		f.checkDead()
	}
}

// up moves bytes from the client to the network until the endpoint is empty or
// at its end.
func (f *flow) up() {
	for {
		err := f.drain()
		if err == nil {
			if f.mover.state.CompareAndSwap(upBusy, upIdle) {
				return
			}
			f.mover.state.Store(upBusy)
			continue
		}
		f.mover.state.Store(upEnded)
		if err == io.EOF {
			err = f.conn.CloseWrite()
		}
		f.ended(err)
		return
	}
}

// drain moves bytes up until the endpoint is empty (nil), at its end (io.EOF)
// or something broke.
func (f *flow) drain() error {
	if f.mover.raw != nil {
		return f.mover.raw.drain()
	}
	return f.drainToStream()
}

// ended is called once per direction: with nil after a FIN was passed on, with
// an error when the connection is broken in either half; then both are reset.
func (f *flow) ended(err error) {
	if err != nil {
		f.abort()
	}
	if f.directions.Add(-1) == 0 {
		f.finish()
		return
	}
	if err == nil {
		f.half.arm(f)
	}
}

// down moves bytes from the network to the client until the host's FIN.
func (f *flow) down() error {
	d := newFeed(f)
	f.queue.EventRegister(&d.entry)
	defer f.queue.EventUnregister(&d.entry)

	var err error
	if rc := rawConn(f.conn); rc != nil {
		err = newRawDown(d, rc).run()
	} else {
		err = d.fromStream()
	}
	if err != io.EOF {
		return err
	}
	f.finSent.Store(true)
	if terr := f.ep.Shutdown(tcpip.ShutdownWrite); terr != nil {
		return errClientReset
	}
	return nil
}

// rawConn returns the descriptor behind a stream, nil if it has none.
func rawConn(conn any) syscall.RawConn {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return rc
}

// readEnded says what an endpoint's refusal to be read means: io.EOF for the
// client's FIN, errClientReset when the connection is gone. ErrWouldBlock is
// not a refusal.
//
// gVisor reports a lost connection to whoever asks first and "closed" to the
// others, so the state decides. RST in CLOSE-WAIT leads to CLOSED rather than
// to the error state; CLOSED is a clean end only if our FIN was out.
func (f *flow) readEnded() error {
	switch tcp.EndpointState(f.ep.State()) {
	case tcp.StateError:
		return errClientReset
	case tcp.StateClose:
		if !f.finSent.Load() {
			return errClientReset
		}
	}
	return io.EOF
}

// abort resets both halves: RST to the client, RST to the host.
func (f *flow) abort() {
	if f.aborted.Swap(true) {
		return
	}
	f.half.stop()
	resetConn(f.conn)
	f.ep.Abort()
}

// resetConn closes a connection to the network with a RST where the stream
// can do that: a FIN would tell the host that the data was complete.
func resetConn(conn io.Closer) {
	if l, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		l.SetLinger(0)
	}
	conn.Close()
}

// finish runs when both directions have ended. The endpoint lives on until its
// FIN is acknowledged and TIME-WAIT is over, without a goroutine. What the
// table counts as running from the SYN on ends here.
func (f *flow) finish() {
	f.half.stop()
	f.conn.Close()
	f.stack.table.setClosing(f)
	// A client that vanished must not keep the endpoint repeating its FIN for
	// minutes. (On a live flow this option would also end connections whose
	// window the client holds at zero, which RFC 1122 4.2.2.17 forbids.)
	limit := tcpip.TCPUserTimeoutOption(orphanTimeout)
	f.ep.SetSockOpt(&limit)
	f.ep.Close()
	f.checkDead()
	f.stack.table.running.Done()
}

// checkDead takes the flow out of the table once its endpoint is closed and
// its goroutines are gone. An endpoint that broke under our hands (client's
// RST, keepalive) takes the host's connection with it: the directions may be
// waiting for the host.
func (f *flow) checkDead() {
	if !f.dead() {
		return // TIME-WAIT also says hang-up
	}
	if f.directions.Load() == 0 {
		f.stack.table.remove(f)
		return
	}
	// Closed after TIME-WAIT, up may still be giving a slow host what the client
	// sent before its FIN.
	if f.readEnded() != io.EOF && !f.aborted.Load() {
		f.stack.table.spawn(f.abort)
	}
}
