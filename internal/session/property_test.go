package session

import (
	"container/list"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// model knows of every SID ever minted what the table may never forget.
type model struct {
	t      *testing.T
	tb     *Table[string]
	clock  *clock
	rnd    *rand.Rand
	limits Limits

	sids    []SID
	ended   map[SID]bool // must never be good again
	safe    map[SID]string
	totals  map[string]Totals
	workers map[uint64]string // conn to safe id
	conn    uint64
}

// TestProperties walks the table at random and checks after every step what
// doc.go promises.
func TestProperties(t *testing.T) {
	for seed := range uint64(60) {
		limits := Limits{Pending: 4, Unopened: 3}
		tb, c := newTable(t, limits)
		m := &model{t: t, tb: tb, clock: c, rnd: rand.New(rand.NewPCG(seed, 1)), limits: limits,
			ended: map[SID]bool{}, safe: map[SID]string{}, totals: map[string]Totals{}, workers: map[uint64]string{}}
		for range 400 {
			m.step()
			m.check()
		}
	}
}

func (m *model) any() SID {
	if len(m.sids) == 0 || m.rnd.IntN(10) == 0 {
		return newSID()
	}
	return m.sids[m.rnd.IntN(len(m.sids))]
}

func (m *model) policy() Policy {
	p := Policy{CookieTimeout: time.Minute, Persistent: m.rnd.IntN(3) == 0}
	if m.rnd.IntN(3) == 0 {
		p.SessionTimeout = 3 * time.Minute
	}
	return p
}

func (m *model) step() {
	switch m.rnd.IntN(8) {
	case 0:
		m.sids = append(m.sids, m.tb.Begin("v", m.policy(), ""))
	case 1:
		sid, s := m.tb.Admit(anna, m.policy())
		m.sids, m.safe[sid] = append(m.sids, sid), s.SafeID
	case 2, 3:
		m.answer(m.any())
	case 4:
		m.open(m.any())
	case 5:
		m.close()
	case 6:
		m.count()
	case 7:
		m.clock.forward(time.Duration(m.rnd.IntN(40)) * time.Second)
		for _, id := range m.tb.Sweep() {
			for sid, safe := range m.safe {
				if safe == id {
					m.ended[sid] = true
				}
			}
		}
	}
}

func (m *model) answer(sid SID) {
	if _, err := m.tb.Take(sid, "v"); err != nil {
		return
	}
	if m.ended[sid] || m.safe[sid] != "" {
		m.t.Fatal("a login was taken that is over")
	}
	switch m.rnd.IntN(4) {
	case 0:
		m.tb.Ask(sid)
	case 1:
		m.tb.Release(sid)
	case 2:
		m.tb.Fail(sid)
		m.ended[sid] = true
	case 3:
		fresh, s, err := m.tb.Complete(sid, anna)
		if err != nil {
			m.t.Fatal(err)
		}
		m.ended[sid] = true
		m.sids, m.safe[fresh] = append(m.sids, fresh), s.SafeID
	}
}

func (m *model) open(sid SID) {
	m.conn++
	if s, err := m.tb.Open(sid, m.conn, home, m.policy()); err == nil {
		if m.safe[sid] != s.SafeID || m.ended[sid] {
			m.t.Fatal("opened what is no session, or one that was ended")
		}
		m.workers[m.conn] = s.SafeID
	}
}

func (m *model) close() {
	if conn, safe := m.worker(); conn != 0 {
		why := Reason(m.rnd.IntN(4))
		got := m.tb.Close(safe, conn, why)
		delete(m.workers, conn)
		if got.Gone {
			for sid, id := range m.safe {
				if id == safe {
					m.ended[sid] = true
				}
			}
			return
		}
		if was := m.totals[safe]; got.Totals.Up < was.Up || got.Totals.Down < was.Down {
			m.t.Fatalf("totals shrank from %+v to %+v", was, got.Totals)
		}
		m.totals[safe] = got.Totals
	}
}

// worker picks one that has a session; 0 if there is none.
func (m *model) worker() (conn uint64, safe string) {
	if len(m.workers) == 0 {
		return 0, ""
	}
	conns := slices.Sorted(maps.Keys(m.workers))
	conn = conns[m.rnd.IntN(len(conns))]
	return conn, m.workers[conn]
}

func (m *model) count() {
	if conn, safe := m.worker(); conn != 0 {
		m.tb.Count(safe, conn, Totals{m.rnd.Uint64N(1000), m.rnd.Uint64N(1000)})
	}
}

func (m *model) check() {
	m.t.Helper()
	n := m.tb.Counts()
	if n.Pending > m.limits.Pending || n.Unopened > m.limits.Unopened {
		m.t.Fatalf("bounds exceeded: %+v", n)
	}
	queued := func(l *list.List) (k int) {
		for e := l.Front(); e != nil; e = e.Next() {
			if en := e.Value.(*entry[string]); m.tb.bySID[en.key] != en || en.queue != l || en.place != e {
				m.t.Fatal("a queue holds an entry that is not in the table")
			}
			k++
		}
		return k
	}
	inQueues := queued(&m.tb.pending) + queued(&m.tb.unopened)
	for _, e := range m.tb.bySID {
		if e.queue == nil {
			inQueues++
		}
		if (e.state == Completed) != (m.tb.byID[e.session.SafeID] == e) {
			m.t.Fatalf("an entry in state %v and the index by safe id disagree", e.state)
		}
		if e.expires.IsZero() != (e.open.newest != 0) {
			m.t.Fatal("expiry and newest worker disagree")
		}
		if e.open.newest != 0 {
			if _, ok := e.open.workers[e.open.newest]; !ok {
				m.t.Fatal("the newest worker is not one of the session's")
			}
		}
	}
	if inQueues != len(m.tb.bySID) {
		m.t.Fatalf("%d entries, %d accounted for", len(m.tb.bySID), inQueues)
	}
	for sid := range m.ended {
		if _, err := m.tb.Lookup(sid); err == nil {
			m.t.Fatal("a SID is good again")
		}
	}
}
