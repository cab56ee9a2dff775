package mainproc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"rocserv/internal/ban"
	"rocserv/internal/ipc"
	"rocserv/internal/lease"
)

// stateVersion is that of what a main leaves to the one after it. It changes
// when a program of before would misread it; new fields do not count.
const stateVersion = 1

// stateEnv names the descriptor of the state for the program that takes over.
const stateEnv = "ROCSERV_STATE"

// maxState bounds it: thousands of sessions with all their routes have room.
const maxState = 1 << 30

// inherited is all that main knows, for the main that takes its place: JSON in
// a memfd. Descriptors go by number; -1 is none. No key, password or cookie is
// in it, for main has none. Messages of internal/ipc are in their own encoding.
type inherited struct {
	Version  int
	Started  time.Time
	Upgrades int
	Conns    uint64 // number of the last connection
	Offences uint64 // registry.violations
	Pairs    uint64 // peering.serial

	PortsRefused uint64 // credits.refused

	Config   configState
	Ports    portsState
	Workers  []workerState
	Sessions []sessionState
	Kept     []int // pids, the oldest first
	SecMod   secModState
	Bans     []ban.Saved
	Ledger   ledgerState
	Hellos   []helloState
	Filters  []string // system call filters that are on this process: sandbox.FilterName
}

// helloState is which hellos of a session have led to a socket.
type helloState struct {
	App      []byte
	Last     [hellosPerApp]time.Time
	Stranger time.Time
	Randoms  []uint64
}

// predecessor is what the program before has left, beside the tables.
type predecessor struct {
	filters []string
	hellos  []helloState
}

func (s *hellos) save() (all []helloState) {
	for app, r := range s.apps {
		all = append(all, helloState{app[:], r.last, r.stranger, slices.Clone(r.randoms)})
	}
	return all
}

func (s *hellos) take(all []helloState) {
	for _, v := range all {
		if len(v.App) == len(appID{}) {
			s.apps[appID(v.App)] = &helloRecord{v.Last, v.Stranger, v.Randoms[max(0, len(v.Randoms)-knownRandoms):]}
		}
	}
}

type configState struct {
	Text       int // descriptor of the file's bytes
	Last       uint64
	Generation uint64
	Keys       []byte // ipc.SecmConfigRep
}

type portsState struct {
	TCP, UDP    []int
	Shared      bool
	Control     int
	ControlName string
	Visitors    []visitorState
}

// visitorState is a connection without a worker.
type visitorState struct {
	Conn    int
	From    originState
	Proxied bool // the PROXY header was read
}

type secModState struct {
	Keyring  []byte
	Records  []recordState
	Closings [][]byte // ipc.SecmSessionClose
}

type recordState struct {
	SafeID  string
	Sealed  []byte
	Expires time.Time
}

type leaseState = lease.Lease

// sessionState is a session. Workers are named by pid, 0 is none.
type sessionState struct {
	SafeID, User string
	Login        int64
	Key          []byte
	Lease        leaseState
	Generation   uint32
	Newest       int
	Older        []int
	CookieLife   time.Duration
	Since        time.Time
	App          []byte // empty: not answered
	PSKHash      []byte
	Info         []byte // ipc.SessionInfo
	Device       string
	Number       int
	Up, Down     uint64
	Ended        bool
	Site         *siteState
}

type siteState struct {
	Vhost         string
	Open          bool
	Pools, Behind []netip.Prefix
}

// save turns the sessions into what the next main reads.
func (t *sessions) save() (all []sessionState, kept []int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.bySafeID {
		v := sessionState{
			SafeID: s.safeID, User: s.user, Login: s.login, Key: s.key[:], Lease: s.lease, Generation: s.generation,
			CookieLife: s.cookieLife, Since: s.since, PSKHash: s.pskHash, Info: encode(s.info),
			Device: s.shown.device, Number: s.shown.number, Up: s.shown.past.up, Down: s.shown.past.down, Ended: s.ended,
		}
		if n := s.site; n != nil {
			v.Site = &siteState{n.vhost, n.open, n.pools, n.behind}
		}
		if s.newest != nil {
			v.Newest = s.newest.child.pid
		}
		if s.answered {
			v.App = s.app[:]
		}
		for _, w := range s.older {
			v.Older = append(v.Older, w.child.pid)
		}
		all = append(all, v)
	}
	for _, w := range t.kept {
		kept = append(kept, w.child.pid)
	}
	return all, kept
}

var errState = errors.New("mainproc: the state of the main before is not usable")

// take enters the sessions that save returned. workers are those of the state
// by pid.
func (t *sessions) take(all []sessionState, kept []int, workers map[int]*worker) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, v := range all {
		s := &session{
			safeID: v.SafeID, user: v.User, login: v.Login, lease: v.Lease, generation: v.Generation, cookieLife: v.CookieLife,
			since: v.Since, pskHash: v.PSKHash, shown: shown{v.Device, v.Number, traffic{v.Up, v.Down}}, ended: v.Ended,
		}
		if copy(s.key[:], v.Key) != len(s.key) || v.SafeID == "" || t.bySafeID[v.SafeID] != nil {
			return fmt.Errorf("%w: session %.6s", errState, v.SafeID)
		}
		if err := t.leases.Restore(s.safeID, s.lease); err != nil {
			return fmt.Errorf("%w: session %.6s: %w", errState, v.SafeID, err)
		}
		if len(v.Info) > 0 {
			s.info = new(ipc.SessionInfo)
			if err := proto.Unmarshal(v.Info, s.info); err != nil {
				return fmt.Errorf("%w: session %.6s: %w", errState, v.SafeID, err)
			}
		}
		t.bySID[s.key], t.bySafeID[s.safeID], t.devices[v.Number] = s, s, true
		if n := v.Site; n != nil {
			t.setSite(s, &site{n.Vhost, n.Open, n.Pools, n.Behind})
		}
		if err := t.employ(s, v, workers); err != nil {
			return err
		}
	}
	for _, pid := range kept {
		if w := workers[pid]; w != nil {
			t.keep(w)
		}
	}
	return nil
}

// employ gives a session its workers back. t.mu is held.
func (t *sessions) employ(s *session, v sessionState, workers map[int]*worker) error {
	for _, pid := range v.Older {
		w := workers[pid]
		if w == nil {
			return fmt.Errorf("%w: session %.6s has no worker %d", errState, v.SafeID, pid)
		}
		s.older, w.session = append(s.older, w), s
	}
	if v.Newest == 0 {
		if len(s.older) > 0 {
			t.startDeadline(s)
		}
		return nil
	}
	w := workers[v.Newest]
	if w == nil {
		return fmt.Errorf("%w: session %.6s has no worker %d", errState, v.SafeID, v.Newest)
	}
	s.newest, w.session = w, s
	t.live++
	if copy(s.app[:], v.App) == len(s.app) {
		s.answered = true
		t.byApp[s.app] = w
	}
	return nil
}

func (r *records) save() []recordState {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []recordState
	for id, rec := range r.all {
		all = append(all, recordState{id, rec.sealed, rec.expires})
	}
	return all
}

func (r *records) take(all []recordState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range all {
		r.all[v.SafeID] = record{v.Sealed, v.Expires}
	}
}

type tallyState struct {
	Tunnels, TimedOut, Idle, Errors, Up, Down uint64
	Time, Longest                             time.Duration
}

type ledgerState struct {
	Total, Period  tallyState
	Since          time.Time
	Gone           []uint64
	MinMTU, MaxMTU int
}

func (t tally) save() tallyState {
	return tallyState{t.tunnels, t.timedOut, t.idle, t.errors, t.up, t.down, t.time, t.longest}
}

func (v tallyState) tally() tally {
	return tally{v.Tunnels, v.TimedOut, v.Idle, v.Errors, v.Up, v.Down, v.Time, v.Longest}
}

func (l *ledger) save() ledgerState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return ledgerState{Total: l.total.save(), Period: l.period.save(), Since: l.since, Gone: l.gone[:], MinMTU: l.minMTU, MaxMTU: l.maxMTU}
}

func (l *ledger) take(v ledgerState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total, l.period, l.since, l.minMTU, l.maxMTU = v.Total.tally(), v.Period.tally(), v.Since, v.MinMTU, v.MaxMTU
	copy(l.gone[:], v.Gone)
}

// encode is a message's own encoding, nothing for none.
func encode(m ipc.Message) []byte {
	b, _ := proto.Marshal(m) // a message that was received, or made here
	return b
}

// seal puts the state into a memfd.
func (st *inherited) seal() (*os.File, error) {
	b, err := json.Marshal(st)
	if err != nil {
		return nil, fmt.Errorf("mainproc: state: %w", err)
	}
	fd, err := ipc.Seal("state", b)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "state"), nil
}

// readState reads what seal wrote.
func readState(fd int) (*inherited, error) {
	copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errState, err)
	}
	f := os.NewFile(uintptr(copied), "state")
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxState))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errState, err)
	}
	st := new(inherited)
	if err := json.Unmarshal(b, st); err != nil {
		return nil, fmt.Errorf("%w: %w", errState, err)
	}
	if st.Version != stateVersion {
		return nil, fmt.Errorf("%w: it is of version %d, this program reads %d", errState, st.Version, stateVersion)
	}
	return st, nil
}

// inheritedState returns the state that the program before left in this
// process, nil if there was none.
func inheritedState() (*inherited, error) {
	name := os.Getenv(stateEnv)
	if name == "" {
		return nil, nil
	}
	os.Unsetenv(stateEnv)
	fd, err := strconv.Atoi(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %s=%q", errState, stateEnv, name)
	}
	defer unix.Close(fd)
	return readState(fd)
}

// descriptor is a file's or socket's number, which stays its owner's; -1 if it is closed.
func descriptor(c syscall.Conn) int {
	fd := -1
	rc, err := c.SyscallConn()
	if err != nil {
		return -1
	}
	rc.Control(func(n uintptr) { fd = int(n) })
	return fd
}
