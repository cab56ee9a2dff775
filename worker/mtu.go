package worker

import (
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"rocserv/internal/wire"
)

const (
	probeTimer   = time.Second       // RFC 8899 section 5.1.1: not less
	maxProbes    = 3                 // RFC 8899 section 5.1.2
	basePacket   = 1200              // RFC 8899 section 5.1.2, BASE_PLPMTU: nearly every path takes it
	raiseTimer   = 600 * time.Second // RFC 8899 section 5.1.1, PMTU_RAISE_TIMER
	confirmTimer = idleLook          // and no more than one in that time while nothing is wrong
	probeStep    = 8                 // bytes; a closer result is not worth a probe
)

// prober finds how long a packet of the tunnel may be on the path of one DTLS
// channel (try-mtu-discovery): RFC 8899 with DPD requests as its probes, as in
// ocserv and openconnect. A client's answer has no length, so only one size is
// asked for at a time, and an answer tells that it got through.
//
//	a new path, or one that carries something   →  is the size in use answered?
//	it is not, three times  →  are 1200 bytes, else 576?  The first that are
//	         become the size in use, and a larger one is searched for. If none
//	         are, it is not the length: nothing changes, DPD will judge
//	searching  →  the longest not known to fail, then halves of what is left
//	a router told a size  →  it is the size in use, and is asked for
//	ten minutes later  →  searching: the path may have become wider
//
// Nothing is changed on a guess, so a pause of the network costs no flow its
// segments' length. The timers call look; all else comes from any goroutine.
type prober struct {
	clock tcpip.Clock
	most  int         // bytes of a packet, as the client was told
	send  func(n int) // sends a DPD request with n bytes; does not wait
	set   func(n int) // takes the size in use; does not wait

	mu      sync.Mutex // protects the rest
	started bool
	good    int // the size in use
	bad     int // the shortest that is known to fail; most+1: none is
	topped  bool
	out     probe
	stale   int // answers to earlier probes that may yet come
	at      struct{ confirmed, found tcpip.MonotonicTime }
	carried uint64 // bytes that had been carried, both ways, when good was asked for because of that
}

// probe is a size that is being asked for.
type probe struct {
	size  int // 0: none
	tries int
	sent  tcpip.MonotonicTime // the last time
}

func newProber(clock tcpip.Clock, most int, send, set func(n int)) *prober {
	return &prober{clock: clock, most: most, send: send, set: set, good: most, bad: most + 1}
}

// start begins to ask, on a path of which nothing is known but what told was.
func (p *prober) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.NowMonotonic()
	p.started = true
	p.at.confirmed, p.at.found = now, now
	p.out = probe{}
	p.forget()
	p.ask(p.good, now)
}

// announce sets the size in use once more: the channel has become the one in use.
func (p *prober) announce() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set(p.good)
}

// forget drops what is known of longer packets than those in use.
func (p *prober) forget() { p.bad, p.topped, p.stale = p.most+1, false, 0 }

// confirm asks whether packets as long as those in use get through.
func (p *prober) confirm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started && p.out.size == 0 {
		p.ask(p.good, p.clock.NowMonotonic())
	}
}

// told is a router's word that packets of n bytes fit, or the kernel's.
func (p *prober) told(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n = max(n, wire.MinMTU)
	if p.started && n < p.bad-1 {
		p.bad, p.topped = n+1, false
		if p.out.size > n {
			p.out = probe{}
		}
	}
	if n < p.good {
		p.use(n)
		if p.started {
			p.ask(n, p.clock.NowMonotonic())
		}
	}
}

// answered is told of a client's answer to a DPD request.
func (p *prober) answered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stale > 0 {
		p.stale--
		return
	}
	if p.out.size == 0 {
		return
	}
	now := p.clock.NowMonotonic()
	size := p.out.size
	p.stale, p.out = p.out.tries-1, probe{}
	p.at.confirmed = now
	if size < p.good { // what is in use is not answered: too long, nothing else
		p.bad, p.topped = p.good+1, false
	}
	if size != p.good {
		p.use(size)
		p.at.found = now
	}
}

// look does what is due; total is how much was carried both ways: an upload that
// stands still has nothing to acknowledge. It says whether to look again soon.
func (p *prober) look(total uint64) (soon bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.NowMonotonic()
	switch {
	case !p.started:
		return false
	case p.out.size == 0:
		return p.next(now, total)
	case now.Sub(p.out.sent) < probeTimer:
	case p.out.tries < maxProbes:
		p.ask(p.out.size, now)
	default:
		p.failed(now)
	}
	return true
}

// next looks for something to ask. p.mu is held.
func (p *prober) next(now tcpip.MonotonicTime, total uint64) bool {
	if p.good < p.most && p.bad <= p.most && now.Sub(p.at.found) >= raiseTimer {
		p.forget()
	}
	switch {
	case p.bad-p.good > probeStep && !p.topped:
		p.topped = true
		p.ask(p.bad-1, now)
	case p.bad-p.good > probeStep:
		p.ask(p.good+(p.bad-p.good)/2, now)
	case now.Sub(p.at.confirmed) >= confirmTimer && total-p.carried > basePacket:
		p.carried = total
		p.ask(p.good, now)
	default:
		return false
	}
	return true
}

// failed draws the conclusion from a size that is not answered. p.mu is held.
func (p *prober) failed(now tcpip.MonotonicTime) {
	size := p.out.size
	p.out, p.stale = probe{}, 0
	switch {
	case size > p.good:
		p.bad, p.at.found = size, now
	case size > basePacket:
		p.ask(basePacket, now)
	case size > wire.MinMTU:
		p.ask(wire.MinMTU, now)
	default:
		p.at.confirmed = now // nothing gets through
	}
}

// ask sends a probe. p.mu is held.
func (p *prober) ask(size int, now tcpip.MonotonicTime) {
	if p.out.size != size {
		p.out = probe{size: size}
	}
	p.out.tries++
	p.out.sent = now
	p.send(size)
}

// use makes n the size in use. p.mu is held.
func (p *prober) use(n int) {
	p.good = n
	p.set(n)
}
