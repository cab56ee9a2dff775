package mainproc

import (
	"sync"
	"time"

	"rocserv/internal/control"
	"rocserv/internal/ipc"
)

// tally counts tunnels that have ended.
type tally struct {
	tunnels, timedOut, idle, errors uint64
	up, down                        uint64
	time, longest                   time.Duration
}

func (t *tally) add(reason ipc.Reason, took time.Duration, up, down uint64) {
	t.tunnels++
	t.up, t.down = t.up+up, t.down+down
	t.time, t.longest = t.time+took, max(t.longest, took)
	switch reason {
	case ipc.Reason_REASON_SESSION_TIMEOUT:
		t.timedOut++
	case ipc.Reason_REASON_IDLE_TIMEOUT:
		t.idle++
	case ipc.Reason_REASON_ERROR:
		t.errors++
	}
}

// ledger is what the server remembers of tunnels that are no more, for its
// whole life and for a period that starts anew now and then.
type ledger struct {
	mu             sync.Mutex
	total, period  tally
	since          time.Time // of the period
	gone           ipc.Counters
	minMTU, maxMTU int
	auth, authWas  *ipc.SecmStats // the last that sec-mod said, and that at the period's begin
	maxAuth        uint64         // ms, in the period
}

func newLedger(now time.Time) *ledger {
	return &ledger{since: now, auth: new(ipc.SecmStats), authWas: new(ipc.SecmStats)}
}

// closed counts a tunnel that has ended.
func (l *ledger) closed(reason ipc.Reason, took time.Duration, up, down uint64, c ipc.Counters) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total.add(reason, took, up, down)
	l.period.add(reason, took, up, down)
	l.gone.Add(c)
}

// mtu notes what MTU a tunnel has.
func (l *ledger) mtu(n uint32) {
	if n == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.minMTU == 0 || int(n) < l.minMTU {
		l.minMTU = int(n)
	}
	l.maxMTU = max(l.maxMTU, int(n))
}

// learn takes sec-mod's answer. A sec-mod that was started anew counts from 0.
func (l *ledger) learn(m *ipc.SecmStats) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.AuthTimes < l.auth.AuthTimes || m.LoginsRefused < l.auth.LoginsRefused {
		l.authWas = new(ipc.SecmStats)
	}
	l.auth, l.maxAuth = m, max(l.maxAuth, m.MaxAuthTimeMs)
}

// turn begins a new period if the one that runs is over.
func (l *ledger) turn(now time.Time, length time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if length <= 0 || now.Sub(l.since) < length {
		return
	}
	l.period, l.since = tally{}, now
	l.authWas, l.maxAuth = l.auth, 0
	l.minMTU, l.maxMTU = 0, 0
}

// report fills in what the ledger knows; up and down are those of tunnels that
// live.
func (l *ledger) report(st *control.Status, up, down uint64) (gone ipc.Counters) {
	l.mu.Lock()
	defer l.mu.Unlock()
	st.Total = control.Totals{
		Sessions: l.total.tunnels, AuthFailures: l.auth.LoginsRefused, RX: l.total.up + up, TX: l.total.down + down,
	}
	p := control.Period{
		Since: l.since, Sessions: l.period.tunnels, TimedOut: l.period.timedOut, TimedOutIdle: l.period.idle, Errors: l.period.errors,
		AuthFailures: l.auth.LoginsRefused - l.authWas.LoginsRefused, MaxAuthTime: float64(l.maxAuth) / 1000,
		MaxSessionTime: l.period.longest.Seconds(), MinMTU: l.minMTU, MaxMTU: l.maxMTU, RX: l.period.up + up, TX: l.period.down + down,
	}
	if n := l.auth.AuthTimes - l.authWas.AuthTimes; n > 0 {
		p.AvgAuthTime = float64(l.auth.AuthTimeMs-l.authWas.AuthTimeMs) / float64(n) / 1000
	}
	if n := l.period.tunnels; n > 0 {
		p.AvgSessionTime = l.period.time.Seconds() / float64(n)
	}
	st.Period = p
	return l.gone
}
