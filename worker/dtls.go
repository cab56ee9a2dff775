package worker

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"rocserv/internal/wire"
	"rocserv/worker/dtls"
)

// maxPending is how many handshakes of one session may be under way.
const maxPending = 2

// dtlsSuites is what we take with a PSK, best first: AES-128 costs least here, and the
// client's order would choose AES-256.
var dtlsSuites = []uint16{uint16(wire.SuitePSKAES128GCM), uint16(wire.SuitePSKAES256GCM), uint16(wire.SuitePSKChaCha20)}

// associations are a session's DTLS channels:
//
//	absent → pending (handshake) → in use → replaced or dead
//
// A hello can come at any time, from a new port after a change of network or
// from somebody who replays an old one. So a new channel takes the place of the
// one in use only when the client's first authentic packet has come by it; that
// also means that the client has our last flight, and until then packets go the
// way they went before (measured: 31 % lost otherwise when that flight is lost).
type associations struct {
	tunnel   *tunnel
	keys     dtls.Keys
	suites   []uint16
	outer    outer
	mtu      int
	discover bool // try-mtu-discovery
	clock    tcpip.Clock
	log      *slog.Logger
	// changed: another channel is in use, or none; elsewhere, if the client is
	// reached at another address by it than by the one before.
	changed func(d *dtlsLane, elsewhere bool)
	resized func(mtu int) // packets of that length fit the path of the channel in use
	soon    func()        // the timers are to look at probes

	mu      sync.Mutex // protects the rest; order: after nothing, before a lane's
	pending []*dtlsLane
	inUse   *dtlsLane
	closed  bool
}

// start begins a channel on a socket main has connected.
func (a *associations) start(fd int, peer netip.AddrPort, first [][]byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || a.keys.None() {
		unix.Close(fd)
		return
	}
	if len(a.pending) == maxPending {
		a.pending[0].ch.Close() // Closed removes it
	}
	d := a.newLane(peer)
	a.outer.set(fd)
	ch, err := dtls.Start(dtls.Config{
		FD: fd, Peer: peer, First: first, Keys: a.keys, Suites: a.suites,
		Receiver: &fromDTLS{a: a, d: d}, MaxPacket: a.mtu + 128,
		TooBig: func(c *dtls.Channel, _ int) { a.tooBig(d, c) }, Fragment: !a.discover,
		Moved: func(to netip.AddrPort) { a.moved(d, to) }, Log: a.log,
	})
	if err != nil {
		a.log.Debug("DTLS hello refused", "peer", peer, "err", err)
		return
	}
	d.ch, d.to = ch, packed(ch, a.tunnel.packing.dtls, a.tunnel.packing.limit)
	a.pending = append(a.pending, d)
}

// newLane makes what the tunnel knows of a channel to that peer. What its path
// takes is known if the one in use leads there too.
func (a *associations) newLane(peer netip.AddrPort) *dtlsLane {
	d := new(dtlsLane)
	d.at.Store(&peer)
	d.limit.Store(int64(a.mtu))
	d.probe = newProber(a.clock, a.mtu, func(n int) {
		go d.send(wire.DPDReq, make([]byte, n))
		a.soon()
	}, func(n int) {
		d.limit.Store(int64(n))
		if a.tunnel.dtls.Load() == d {
			a.resized(n)
		}
	})
	if old := a.inUse; old != nil && old.peer().Addr() == peer.Addr() {
		d.probe.told(int(old.limit.Load()))
	}
	return d
}

// inject gives datagrams to the channel of that peer.
func (a *associations) inject(peer netip.AddrPort, datagrams [][]byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range append(a.pending, a.inUse) {
		if d != nil && d.peer() == peer {
			d.ch.Inject(datagrams)
			return
		}
	}
}

// offer gives the channel in use datagrams that may be its client's from peer.
func (a *associations) offer(peer netip.AddrPort, datagrams [][]byte) {
	a.mu.Lock()
	d := a.inUse
	a.mu.Unlock()
	if d == nil {
		return
	}
	for _, b := range datagrams {
		d.ch.Offer(peer, b)
	}
}

// moved is told that the client of a channel has another address. The path may
// be another one too.
func (a *associations) moved(d *dtlsLane, peer netip.AddrPort) {
	d.at.Store(&peer)
	a.log.Info("DTLS channel has moved with its client", "peer", peer)
	if a.tunnel.dtls.Load() == d {
		a.changed(d, true)
		if a.discover {
			d.probe.start()
		}
	}
}

// use makes d the channel in use.
func (a *associations) use(d *dtlsLane) {
	a.mu.Lock()
	old := a.inUse
	if a.closed || old == d {
		a.mu.Unlock()
		return
	}
	a.inUse = d
	a.remove(d)
	a.mu.Unlock()
	a.tunnel.counters.dtls.Add(1)
	a.tunnel.seen.dtls.touch()
	a.tunnel.dtls.Store(d)
	if old != nil {
		old.ch.Close()
	}
	a.log.Info("DTLS channel is up", "peer", d.peer(), "suite", d.ch.Suite())
	a.tooBig(d, d.ch) // if the kernel knows so
	d.probe.announce()
	if a.discover {
		d.probe.start()
	}
	a.changed(d, old != nil && old.peer() != d.peer())
}

// gone forgets a channel.
func (a *associations) gone(d *dtlsLane, err error) {
	a.mu.Lock()
	a.remove(d)
	used := a.inUse == d
	if used {
		a.inUse = nil
	}
	closed := a.closed
	a.mu.Unlock()
	if !errors.Is(err, net.ErrClosed) {
		a.log.Info("DTLS channel ended", "peer", d.peer(), "err", err)
	}
	if used && a.tunnel.dtls.CompareAndSwap(d, nil) && !closed {
		a.changed(nil, false)
	}
}

// remove takes d out of the pending ones; a.mu is held.
func (a *associations) remove(d *dtlsLane) {
	for i, p := range a.pending {
		if p == d {
			a.pending = append(a.pending[:i:i], a.pending[i+1:]...)
			return
		}
	}
}

// tooBig is told that the path to the client may have become narrower.
func (a *associations) tooBig(d *dtlsLane, ch *dtls.Channel) {
	path := ch.PathMTU()
	if path == 0 {
		return
	}
	ip := 20
	if peer := d.peer().Addr(); peer.Is6() && !peer.Is4In6() {
		ip = 40
	}
	d.probe.told(path - ip - 8 - ch.Overhead()) // 8: UDP header
}

func (a *associations) close() {
	a.mu.Lock()
	a.closed = true
	all := append(a.pending, a.inUse)
	a.mu.Unlock()
	for _, d := range all {
		if d != nil {
			d.ch.Close()
			<-d.ch.Done()
		}
	}
}

// fromDTLS receives what a DTLS channel reads.
type fromDTLS struct {
	a *associations
	d *dtlsLane
}

// Established comes again when the client makes a new handshake on the same
// socket: it may not have our last flight yet, so packets go by CSTP until it
// speaks.
func (r *fromDTLS) Established(*dtls.Channel) { r.d.quiet.Store(true) }

func (r *fromDTLS) Packets(_ *dtls.Channel, p []wire.Packet) {
	if r.a.tunnel.dtls.Load() != r.d {
		r.a.use(r.d)
	}
	r.a.tunnel.dtlsPackets(r.d, p)
}

func (r *fromDTLS) Closed(_ *dtls.Channel, err error) { r.a.gone(r.d, err) }
