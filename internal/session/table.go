package session

import (
	"container/list"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// Grace is what a cookie lives longer than its timeout, for the time the
// client needs for its own part (ocserv, AUTH_SLACK_TIME).
const Grace = 15 * time.Second

// Why a SID is not good for what was asked. Clients are told none of these.
var (
	ErrUnknown  = errors.New("session: unknown or expired")
	ErrState    = errors.New("session: not in the state for this")
	ErrBusy     = errors.New("session: an answer is being checked")
	ErrTimedOut = errors.New("session: session-timeout reached")
	ErrRoamed   = errors.New("session: client came from another address")
)

// State is where an entry stands; ocserv's names (PS_AUTH_*).
type State uint8

const (
	Inactive  State = iota // not in the table
	Init                   // login begun, nothing answered yet
	Cont                   // login under way
	Completed              // logged in: the SID is a cookie
	Failed                 // login refused for good
)

func (s State) String() string {
	switch s {
	case Inactive:
		return "inactive"
	case Init:
		return "init"
	case Cont:
		return "cont"
	case Completed:
		return "completed"
	case Failed:
		return "failed"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// Reason says why a worker of a session is gone, as far as it matters to the cookie.
type Reason uint8

const (
	Lost     Reason = iota // DPD, idle, error, network: the client may come back
	UserLeft               // the user disconnected
	Ended                  // the server or an administrator ended it
	TimedOut               // session-timeout
)

// Fingerprint is the SHA-256 of a certificate in DER; zero: none.
type Fingerprint [sha256.Size]byte

// Account is who logged in.
type Account struct {
	User  string
	Group string // empty: none
	Vhost string
	Peer  netip.Addr // where the login was completed from
	Agent string     // the client's word for what it is
	// Certificate was part of the login: who opens the session must have it.
	Certificate Fingerprint
	Granted     string // what the login's method says of the session; nothing to this package
}

// Policy is what the configuration says of a session.
type Policy struct {
	CookieTimeout  time.Duration // life of the cookie without a tunnel
	Persistent     bool          // the cookie survives a disconnect by user or server
	SessionTimeout time.Duration // since login; 0: none
	DenyRoaming    bool          // only from the address of the login
}

// Session is a completed entry as others see it.
type Session struct {
	Account
	SafeID string
	Login  time.Time
	Took   time.Duration // from Begin to Complete; 0 without a dialogue
}

// Totals are counters of inner packets' bytes over all workers of a session.
type Totals struct {
	Up, Down uint64 // from the client, to the client
}

// Limits bound the table; both are at least 1.
type Limits struct {
	Pending  int // logins under way
	Unopened int // completed, but never opened
}

// Table is the table. C is what a login keeps between two answers.
type Table[C any] struct {
	// Dropped, if set before the table is used, gets what was kept of a login once
	// that is over, however it ended. It is called within the table and must not
	// call or wait.
	Dropped func(C)

	now    func() time.Time
	limits Limits

	mu       sync.Mutex // protects everything below
	bySID    map[key]*entry[C]
	byID     map[string]*entry[C] // completed ones, by SafeID
	pending  list.List            // of *entry, oldest first: Init, Cont, Failed
	unopened list.List            // of *entry, oldest first
}

// entry is a login or a session.
type entry[C any] struct {
	key     key
	state   State
	queue   *list.List    // pending, unopened or nil
	place   *list.Element // in queue
	expires time.Time     // zero: not while the newest worker lives
	policy  Policy
	began   time.Time
	void    bool // a session that Terminate ended; its tunnel goes on

	taken bool // between Take and its outcome
	conv  C
	vhost string // of the login

	session Session
	open    opened
}

// New returns an empty table.
func New[C any](now func() time.Time, limits Limits) *Table[C] {
	if limits.Pending < 1 || limits.Unopened < 1 {
		panic("session: internal error: a table without room")
	}
	return &Table[C]{now: now, limits: limits, bySID: map[key]*entry[C]{}, byID: map[string]*entry[C]{}}
}

// Counts says how full a table is.
type Counts struct {
	Pending, Unopened, Completed int // Completed holds Unopened
}

// Counts returns how many entries there are.
func (t *Table[C]) Counts() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Counts{Pending: t.pending.Len(), Unopened: t.unopened.Len(), Completed: len(t.byID)}
}

// Sweep forgets what is expired. It returns the safe ids of the sessions among
// them that had been opened: somebody still holds addresses for those.
func (t *Table[C]) Sweep() (ended []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for _, e := range t.bySID {
		if !e.expired(now) {
			continue
		}
		if e.open.ever {
			ended = append(ended, e.session.SafeID)
		}
		t.remove(e)
	}
	return ended
}

func (e *entry[C]) expired(now time.Time) bool {
	return !e.expires.IsZero() && !now.Before(e.expires)
}

// find returns the entry of a SID unless it is expired.
func (t *Table[C]) find(sid SID) (*entry[C], error) {
	e := t.bySID[sid.key()]
	if e == nil || e.expired(t.now()) {
		return nil, ErrUnknown
	}
	return e, nil
}

func (t *Table[C]) remove(e *entry[C]) {
	t.leaveQueue(e)
	delete(t.bySID, e.key)
	if t.byID[e.session.SafeID] == e {
		delete(t.byID, e.session.SafeID)
	}
	t.forget(e)
	e.state = Inactive
}

// forget gives up what is kept of a login.
func (t *Table[C]) forget(e *entry[C]) {
	if t.Dropped != nil && (e.state == Init || e.state == Cont) {
		t.Dropped(e.conv)
	}
	var zero C
	e.conv = zero
}

// enqueue puts e into a bounded list; the oldest there makes room.
func (t *Table[C]) enqueue(e *entry[C], queue *list.List, limit int) {
	if queue.Len() >= limit {
		t.remove(queue.Front().Value.(*entry[C]))
	}
	e.queue, e.place = queue, queue.PushBack(e)
}

func (t *Table[C]) leaveQueue(e *entry[C]) {
	if e.queue != nil {
		e.queue.Remove(e.place)
		e.queue, e.place = nil, nil
	}
}
