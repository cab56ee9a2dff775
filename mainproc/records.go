package mainproc

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rocserv/internal/ipc"
)

// records is what sec-mod left with main for the sec-mod after it: sealed, main
// can neither read one nor make one (doc/decisions/0006).
type records struct {
	mu      sync.Mutex
	rev     atomic.Uint64 // grows with every change
	keyring []byte
	all     map[string]record // by safe id
}

type record struct {
	sealed  []byte
	expires time.Time // zero: not while the session has a worker
}

func newRecords() *records { return &records{all: make(map[string]record)} }

func (r *records) setKeyring(b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rev.Add(1)
	r.keyring = b
}

func (r *records) lastKeyring() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keyring
}

// keep takes a record; an empty one is the end of its session.
func (r *records) keep(m *ipc.SecmRecord) error {
	if m.SafeId == "" || len(m.Sealed) > ipc.MaxSession {
		return violation("SECM_RECORD of %d bytes", len(m.Sealed))
	}
	if len(m.Sealed) == 0 {
		r.forget(m.SafeId)
		return nil
	}
	rec := record{sealed: m.Sealed}
	if m.ExpiresUnixMs != 0 {
		rec.expires = time.UnixMilli(m.ExpiresUnixMs)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rev.Add(1)
	r.all[m.SafeId] = rec
	return nil
}

func (r *records) forget(safeIDs ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rev.Add(1)
	for _, id := range safeIDs {
		delete(r.all, id)
	}
}

func (r *records) forgetAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rev.Add(1)
	clear(r.all)
}

// sweep forgets what is expired: of cookies that nobody used sec-mod says no
// word when they end.
func (r *records) sweep(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := len(r.all)
	defer func() { r.rev.Add(uint64(before - len(r.all))) }()
	maps.DeleteFunc(r.all, func(_ string, rec record) bool { return !rec.expires.IsZero() && now.After(rec.expires) })
}

// held is the message for a new sec-mod. conns are each session's connections.
func (r *records) held(conns map[string][]uint64) *ipc.SecmRecords {
	r.sweep(time.Now())
	r.mu.Lock()
	defer r.mu.Unlock()
	m := new(ipc.SecmRecords)
	for _, id := range slices.Sorted(maps.Keys(r.all)) {
		m.Records = append(m.Records, &ipc.SecmRecord{SafeId: id, Sealed: r.all[id].sealed, ConnIds: conns[id]})
	}
	return m
}

// closings are the ends of workers that sec-mod has not confirmed to have
// heard of. None may be lost: sec-mod would hold the session open for ever.
type closings struct {
	mu  sync.Mutex
	all map[uint64]*ipc.SecmSessionClose // by connection
}

func newClosings() *closings { return &closings{all: make(map[uint64]*ipc.SecmSessionClose)} }

func (c *closings) add(m *ipc.SecmSessionClose) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all[m.ConnId] = m
}

func (c *closings) remove(m *ipc.SecmSessionClose) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.all, m.ConnId)
}

func (c *closings) list() []*ipc.SecmSessionClose {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.all))
}
