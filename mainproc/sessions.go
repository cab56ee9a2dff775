package mainproc

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rocserv/internal/ipc"
	"rocserv/internal/lease"
)

// Why a session is not given to a worker, beside what sec-mod says.
var (
	errTooManyOfUser = errors.New("mainproc: the user has as many sessions as allowed")
	errServerFull    = errors.New("mainproc: " + msgTooMany)
	errOtherUser     = errors.New("mainproc: sec-mod names another user for the session")
	errNoAddress     = errors.New("mainproc: no address for the session")
)

// shortIDLength is how much of a safe id people are shown, as in ocserv.
const shortIDLength = 6

type sidHash [sha256.Size]byte

type appID [32]byte

// session is a cookie that was used for a tunnel at least once. All fields are
// of sessions.mu, but those above the line, which never change.
type session struct {
	safeID string
	user   string
	login  int64 // Unix ms

	// -----

	key        sidHash
	lease      lease.Lease
	generation uint32    // grows with every CONNECT
	newest     *worker   // the session's tunnel; nil while the client is away
	older      []*worker // workers it had before that are not gone yet, keepers mostly
	cookieLife time.Duration
	deadline   *time.Timer // of older, while there is no newest
	since      time.Time   // of the newest worker
	app        appID       // of the newest worker, once it was answered
	answered   bool
	pskHash    []byte // of the last worker that said it
	info       *ipc.SessionInfo
	shown      shown
	ended      bool  // the cookie is no longer good
	site       *site // for other clients; nil until it was answered
}

func (s *session) shortID() string { return s.safeID[:min(shortIDLength, len(s.safeID))] }

// sessions is the one owner of sessions, leases and App-IDs. It knows a SID by
// its hash only.
type sessions struct {
	mu       sync.RWMutex
	bySID    map[sidHash]*session
	bySafeID map[string]*session
	byApp    map[appID]*worker // the newest worker of an answered session
	leases   *lease.Table
	devices  map[int]bool  // numbers in use
	live     int           // sessions with a newest worker
	rev      atomic.Uint64 // grows with every change of what outlives main
	where    whereabouts
	moved    func()    // whereabouts have changed
	kept     []*worker // workers of sessions that are not their newest, the oldest first
}

func newSessions() *sessions {
	return &sessions{
		bySID:    make(map[sidHash]*session),
		bySafeID: make(map[string]*session),
		byApp:    make(map[appID]*worker),
		leases:   lease.New(rand.Reader),
		devices:  make(map[int]bool),
		where:    newWhereabouts(),
		moved:    func() {},
	}
}

// claim is a worker's wish for a session that sec-mod has agreed to.
type claim struct {
	worker       *worker
	key          sidHash
	reply        *ipc.SecmSessionReply
	want4, want6 bool
	maxLive      int    // max-clients
	device       string // prefix of the session's label
	now          time.Time
}

// won is what a claim gives.
type won struct {
	session    *session
	generation uint32
	older      []*worker // to retire before the claimant is answered, the oldest first
	kicked     []*worker // of other sessions of the user, to leave in its favour
}

// attach makes the claimant the newest worker of its session. From then on
// detach must follow. In case of an error it must not, and nothing has changed.
func (t *sessions) attach(c claim) (won, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.bySID[c.key]
	if s != nil && (s.user != c.reply.User || s.safeID != c.reply.SafeId) {
		return won{}, errOtherUser
	}
	if (s == nil || s.newest == nil) && t.live >= c.maxLive {
		return won{}, errServerFull
	}
	kicked, err := t.room(s, c.reply)
	if err != nil {
		return won{}, err
	}
	if s == nil {
		if s, err = t.create(c); err != nil {
			return won{}, err
		}
	}
	if s.newest != nil {
		s.older = append(s.older, s.newest)
		t.keep(s.newest)
	} else {
		t.live++
	}
	t.forgetApp(s)
	s.stopDeadline()
	s.cookieLife = time.Duration(c.reply.CookieTimeoutS) * time.Second
	t.rev.Add(1)
	s.newest, s.since, s.ended = c.worker, c.now, false
	s.generation++
	return won{s, s.generation, slices.Clone(s.older), kicked}, nil
}

// room applies max-same-clients to a session that is about to get a worker.
func (t *sessions) room(s *session, r *ipc.SecmSessionReply) (kicked []*worker, err error) {
	if r.MaxSameClients == 0 || s != nil && s.newest != nil {
		return nil, nil
	}
	var others []*session
	for _, o := range t.bySID {
		if o != s && o.newest != nil && o.user == r.User {
			others = append(others, o)
		}
	}
	excess := len(others) + 1 - int(r.MaxSameClients)
	if excess <= 0 {
		return nil, nil
	}
	if !r.ReplaceOldest {
		return nil, errTooManyOfUser
	}
	slices.SortFunc(others, func(a, b *session) int { return a.since.Compare(b.since) })
	for _, o := range others[:excess] {
		kicked = append(kicked, o.newest)
	}
	return kicked, nil
}

func (t *sessions) create(c claim) (*session, error) {
	if c.reply.SafeId == "" || t.bySafeID[c.reply.SafeId] != nil {
		return nil, errOtherUser
	}
	l, err := t.leases.Take(c.reply.SafeId, leaseRequest(c))
	if err != nil {
		return nil, errors.Join(errNoAddress, err)
	}
	if !l.IPv4.IsValid() && !l.IPv6.IsValid() {
		t.leases.Free(c.reply.SafeId)
		return nil, errNoAddress
	}
	s := &session{safeID: c.reply.SafeId, user: c.reply.User, login: c.reply.LoginUnixMs, key: c.key, lease: l}
	s.shown = t.label(c.device)
	t.bySID[s.key], t.bySafeID[s.safeID] = s, s
	return s, nil
}

func leaseRequest(c claim) lease.Request {
	r := c.reply.Lease
	if r == nil {
		return lease.Request{}
	}
	return lease.Request{
		Net4:        ipc.Prefix(r.Ipv4Network),
		Net6:        ipc.Prefix(r.Ipv6Network),
		SubnetBits6: int(r.Ipv6SubnetBits),
		Explicit4:   ipc.Addr(r.ExplicitIpv4),
		Explicit6:   ipc.Addr(r.ExplicitIpv6),
		Predictable: r.Predictable,
		Seed:        r.Seed,
		Want4:       c.want4 && ipc.Prefix(r.Ipv4Network).IsValid(),
		Want6:       c.want6 && ipc.Prefix(r.Ipv6Network).IsValid(),
	}
}

// grant opens the session's tunnel to w, which attach made its newest worker
// at that generation: datagrams with the new App-ID are w's from now on, and
// other clients' packets with it if n allows that. ok is false if another worker
// came in between.
func (t *sessions) grant(w *worker, s *session, generation uint32, n *site) (app appID, psk []byte, ok bool) {
	rand.Read(app[:])
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.newest != w || s.generation != generation || s.ended {
		return appID{}, nil, false
	}
	s.app, s.answered = app, true
	t.byApp[app] = w
	t.setSite(s, n)
	return app, s.pskHash, true
}

// detach takes a worker that is gone out of its session.
func (t *sessions) detach(w *worker, s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unkeep(w)
	s.older = slices.DeleteFunc(s.older, func(o *worker) bool { return o == w })
	if s.newest == w {
		t.leaveNewest(s)
	}
	if len(s.older) == 0 {
		s.stopDeadline()
	}
	if s.ended {
		t.remove(s)
	}
}

// invalidate notes that sessions' cookies are no longer good. Those without a
// worker are forgotten and their leases freed; the workers of the others are
// returned, and the last one's detach does the rest.
func (t *sessions) invalidate(safeIDs ...string) (leave []*worker) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range safeIDs {
		s := t.bySafeID[id]
		if s == nil {
			continue
		}
		s.ended = true
		leave = append(leave, s.older...)
		if s.newest != nil {
			leave = append(leave, s.newest)
		}
		t.remove(s)
	}
	return leave
}

// remove forgets a session unless it has a worker.
func (t *sessions) remove(s *session) {
	if s.newest != nil || len(s.older) > 0 || t.bySID[s.key] != s {
		return
	}
	t.rev.Add(1)
	delete(t.bySID, s.key)
	delete(t.bySafeID, s.safeID)
	t.leases.Free(s.safeID)
	delete(t.devices, s.shown.number)
	t.setSite(s, nil)
	t.moved()
}

func (t *sessions) forgetApp(s *session) {
	if s.answered {
		delete(t.byApp, s.app)
		s.answered = false
	}
}

// learn keeps what the newest worker says about its tunnel. The word of an
// older one is of an outdated generation and ignored.
func (t *sessions) learn(w *worker, s *session, info *ipc.SessionInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.newest != w {
		return
	}
	s.info = info
	if len(info.PskSha256) == sha256.Size {
		s.pskHash = info.PskSha256
	}
}

// byAppID finds the worker that a DTLS ClientHello with that id is for. It
// does not allocate.
func (t *sessions) byAppID(id []byte) *worker {
	if len(id) != len(appID{}) {
		return nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byApp[appID(id)]
}

// bound returns the workers that have a session, or had it before another one
// and whose end sec-mod was not told, with its safe id.
func (t *sessions) bound() map[*worker]string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	all := make(map[*worker]string, t.live)
	for _, s := range t.bySafeID {
		for _, w := range s.older {
			if !w.parted {
				all[w] = s.safeID
			}
		}
		if s.newest != nil {
			all[s.newest] = s.safeID
		}
	}
	return all
}

// count returns how many sessions have a tunnel, and how many there are.
func (t *sessions) count() (live, all int) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.live, len(t.bySID)
}
