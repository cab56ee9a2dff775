package ban

import (
	"container/list"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// MaxEntries is how many sources a table remembers.
const MaxEntries = 10_000

// Policy says when a source is banned, in ocserv's terms.
type Policy struct {
	MaxScore  int           // max-ban-score; 0: nobody is banned
	BanTime   time.Duration // ban-time
	ResetTime time.Duration // ban-reset-time
	Exempt    []netip.Prefix
}

// Entry is what a table holds about one source.
type Entry struct {
	Source  netip.Prefix // an IPv4 /32 or an IPv6 /64
	Score   int
	Banned  bool
	Expires time.Time // of the ban, if Banned
}

// Table is safe for use by several goroutines.
type Table struct {
	mu      sync.Mutex
	policy  Policy
	max     int
	sources map[netip.Prefix]*list.Element // of *source, in banned or in quiet
	banned  list.List                      // by the time of the ban, oldest first
	quiet   list.List                      // by the time of the last points, oldest first
}

type source struct {
	key     netip.Prefix
	score   int
	first   time.Time // start of the window the score is counted in
	expires time.Time // of the ban; moves until the source is banned
	banned  bool
}

// New returns an empty table.
func New(p Policy) *Table {
	return &Table{policy: p, max: MaxEntries, sources: make(map[netip.Prefix]*list.Element)}
}

// SetPolicy changes the policy. Bans already pronounced keep their end.
func (t *Table) SetPolicy(p Policy) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.policy = p
}

// Source returns what addr is counted as: its /32 or its /64.
func Source(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits) // the zero Addr gives the zero Prefix
	return p
}

// Connect says whether a connection from addr is welcome, and if so adds the
// points of a connection.
func (t *Table) Connect(addr netip.Addr, points int, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.exempt(addr) {
		return true
	}
	if t.isBanned(addr, now) {
		return false
	}
	return !t.add(Source(addr), points, now)
}

// Banned says whether addr is refused now.
func (t *Table) Banned(addr netip.Addr, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.exempt(addr) && t.isBanned(addr, now)
}

// Add counts points against addr and says whether it is refused from now on.
func (t *Table) Add(addr netip.Addr, points int, now time.Time) (refused bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.add(Source(addr), points, now) && !t.exempt(addr)
}

// Unban forgets all about addr and says whether there was anything.
func (t *Table) Unban(addr netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.sources[Source(addr)]
	if e == nil {
		return false
	}
	t.drop(e)
	return true
}

// Sweep forgets what no longer counts. Answers never depend on it.
func (t *Table) Sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.sources {
		if t.over(e.Value.(*source), now) {
			t.drop(e)
		}
	}
}

// List returns all that counts, highest score first.
func (t *Table) List(now time.Time) []Entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []Entry
	for _, e := range t.sources {
		s := e.Value.(*source)
		if t.over(s, now) {
			continue
		}
		entry := Entry{Source: s.key, Score: s.score, Banned: s.banned}
		if s.banned {
			entry.Expires = s.expires
		}
		all = append(all, entry)
	}
	slices.SortFunc(all, func(a, b Entry) int {
		if a.Score != b.Score {
			return b.Score - a.Score
		}
		return a.Source.Addr().Compare(b.Source.Addr())
	})
	return all
}

// Saved is what a table holds about one source, to be kept elsewhere.
type Saved struct {
	Source  netip.Prefix
	Score   int
	Banned  bool
	First   time.Time // start of the window the score is counted in
	Expires time.Time // of the ban
}

// Save returns all that counts, in the order in which it would be forgotten.
func (t *Table) Save(now time.Time) (all []Saved) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range []*list.List{&t.quiet, &t.banned} {
		for e := l.Front(); e != nil; e = e.Next() {
			if s := e.Value.(*source); !t.over(s, now) {
				all = append(all, Saved{s.key, s.score, s.banned, s.first, s.expires})
			}
		}
	}
	return all
}

// Restore enters what Save returned. What the table knows itself stays, and what
// is no source, or of no time at all, is left out.
func (t *Table) Restore(all []Saved) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, v := range all {
		if !v.Source.IsValid() || v.Source != Source(v.Source.Addr()) || t.sources[v.Source] != nil || len(t.sources) >= t.max {
			continue
		}
		s := &source{key: v.Source, score: max(0, min(v.Score, maxScore)), first: v.First, expires: v.Expires, banned: v.Banned}
		if s.banned {
			t.sources[s.key] = t.banned.PushBack(s)
		} else {
			t.sources[s.key] = t.quiet.PushBack(s)
		}
	}
}

func (t *Table) exempt(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(t.policy.Exempt, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func (t *Table) isBanned(addr netip.Addr, now time.Time) bool {
	if t.policy.MaxScore <= 0 {
		return false
	}
	e := t.sources[Source(addr)]
	if e == nil {
		return false
	}
	s := e.Value.(*source)
	return s.banned && now.Before(s.expires)
}

// over says that what is held about s counts no more.
func (t *Table) over(s *source, now time.Time) bool {
	if s.banned {
		return !now.Before(s.expires)
	}
	return now.Sub(s.first) >= t.policy.ResetTime
}

// add counts points and says whether the source is banned.
func (t *Table) add(key netip.Prefix, points int, now time.Time) bool {
	if t.policy.MaxScore <= 0 || points <= 0 || !key.IsValid() {
		return false
	}
	e := t.sources[key]
	if e != nil && t.over(e.Value.(*source), now) {
		t.drop(e)
		e = nil
	}
	if e == nil {
		e = t.enter(key, now)
	}
	s := e.Value.(*source)
	// A score may not run over, however long someone goes on.
	s.score = min(s.score+min(points, maxScore), maxScore)
	if s.banned {
		return true
	}
	s.expires = now.Add(t.policy.BanTime)
	if s.score < t.policy.MaxScore {
		t.quiet.MoveToBack(e)
		return false
	}
	s.banned = true
	t.quiet.Remove(e)
	t.sources[key] = t.banned.PushBack(s)
	return true
}

const maxScore = 1 << 30

// enter makes room and starts a source from nothing.
func (t *Table) enter(key netip.Prefix, now time.Time) *list.Element {
	if len(t.sources) >= t.max {
		oldest := t.quiet.Front()
		if oldest == nil {
			oldest = t.banned.Front()
		}
		t.drop(oldest)
	}
	e := t.quiet.PushBack(&source{key: key, first: now})
	t.sources[key] = e
	return e
}

func (t *Table) drop(e *list.Element) {
	s := e.Value.(*source)
	delete(t.sources, s.key)
	if s.banned {
		t.banned.Remove(e)
	} else {
		t.quiet.Remove(e)
	}
}
