package worker

import (
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"rocserv/internal/ipc"
)

const (
	busyLook = time.Second      // between looks while the client has flows
	idleLook = 10 * time.Second // and while it has none
	trimIdle = 30 * time.Second // without a packet, memory is given back
)

// timeouts of a session; zero means never.
type timeouts struct {
	dpd         time.Duration // silence after which a channel is asked; given up at 3 ×
	switchToTCP time.Duration // silence of DTLS after which CSTP is used for sending
	idle        time.Duration
	stats       time.Duration
	sessionEnd  time.Time // zero: none
}

// timers looks at a session about once in a while and does what is due. It is
// one timer, not one for each: see activity for how the data path reports.
type timers struct {
	clock tcpip.Clock
	cfg   timeouts
	s     watched

	mu      sync.Mutex // protects the next four
	timer   tcpip.Timer
	stopped bool
	looking bool
	hurry   bool // something has begun that is to be looked at soon

	// Owned by look.
	askedCSTP, askedDTLS bool // a DPD request is out
	lastStats            tcpip.MonotonicTime
	trimmed              bool
}

// watched is the session as the timers see it.
type watched interface {
	silent(now tcpip.MonotonicTime) silence
	askCSTP()            // send a DPD request
	askDTLS()            //
	quietDTLS()          // send by CSTP until DTLS is heard
	dropDTLS()           // the DTLS channel is dead
	reportStats()        //
	upkeep() (busy bool) // expire mappings; busy: look again soon
	trim()
	end(reason ipc.Reason, text string)
}

// silence is how long nothing was heard.
type silence struct {
	cstp, dtls time.Duration
	hasDTLS    bool
	data       time.Duration
}

func newTimers(clock tcpip.Clock, cfg timeouts, s watched) *timers {
	return &timers{clock: clock, cfg: cfg, s: s, lastStats: clock.NowMonotonic()}
}

func (t *timers) start() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer = t.clock.AfterFunc(t.period(true), t.fire)
}

func (t *timers) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	if t.timer != nil {
		t.timer.Stop()
	}
}

func (t *timers) fire() {
	t.mu.Lock()
	t.looking, t.hurry = true, false
	t.mu.Unlock()
	busy := t.look()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.looking = false
	if !t.stopped {
		t.timer.Reset(t.period(busy || t.hurry))
	}
}

// soon has the timers look as if the session were busy. Until they have, further
// calls put nothing off.
func (t *timers) soon() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hurry {
		return
	}
	t.hurry = true
	if t.timer != nil && !t.looking && !t.stopped {
		t.timer.Reset(t.period(true))
	}
}

// period is the time to the next look: short while there is something to
// expire, and never more than a quarter of the shortest timeout.
func (t *timers) period(busy bool) time.Duration {
	p := idleLook
	if busy {
		p = busyLook
	}
	for _, d := range []time.Duration{t.cfg.dpd, t.cfg.switchToTCP, t.cfg.idle, t.cfg.stats} {
		if d > 0 {
			p = min(p, max(d/4, 50*time.Millisecond))
		}
	}
	return p
}

// look does what is due and says whether the session is busy.
func (t *timers) look() (busy bool) {
	now := t.clock.NowMonotonic()
	quiet := t.s.silent(now)
	switch {
	case !t.cfg.sessionEnd.IsZero() && !t.clock.Now().Before(t.cfg.sessionEnd):
		t.s.end(ipc.Reason_REASON_SESSION_TIMEOUT, "session timeout")
		return false
	case t.cfg.idle > 0 && quiet.data >= t.cfg.idle:
		t.s.end(ipc.Reason_REASON_IDLE_TIMEOUT, "idle timeout")
		return false
	case t.cfg.dpd > 0 && quiet.cstp >= 3*t.cfg.dpd:
		// As ocserv: asked after twice the time, given up after three times.
		t.s.end(ipc.Reason_REASON_DPD_TIMEOUT, "")
		return false
	}
	t.lookDPD(quiet)
	if t.cfg.stats > 0 && now.Sub(t.lastStats) >= t.cfg.stats {
		t.lastStats = now
		t.s.reportStats()
	}
	busy = t.s.upkeep()
	idle := min(quiet.cstp, quiet.data)
	if quiet.hasDTLS {
		idle = min(idle, quiet.dtls)
	}
	if idle < trimIdle {
		t.trimmed = false
	} else if !t.trimmed {
		t.trimmed = true
		t.s.trim()
	}
	return busy
}

func (t *timers) lookDPD(quiet silence) {
	if d := t.cfg.dpd; d > 0 {
		t.askedCSTP = ask(t.askedCSTP, quiet.cstp >= 2*d, t.s.askCSTP)
	}
	if !quiet.hasDTLS {
		t.askedDTLS = false
		return
	}
	if t.cfg.switchToTCP > 0 && quiet.dtls >= t.cfg.switchToTCP {
		t.s.quietDTLS()
	}
	if d := t.cfg.dpd; d > 0 {
		if quiet.dtls >= 3*d {
			t.s.dropDTLS()
			return
		}
		t.askedDTLS = ask(t.askedDTLS, quiet.dtls >= 2*d, t.s.askDTLS)
	}
}

// ask calls send once when due becomes true.
func ask(asked, due bool, send func()) bool {
	if due && !asked {
		send()
	}
	return due
}
