package dtls

import (
	"io"
	"net"
	"os"
	"sync"
	"time"

	"rocserv/internal/dtlsrecord"
)

// pionQueue bounds the datagrams that wait for pion; a flight is one or two.
const pionQueue = 16

// pionConn is the net.PacketConn that pion does its handshake on. The socket is
// not pion's: what it reads comes from the reading goroutine by a channel, and
// what it writes is looked at on its way. After takeOver it reads io.EOF, which
// ends pion's goroutines, and what it still writes goes nowhere: from then on
// the sequence numbers of epoch 1 are the Sealer's.
type pionConn struct {
	sock *socket
	addr net.Addr
	in   chan []byte
	stop chan struct{}

	mu       sync.Mutex // protects the rest
	stopped  bool
	canceled chan struct{} // closed while a read deadline in the past is set
	sent     flightRecord
}

// flightRecord is what is learnt from the datagrams pion sends.
type flightRecord struct {
	random    [randomLen]byte // of the ServerHello
	suite     uint16
	haveHello bool
	next      uint64   // first unused sequence number of epoch 1
	last      [][]byte // datagrams of the last flight, from ChangeCipherSpec on
}

func newPionConn(sock *socket, addr net.Addr) *pionConn {
	return &pionConn{
		sock: sock, addr: addr,
		in: make(chan []byte, pionQueue), stop: make(chan struct{}), canceled: make(chan struct{}),
	}
}

// feed gives pion a datagram. It never blocks; a client repeats what is lost.
func (p *pionConn) feed(datagram []byte) {
	select {
	case p.in <- datagram:
	default:
	}
}

// takeOver ends pion's use of the connection and returns what it sent.
func (p *pionConn) takeOver() flightRecord {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopped {
		p.stopped = true
		close(p.stop)
	}
	return p.sent
}

// ReadFrom implements net.PacketConn.
func (p *pionConn) ReadFrom(b []byte) (int, net.Addr, error) {
	p.mu.Lock()
	canceled := p.canceled
	p.mu.Unlock()
	select {
	case d := <-p.in:
		return copy(b, d), p.addr, nil
	case <-p.stop:
		return 0, nil, io.EOF
	case <-canceled:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

// WriteTo implements net.PacketConn.
func (p *pionConn) WriteTo(b []byte, _ net.Addr) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopped {
		p.sent.note(b)
		p.sock.send(b)
	}
	return len(b), nil
}

// note looks at the records of a datagram that is being sent.
func (f *flightRecord) note(datagram []byte) {
	last := len(f.last) > 0
	for rest := datagram; len(rest) > 0; {
		h, record, more, ok := dtlsrecord.Cut(rest)
		if !ok {
			return
		}
		rest = more
		switch {
		case h.Type == dtlsrecord.TypeChangeCipherSpec:
			f.last, last = nil, true // also if pion itself sends the flight again
		case h.Epoch == dtlsrecord.Epoch:
			f.next = max(f.next, h.Sequence+1)
		case h.Type == dtlsrecord.TypeHandshake:
			if random, suite, ok := parseServerHello(record); ok {
				f.random, f.suite, f.haveHello = random, suite, true
			}
		}
	}
	if last {
		f.last = append(f.last, append([]byte(nil), datagram...))
	}
}

// SetReadDeadline implements net.PacketConn as far as pion uses it: a time in
// the past cancels a read, zero takes that back.
func (p *pionConn) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.canceled:
		if t.IsZero() {
			p.canceled = make(chan struct{})
		}
	default:
		if !t.IsZero() {
			close(p.canceled)
		}
	}
	return nil
}

// SetWriteDeadline implements net.PacketConn; writes do not block.
func (p *pionConn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline implements net.PacketConn.
func (p *pionConn) SetDeadline(t time.Time) error { return p.SetReadDeadline(t) }

// LocalAddr implements net.PacketConn; nobody looks at it.
func (p *pionConn) LocalAddr() net.Addr { return p.addr }

// Close implements net.PacketConn. pion closes what it gives up.
func (p *pionConn) Close() error {
	p.takeOver()
	return nil
}
