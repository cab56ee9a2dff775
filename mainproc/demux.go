package mainproc

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"rocserv/internal/ipc"
	"rocserv/internal/wire/dtlshello"
)

const (
	recentTime    = 10 * time.Second // how long datagrams of a peer may still reach main's socket
	maxRecent     = 4096
	maxForwarded  = 48 << 10 // bytes of datagrams in one message; a record has 64 KB
	maxRedispatch = 1024     // foreign datagrams on their way through demux once more
)

// udpTarget is who gets a client's datagrams: a worker.
type udpTarget interface {
	// takeUDP hands over a connected socket and what arrived for it.
	takeUDP(m *ipc.UdpFd, fd int) bool
	// takeDatagrams hands over what arrived at main's socket afterwards.
	takeDatagrams(m *ipc.UdpFd) bool
	// takeOffer gives it a datagram that may be its client's.
	takeOffer(m *ipc.UdpFd) bool
	// home is where its TCP connection is from.
	home() netip.Addr
}

// demux finds the worker for datagrams that arrive at main's own sockets. It
// sees a client's first datagram and hardly any more: from then on the client
// has a socket of its own, in the worker.
//
// A datagram is a DTLS ClientHello with the App-ID of a session, or a peer's
// that was handed over a moment ago and had more in flight, or a record that may be
// of a session's client at another port (rebind.go), or of no interest: then it is
// counted and otherwise ignored, without an answer and without an
// allocation. The App-ID is an unguessable number that the client got through
// TLS, so a scanner finds nothing here.
type demux struct {
	log    *slog.Logger
	lookup func(id []byte) udpTarget // nil: no such session; the id is of an untrusted hello
	now    func() time.Time
	// connect is connectUDP; a test makes it take other clients' datagrams.
	connect func(local, peer endpoint, got func(endpoint, []byte)) (int, error)
	count   udpCounts

	mu     sync.Mutex
	recent map[endpoint]*handover
	order  []*handover // of recent, oldest first
	hellos *hellos
	offers *offers
	again  []datagram // foreign datagrams that a fresh socket had taken
}

// udpCounts says what became of datagrams at main's sockets.
type udpCounts struct {
	sockets, forwarded, redispatched, offered, moved, unknown, replayed, limited, malformed atomic.Uint64
}

// report logs what became of datagrams.
func (d *demux) report() {
	c := &d.count
	d.log.Debug("UDP", "sockets", c.sockets.Load(), "forwarded", c.forwarded.Load(), "redispatched", c.redispatched.Load(),
		"offered", c.offered.Load(), "moved", c.moved.Load(),
		"unknown", c.unknown.Load(), "replayed", c.replayed.Load(), "limited", c.limited.Load(), "malformed", c.malformed.Load())
}

// handover is a peer that got its own socket.
type handover struct {
	peer, local endpoint
	random      [32]byte // of its ClientHello: the same again is a retransmission
	target      udpTarget
	until       time.Time
}

// datagram is a copy of one that must be looked at again.
type datagram struct {
	peer, local endpoint
	data        []byte
}

func newDemux(log *slog.Logger, lookup func([]byte) udpTarget, now func() time.Time) *demux {
	return &demux{
		log: log, lookup: lookup, now: now, connect: connectUDP,
		recent: make(map[endpoint]*handover),
		hellos: newHellos(func(id []byte) bool { return lookup(id) != nil }),
		offers: newOffers(),
	}
}

// seen is which hellos have led to sockets, for the next main.
func (d *demux) seen() []helloState {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hellos.save()
}

// serve reads one of main's sockets until it is closed.
func (d *demux) serve(c *net.UDPConn) {
	b, err := newBatch(c)
	if err != nil {
		d.log.Error("UDP", "err", err)
		return
	}
	for {
		n, err := b.read()
		if err != nil {
			if isClosed(err) || errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
			d.log.Debug("UDP", "err", err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		now := d.now()
		for i := range n {
			peer, local, data, ok := b.at(i)
			if !ok {
				d.count.malformed.Add(1)
				continue
			}
			d.receive(peer, local, data, now)
		}
	}
}

// receive deals with one datagram, and with what comes to light on the way.
func (d *demux) receive(peer, local endpoint, data []byte, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.route(peer, local, data, now)
	for len(d.again) > 0 {
		g := d.again[0]
		d.again = d.again[1:]
		d.route(g.peer, g.local, g.data, now)
	}
	d.again = nil
}

// route finds the worker of a datagram. d.mu is held.
func (d *demux) route(peer, local endpoint, data []byte, now time.Time) {
	h := d.recent[peer]
	if h != nil && (now.After(h.until) || h.local != local) {
		h = nil
	}
	hello, isHello := dtlshello.Parse(data)
	switch {
	case h != nil && (!isHello || hello.Random == h.random):
		d.forward(h, data)
	case !isHello:
		d.offer(peer, local, data, now)
	default:
		d.open(peer, local, hello, data, now)
	}
}

// forward sends on what a peer had in flight when it was handed over, and
// retransmissions of its hello.
func (d *demux) forward(h *handover, data []byte) {
	m := &ipc.UdpFd{
		Peer:      ipc.PutAddrPort(h.peer.addr),
		Local:     ipc.PutAddrPort(h.local.addr),
		Datagrams: [][]byte{bytes.Clone(data)},
	}
	if h.target.takeDatagrams(m) {
		d.count.forwarded.Add(1)
	} else {
		d.count.limited.Add(1)
	}
}

// open gives a peer with a session's App-ID its own socket, unless it is a
// replay or there were too many. Where the peer is need not be where the
// session's TCP connection is from.
func (d *demux) open(peer, local endpoint, hello dtlshello.Hello, data []byte, now time.Time) {
	// GnuTLS 3.6.3 to 3.6.12 sent hellos whose random is all zero.
	if len(hello.ID) != len(appID{}) || hello.Random == [32]byte{} {
		d.count.unknown.Add(1)
		return
	}
	target := d.lookup(hello.ID)
	if target == nil {
		d.count.unknown.Add(1)
		return
	}
	switch d.hellos.judge(appID(hello.ID), hello.Random, peer.addr.Addr(), target.home(), now) {
	case helloReplayed:
		d.count.replayed.Add(1)
		return
	case helloTooMany:
		d.count.limited.Add(1)
		return
	}
	m := &ipc.UdpFd{
		Peer:      ipc.PutAddrPort(peer.addr),
		Local:     ipc.PutAddrPort(local.addr),
		Datagrams: [][]byte{bytes.Clone(data)},
	}
	total := len(data)
	fd, err := d.connect(local, peer, func(from endpoint, data []byte) {
		switch {
		case from != peer:
			d.redispatch(from, local, data)
		case total+len(data) > maxForwarded:
			d.count.limited.Add(1)
		default:
			total += len(data)
			m.Datagrams = append(m.Datagrams, bytes.Clone(data))
		}
	})
	if err != nil {
		d.log.Debug("no socket for a DTLS peer", "peer", peer.addr, "err", err)
		return
	}
	if !target.takeUDP(m, fd) {
		d.count.limited.Add(1)
		return
	}
	d.count.sockets.Add(1)
	d.hellos.opened(appID(hello.ID), hello.Random)
	d.remember(&handover{peer: peer, local: local, random: hello.Random, target: target, until: now.Add(recentTime)})
}

// redispatch queues a datagram of somebody else that a fresh socket had taken.
// Its local address is that socket's.
func (d *demux) redispatch(from, local endpoint, data []byte) {
	if len(d.again) >= maxRedispatch {
		d.count.limited.Add(1)
		return
	}
	d.count.redispatched.Add(1)
	d.again = append(d.again, datagram{from, local, bytes.Clone(data)})
}

// remember notes a handover and forgets old ones.
func (d *demux) remember(h *handover) {
	d.recent[h.peer] = h
	d.order = append(d.order, h)
	drop := 0
	for drop < len(d.order) && (len(d.order)-drop > maxRecent || h.until.Add(-recentTime).After(d.order[drop].until)) {
		old := d.order[drop]
		if d.recent[old.peer] == old {
			delete(d.recent, old.peer)
		}
		d.order[drop] = nil
		drop++
	}
	d.order = d.order[drop:]
}

func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }

// takeUDP and takeDatagrams queue datagrams for the worker. What it does not
// read in time is dropped, as a full socket would.
func (w *worker) takeUDP(m *ipc.UdpFd, fd int) bool {
	if !w.out.post(outgoing{typ: ipc.UDPFdT, msg: m, fds: []int{fd}}) {
		return false
	}
	w.sockets.give(ipc.AddrPort(m.Peer).Addr())
	return true
}

func (w *worker) takeDatagrams(m *ipc.UdpFd) bool {
	return w.out.post(outgoing{typ: ipc.UDPDatagramsT, msg: m})
}

func (w *worker) takeOffer(m *ipc.UdpFd) bool {
	return w.out.post(outgoing{typ: ipc.UDPOfferT, msg: m})
}

func (w *worker) home() netip.Addr { return w.who.peer.Addr() } // never changes once it has a session
