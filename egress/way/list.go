package way

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"rocserv/egress"
)

const (
	downAtFirst = time.Second
	downAtMost  = 30 * time.Second
	stay        = time.Minute // with the way that had to be taken
	doubts      = 3           // dials without an answer, until a way is probed
	probeLimit  = 10 * time.Second
)

// member is a way with its health. Lists share it.
type member struct {
	name string
	carrier
	now func() time.Time
	log *slog.Logger

	mu      sync.Mutex // protects the rest
	fails   int        // in a row; 0: the way is up
	until   time.Time  // down
	since   time.Time  // up; zero: always
	last    error      // the failure
	silent  int        // dials in a row without an answer
	probing bool
}

// status is a member's health at a moment.
type status struct {
	up  bool
	due bool // down, but its time is over
	ago time.Duration
}

func (m *member) status() status {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	return status{up: m.fails == 0, due: m.fails > 0 && !now.Before(m.until), ago: now.Sub(m.since)}
}

// failed notes that the way itself failed.
func (m *member) failed(err error) {
	m.mu.Lock()
	m.fails++
	first := m.fails == 1
	m.last, m.silent = err, 0
	m.until = m.now().Add(min(downAtFirst<<min(m.fails-1, 10), downAtMost))
	m.mu.Unlock()
	if first {
		m.log.Warn("way out is down", "way", m.name, "err", err)
	}
}

// worked notes that it did what it is for.
func (m *member) worked() {
	m.mu.Lock()
	was := m.fails
	if was > 0 {
		m.since = m.now()
	}
	m.fails, m.silent, m.last = 0, 0, nil
	m.mu.Unlock()
	if was > 0 {
		m.log.Info("way out is up again", "way", m.name)
	}
}

// doubt notes a dial that had no answer before its end.
func (m *member) doubt() {
	m.mu.Lock()
	m.silent++
	look := m.silent >= doubts
	if look {
		m.silent = 0
	}
	m.mu.Unlock()
	if look {
		m.look()
	}
}

// look probes the way in the background, once at a time.
func (m *member) look() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.probing {
		return
	}
	m.probing = true
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), probeLimit)
		defer cancel()
		err := m.probe(ctx)
		m.mu.Lock()
		m.probing = false
		m.mu.Unlock()
		if err != nil {
			m.failed(err)
		} else {
			m.worked()
		}
	}()
}

// lastError is the failure of a way that is down.
func (m *member) lastError() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last == nil {
		return &Failure{m.name, errors.New("down")}
	}
	return m.last
}

// dialThrough dials and takes note of what that says of the way.
func (m *member) dialThrough(ctx context.Context, t target) (egress.Stream, error) {
	c, err := m.dial(ctx, t)
	switch {
	case err == nil:
		m.worked()
	case isFailure(err):
		m.failed(err)
	case ctx.Err() != nil:
		m.doubt()
	default:
		m.worked() // the destination's error, told by a way that works
	}
	return c, err
}

// associated is told what came of asking for an association.
func (m *member) associated(err error) {
	switch {
	case err == nil:
		m.worked()
	case isFailure(err):
		m.failed(err)
	}
}

func isFailure(err error) bool {
	var f *Failure
	return errors.As(err, &f)
}

// list is the ways of one rule, in the operator's order.
type list struct {
	members []*member

	mu      sync.Mutex
	current int // where this client's traffic goes
}

// carries says whether any way of the list can.
func (l *list) carries(p egress.Proto) bool {
	return slices.ContainsFunc(l.members, func(m *member) bool { return m.carries(p) })
}

// order is which ways to try, in turn, for a protocol: the current one and
// those after it that are up, or where none is, those whose time is over. The
// error, if there is none to try, is why.
func (l *list) order(p egress.Proto) (try []*member, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	try, late, first, err := l.choose(p)
	if len(try) == 0 {
		return late, err
	}
	for _, m := range late {
		m.look()
	}
	if first >= 0 && p == egress.TCP {
		l.current = first
	}
	return try, nil
}

// choose is order without its consequences: those that are up, in the order in
// which they are to be tried, those down whose time is over, and which member is
// the first, -1: none. The lock is held.
func (l *list) choose(p egress.Proto) (try, late []*member, first int, err error) {
	first = -1
	err = errCannot
	for i, m := range l.members {
		if !m.carries(p) {
			continue
		}
		s := m.status()
		switch {
		case s.up:
			// Who was down is taken again after a while; who follows the
			// current one is not in question.
			if first < 0 && (i >= l.current || s.ago >= stay || !l.upAt(l.current, p)) {
				first = i
			}
			try = append(try, m)
		case s.due:
			late = append(late, m)
			err = m.lastError()
		default:
			err = m.lastError()
		}
	}
	if first >= 0 {
		m := l.members[first]
		at := slices.Index(try, m)
		copy(try[1:at+1], try[:at])
		try[0] = m
	}
	return try, late, first, err
}

// upAt says whether member i is one to stay with.
func (l *list) upAt(i int, p egress.Proto) bool {
	m := l.members[i]
	return m.carries(p) && m.status().up
}

// dial tries the list's ways until one has an answer.
func (l *list) dial(ctx context.Context, t target) (egress.Stream, error) {
	try, err := l.order(egress.TCP)
	for _, m := range try {
		var c egress.Stream
		c, err = m.dialThrough(ctx, t)
		if err == nil || !isFailure(err) {
			return c, err
		}
	}
	return nil, err
}
