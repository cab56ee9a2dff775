package mainproc

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"rocserv/internal/ipc"
)

// workerState is a worker. Its process goes on and notices nothing: its channel
// and its standard error have another reader.
type workerState struct {
	PID      int
	Channel  int
	Logs     int
	Reaped   bool // with Status
	Status   uint32
	Killed   bool
	Tag      string
	State    state
	Who      originState
	Conn     uint64
	Start    time.Time
	Until    time.Time // zero: no time is set
	Reason   int32
	Cause    string
	Offence  bool // Cause is a violation
	Stats    []byte
	Retiring int
	About    *aboutState
	Look     []byte
	LookAt   time.Time
	Asked    bool
	Asking   bool // an operator's question is open
	Sockets  socketsState
	Ports    int
	Parted   bool
	Granted  bool
	Hooked   bool
	Seen     []ipc.Type
}

type socketsState struct {
	Given []netip.Addr
	At    netip.Addr
}

type originState struct {
	Peer, Local, Proxy netip.AddrPort
	OwnWord            bool
}

func (o origin) save() originState { return originState{o.peer, o.local, o.proxy, o.ownWord} }

func (v originState) origin() origin { return origin{v.Peer, v.Local, v.Proxy, v.OwnWord} }

type aboutState struct {
	Group, Vhost, Hostname, UserAgent string
	Mobile                            bool
	DeviceKind, DevicePlatform        string
	Connected                         time.Time
	Config                            []byte // ipc.SessionConfig
}

// save is what there is to know of the worker; all of it once nobody reads its
// channel any more and no child is reaped.
func (w *worker) save(still bool) workerState {
	c := w.child
	v := workerState{PID: c.pid, Channel: descriptor(w.out.conn), Logs: descriptor(c.logs)}
	if still {
		v.Parted, v.Granted, v.Hooked = w.parted, w.granted, w.hooked
		v.Reaped, v.Status, v.Killed = w.srv.procs.endOf(c)
		v.Seen = slices.Collect(maps.Keys(w.conduct.seen))
	}
	if tag := c.tag.Load(); tag != nil {
		v.Tag = *tag
	}
	if d := w.about.Load(); d != nil {
		v.About = &aboutState{d.group, d.vhost, d.hostname, d.userAgent, d.mobile, d.device.kind, d.device.platform, d.connected, encode(d.config)}
	}
	if l := w.counting.last.Load(); l != nil {
		v.Look, v.LookAt = encode(l.stats), l.at
	}
	v.Asked, v.Asking, v.Sockets = w.counting.asked.Load(), w.asking.owed(), w.sockets.save()
	v.Ports = w.srv.credits.of(w)
	w.mu.Lock()
	defer w.mu.Unlock()
	v.State, v.Conn, v.Start = w.state, w.who.conn, w.who.start
	v.Who = originState{Peer: w.who.peer, Local: w.who.local}
	if w.timer != nil && w.state&(tunnel|detached) == 0 && (w.state != keeper || len(w.retiring) > 0) {
		v.Until = w.until
	}
	v.Reason, v.Stats, v.Retiring = int32(w.end.reason), encode(w.end.stats), len(w.retiring)
	if w.end.cause != nil {
		v.Cause, v.Offence = w.end.cause.Error(), errors.Is(w.end.cause, ipc.ErrViolation)
	}
	return v
}

// inherit makes main's side of a worker that goes on. Nothing reads its channel
// before proceed.
func (s *server) inherit(v workerState, c *child, conn *ipc.Conn) (*worker, error) {
	if follows[v.State] == 0 || v.State&(starting|pooled|opening) != 0 {
		return nil, fmt.Errorf("%w: worker %d is %v", errState, v.PID, v.State)
	}
	w := &worker{
		srv: s, child: c, state: v.State, secFD: -1,
		ready:  make(chan *ipc.WorkerReady, 1),
		gone:   make(chan struct{}),
		quiet:  make(chan struct{}),
		who:    identity{v.Conn, v.Who.Peer, v.Who.Local, v.Start},
		parted: v.Parted, granted: v.Granted, hooked: v.Hooked,
		conduct: newConduct(),
	}
	for _, t := range v.Seen {
		w.conduct.seen[t] = true
	}
	w.end.reason = ipc.Reason(v.Reason)
	if v.Cause != "" {
		w.end.cause = errors.New(v.Cause)
		if v.Offence {
			w.end.cause = fmt.Errorf("%w: %s", ipc.ErrViolation, v.Cause)
		}
	}
	for range v.Retiring { // nobody waits for it any more
		w.retiring = append(w.retiring, make(chan struct{}))
	}
	w.counting.asked.Store(v.Asked)
	w.asking.open, w.asking.to = v.Asking, make(chan *ipc.WhyAnswer, 1) // who has asked is gone
	w.sockets.take(v.Sockets)
	s.credits.restore(w, v.Ports)
	if err := w.learnAgain(v); err != nil {
		return nil, fmt.Errorf("%w: worker %d: %w", errState, v.PID, err)
	}
	w.out = newSender(conn, workerQueue, w.unsent)
	return w, nil
}

func (w *worker) learnAgain(v workerState) error {
	var errs []error
	if len(v.Stats) > 0 {
		w.end.stats = new(ipc.SessionStats)
		errs = append(errs, proto.Unmarshal(v.Stats, w.end.stats))
	}
	if !v.LookAt.IsZero() {
		m := new(ipc.WorkerStats)
		errs = append(errs, proto.Unmarshal(v.Look, m))
		w.counting.last.Store(&look{m, v.LookAt})
	}
	if a := v.About; a != nil {
		d := &detail{a.Group, a.Vhost, a.Hostname, a.UserAgent, a.Mobile, device{a.DeviceKind, a.DevicePlatform}, a.Connected, new(ipc.SessionConfig)}
		errs = append(errs, proto.Unmarshal(a.Config, d.config))
		w.about.Store(d)
	}
	return errors.Join(errs...)
}

// proceed has an inherited worker's channel read again, and its time run.
func (w *worker) proceed(until time.Time) {
	s := w.srv
	s.workers.add(w)
	if w.who.conn != 0 {
		s.workers.name(w)
	}
	w.mu.Lock()
	if w.state == login { // its place among the logins, whatever their bound
		a := &applicant{cancel: func() {}}
		w.slot, _ = s.door.logins.enter(bound{maxLogins, maxLogins}, sourcePrefix(w.who.peer.Addr()), w.who.start, a.putOut)
		a.worker = w
	}
	switch left := max(time.Until(until), 0); {
	case until.IsZero():
	case w.state == login:
		w.boundLogin(left)
	default:
		w.killAfter(left)
	}
	w.mu.Unlock()
	go w.out.run()
	go w.run()
}

// inherit takes over a process that this one's predecessor has started: the
// process is the same, so its children are ours.
func (p *procs) inherit(r *role, v workerState) (*child, *ipc.Conn, error) {
	conn, err := inheritChannel(v.Channel)
	if err != nil {
		return nil, nil, err
	}
	c := &child{role: r, pid: v.PID, channel: conn, logged: make(chan struct{}), done: make(chan struct{}), killed: v.Killed}
	if v.Tag != "" {
		c.tag.Store(&v.Tag)
	}
	if c.logs, err = inheritLogs(v.Logs); err != nil {
		conn.Close()
		return nil, nil, err
	}
	p.mu.Lock()
	if v.Reaped {
		c.reaped, c.status = true, syscall.WaitStatus(v.Status)
		close(c.done)
	} else {
		p.alive[c.pid] = c
	}
	p.mu.Unlock()
	p.copyLog(c)
	return c, conn, nil
}

// inheritChannel makes a channel of a descriptor; of none one that has ended.
func inheritChannel(fd int) (*ipc.Conn, error) {
	if fd >= 0 {
		return ipc.NewConn(fd)
	}
	conn, far, err := ipc.Pair()
	if err == nil {
		unix.Close(far)
	}
	return conn, err
}

func inheritLogs(fd int) (*os.File, error) {
	if fd < 0 {
		return os.Open(os.DevNull)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("mainproc: log of a child: %w", err)
	}
	return os.NewFile(uintptr(fd), "stderr of a child"), nil
}

// resume builds main's tables out of the state. Processes and descriptors come
// from open.
func (s *server) resume(st *inherited, open func(workerState) (*child, *ipc.Conn, error)) (until map[*worker]time.Time, err error) {
	until = make(map[*worker]time.Time)
	workers := make(map[int]*worker)
	for _, v := range st.Workers {
		c, conn, err := open(v)
		if err != nil {
			return nil, fmt.Errorf("%w: worker %d: %w", errState, v.PID, err)
		}
		w, err := s.inherit(v, c, conn)
		if err != nil {
			return nil, err
		}
		workers[v.PID] = w
		until[w] = v.Until
	}
	if err := s.sessions.take(st.Sessions, st.Kept, workers); err != nil {
		return nil, err
	}
	for _, w := range workers {
		if w.session == nil && w.state&hasTunnel != 0 {
			return nil, fmt.Errorf("%w: worker %d has no session", errState, w.child.pid)
		}
	}
	s.records.take(st.SecMod.Records)
	s.records.setKeyring(st.SecMod.Keyring)
	for _, b := range st.SecMod.Closings {
		m := new(ipc.SecmSessionClose)
		if err := proto.Unmarshal(b, m); err != nil {
			return nil, fmt.Errorf("%w: %w", errState, err)
		}
		s.closings.add(m)
	}
	s.bans.Restore(st.Bans)
	s.before = predecessor{st.Filters, st.Hellos}
	s.console.ledger.take(st.Ledger)
	s.console.started, s.console.upgrades = st.Started, st.Upgrades+1
	s.door.conns.Store(st.Conns)
	s.workers.violations.Store(st.Offences)
	s.peering.serial.Store(st.Pairs)
	s.credits.refused = st.PortsRefused
	s.number = st.Config.Last
	return until, nil
}

// save is all that main knows at this moment: for somebody else's look at it,
// or, when everything stands still, to go on with.
func (s *server) save(still bool) *inherited {
	gen := s.gen.Load()
	st := &inherited{
		Version: stateVersion, Started: s.console.started, Upgrades: s.console.upgrades,
		Conns: s.door.conns.Load(), Offences: s.workers.violations.Load(), Pairs: s.peering.serial.Load(),
		Config: configState{Text: descriptor(gen.text), Last: s.number, Generation: gen.number, Keys: encode(gen.keys)},
		Bans:   s.bans.Save(time.Now()), Ledger: s.console.ledger.save(), Filters: s.filters(),
	}
	_, _, st.PortsRefused = s.credits.look()
	if d := s.ports.demux.Load(); d != nil {
		st.Hellos = d.seen()
	}
	st.SecMod = secModState{Keyring: s.records.lastKeyring(), Records: s.records.save()}
	for _, m := range s.closings.list() {
		st.SecMod.Closings = append(st.SecMod.Closings, encode(m))
	}
	for _, l := range s.ports.tcp {
		st.Ports.TCP = append(st.Ports.TCP, descriptor(l))
	}
	for _, c := range s.ports.udp {
		st.Ports.UDP = append(st.Ports.UDP, descriptor(c))
	}
	st.Ports.Control, st.Ports.Shared = -1, s.ports.shared
	st.Sessions, st.Kept = s.sessions.save()
	for _, w := range s.workers.list(false) {
		v := w.save(still)
		if v.State&(starting|pooled|opening) != 0 {
			continue // of a moment before everything stands still
		}
		st.Workers = append(st.Workers, v)
	}
	return st
}

// descriptors are all that the state names.
func (st *inherited) descriptors() (fds []int) {
	fds = slices.Concat([]int{st.Config.Text, st.Ports.Control}, st.Ports.TCP, st.Ports.UDP)
	for _, w := range st.Workers {
		fds = append(fds, w.Channel, w.Logs)
	}
	for _, v := range st.Ports.Visitors {
		fds = append(fds, v.Conn)
	}
	return slices.DeleteFunc(fds, func(fd int) bool { return fd < 0 })
}

// consistent makes what was read off a running server one whole: sessions name
// workers that are there.
func (st *inherited) consistent(log *slog.Logger) {
	there := make(map[int]bool)
	for _, w := range st.Workers {
		there[w.PID] = true
	}
	for i := range st.Sessions {
		s := &st.Sessions[i]
		if s.Newest != 0 && !there[s.Newest] {
			log.Debug("state: a session's worker is not ready", "session", s.SafeID[:min(shortIDLength, len(s.SafeID))])
			s.Newest, s.App = 0, nil
		}
		s.Older = slices.DeleteFunc(s.Older, func(pid int) bool { return !there[pid] })
	}
	employed := make(map[int]bool)
	for _, s := range st.Sessions {
		employed[s.Newest] = true
		for _, pid := range s.Older {
			employed[pid] = true
		}
	}
	st.Workers = slices.DeleteFunc(st.Workers, func(w workerState) bool { return w.State&hasTunnel != 0 && !employed[w.PID] })
}
