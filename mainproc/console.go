package mainproc

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"rocserv/internal/ban"
	"rocserv/internal/config"
	"rocserv/internal/control"
	"rocserv/internal/ipc"
	table "rocserv/internal/session"
)

// statsTimeout is how long an operator waits for sec-mod.
const statsTimeout = 2 * time.Second

// console is what an operator talks to: the control socket and what it shows.
type console struct {
	srv     *server
	started time.Time
	// upgrades is how often the program was replaced since.
	upgrades int
	ledger   *ledger
	signals  chan<- os.Signal // what an operator orders is done as if by signal

	mu     sync.Mutex
	serves *control.Server // nil: no socket is open
	// inherited is the socket of the main before, until it is served.
	inherited *control.Socket
}

func newConsole(s *server, signals chan<- os.Signal) *console {
	now := time.Now()
	return &console{srv: s, started: now, ledger: newLedger(now), signals: signals}
}

// commands is the table of what can be asked.
func (c *console) commands() map[string]control.Command {
	return map[string]control.Command{
		control.CmdStatus:     control.With(c.status),
		control.CmdSessions:   control.With(c.sessions),
		control.CmdCookies:    control.With(c.cookies),
		control.CmdBans:       control.With(c.bans),
		control.CmdUnban:      control.With(c.unban),
		control.CmdLimits:     control.With(c.limits),
		control.CmdUnlimit:    control.With(c.unlimit),
		control.CmdDisconnect: control.With(c.disconnect),
		control.CmdTerminate:  control.With(c.terminate),
		control.CmdReload:     control.With(c.reload),
		control.CmdStop:       control.With(c.stop),
		control.CmdUpgrade:    control.With(c.upgrade),
		control.CmdWhy:        control.With(c.why),
	}
}

// adapt opens or closes the socket as the configuration says. A server without
// one does its work all the same.
func (c *console) adapt(g *config.Global) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !g.UseControl {
		if c.serves != nil {
			c.serves.Close()
			c.serves = nil
		}
		return
	}
	if c.serves != nil {
		return
	}
	if c.inherited != nil && c.inherited.Name != "" {
		c.serves = control.NewServer(c.commands(), c.srv.log)
		go c.serves.Serve(c.inherited)
		c.inherited = nil
		return
	}
	sock, passed, err := control.Listen(control.Places(g.ControlFile))
	if err != nil {
		c.srv.log.Error("no control socket", "err", err)
		return
	}
	if passed != nil {
		c.srv.log.Warn("the control socket is at another place", "socket", sock.Name, "why", passed)
	} else {
		c.srv.log.Info("control socket", "socket", sock.Name)
	}
	c.serves = control.NewServer(c.commands(), c.srv.log)
	go c.serves.Serve(sock)
}

func (c *console) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.serves != nil {
		c.serves.Close()
		c.serves = nil
	}
}

// publish tells who listens.
func (c *console) publish(e control.Event) {
	c.mu.Lock()
	serves := c.serves
	c.mu.Unlock()
	if serves != nil {
		serves.Publish(e)
	}
}

// nothing is the arguments of a command without any.
type nothing = struct{}

func (c *console) reload(context.Context, nothing) (any, error) { return nil, c.order(syscall.SIGHUP) }
func (c *console) stop(context.Context, nothing) (any, error)   { return nil, c.order(syscall.SIGTERM) }

// release ends all conversations and returns the socket, which still listens;
// nil if there is none.
func (c *console) release() *control.Socket {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.serves == nil {
		return nil
	}
	l := c.serves.Release(time.Second)
	c.serves = nil
	return l
}

func (c *console) order(sig os.Signal) error {
	select {
	case c.signals <- sig:
		return nil
	default:
		return control.Errorf(control.Busy, "the server has other orders to carry out")
	}
}

// status shows the server.
func (c *console) status(context.Context, nothing) (any, error) {
	s := c.srv
	now := time.Now()
	held := s.sessions.tunnels()
	workers := make([]*worker, len(held))
	for i, h := range held {
		workers[i] = h.worker
	}
	stats := new(ipc.SecmStats)
	asked := make(chan error, 1)
	go func() {
		asked <- s.sec.ask(outgoing{typ: ipc.SecmStatsReqT, msg: new(ipc.Nothing)}, ipc.SecmStatsT, stats, statsTimeout)
	}()
	refresh(workers)
	if err := <-asked; err == nil {
		c.ledger.learn(stats)
	} else {
		stats = nil // a late answer may still write there
	}
	c.ledger.turn(now, s.settings().StatsReset)
	sum, up, down := c.ledger.sum(workers)
	live, all := s.sessions.count()
	st := control.Status{
		Version: s.opts.Version, PID: os.Getpid(), SecModPID: s.secModPID(), Started: c.started, Generation: s.gen.Load().number, Upgrades: c.upgrades,
		ActiveSessions: live, AwaySessions: all - live, Workers: s.workers.clients(), Banned: c.banned(now),
		Counters: map[string]map[string]uint64{"workers": {}, "main": s.counters()},
		Gauges:   s.gauges(),
	}
	if stats != nil {
		st.Counters["secmod"] = secModCounters(stats)
		st.Gauges["logins_pending"], st.Gauges["sessions_unopened"], st.Gauges["sessions"] =
			uint64(stats.LoginsPending), uint64(stats.SessionsUnopened), uint64(stats.Sessions)
		st.Gauges["users_limited"], st.Gauges["sources_limited"] = uint64(stats.UsersLimited), uint64(stats.SourcesLimited)
	}
	c.ledger.report(&st, up, down)
	for i, n := range sum {
		st.Counters["workers"][ipc.Counter(i).String()] = n
	}
	return st, nil
}

// secModPID is 0 while sec-mod is being replaced.
func (s *server) secModPID() int {
	if m := s.sec.current(); m != nil {
		return m.child.pid
	}
	return 0
}

// sum adds the counters of living workers to those of the gone ones.
func (l *ledger) sum(workers []*worker) (sum ipc.Counters, up, down uint64) {
	l.mu.Lock()
	sum = l.gone
	l.mu.Unlock()
	for _, w := range workers {
		m, _ := w.counted()
		sum.Add(ipc.TakeCounters(m.Counters))
		up, down = up+m.BytesUp, down+m.BytesDown
	}
	return sum, up, down
}

func secModCounters(m *ipc.SecmStats) map[string]uint64 {
	return map[string]uint64{
		"logins": m.Logins, "logins_refused": m.LoginsRefused, "logins_busy": m.LoginsBusy,
		"logins_limited": m.LoginsLimited, "signatures": m.Signatures, "violations": m.Violations, "panics": m.Panics,
	}
}

// counters are main's own.
func (s *server) counters() map[string]uint64 {
	m := map[string]uint64{
		"connections": s.door.conns.Load(), "violations": s.workers.violations.Load(),
		"clients_refused": s.door.refused.Load(), "logins_late": s.door.late.Load(),
	}
	_, _, m["udp_ports_refused"] = s.credits.look()
	if d := s.ports.demux.Load(); d != nil {
		n := &d.count
		m["udp_sockets"], m["udp_forwarded"], m["udp_redispatched"] = n.sockets.Load(), n.forwarded.Load(), n.redispatched.Load()
		m["udp_offered"], m["udp_moved"] = n.offered.Load(), n.moved.Load()
		m["udp_unknown"], m["udp_limited"], m["udp_malformed"] = n.unknown.Load(), n.limited.Load(), n.malformed.Load()
	}
	return m
}

// gauges are how much there is of something now.
func (s *server) gauges() map[string]uint64 {
	ports, held, _ := s.credits.look()
	return map[string]uint64{
		"connections_waiting": uint64(s.door.waiting.len()), "workers_in_login": uint64(s.door.logins.len()),
		"workers_all": uint64(len(s.workers.list(false))), "workers_most": uint64(s.door.most),
		"udp_ports": uint64(ports), "udp_ports_held": uint64(held),
		"goroutines": uint64(runtime.NumGoroutine()),
	}
}

func (c *console) banned(now time.Time) (n int) {
	for _, b := range c.srv.bans.List(now) {
		if b.Banned {
			n++
		}
	}
	return n
}

// find returns the tunnels that are meant; all of them if none is named.
func (c *console) find(t control.Target) ([]held, error) {
	if t.Named() > 1 {
		return nil, control.Errorf(control.BadRequest, "name a user, an id or a session, not several")
	}
	all := c.srv.sessions.tunnels()
	return slices.DeleteFunc(all, func(h held) bool {
		return t.User != "" && h.user != t.User || t.ID != 0 && h.worker.child.pid != t.ID || t.Session != "" && !strings.HasPrefix(h.safeID, t.Session)
	}), nil
}

// sessions shows tunnels with the counters of the moment.
func (c *console) sessions(_ context.Context, t control.Target) (any, error) {
	found, err := c.find(t)
	if err != nil {
		return nil, err
	}
	var workers []*worker
	for _, h := range found {
		workers = append(workers, h.worker)
	}
	refresh(workers)
	list := control.Sessions{Sessions: []control.Session{}}
	for _, h := range found {
		list.Sessions = append(list.Sessions, h.show())
	}
	return list, nil
}

// disconnect ends tunnels. Their clients are told not to come back, and their
// cookies are void (unless persistent-cookies is set).
func (c *console) disconnect(_ context.Context, t control.Target) (any, error) {
	found, err := c.find(t)
	if err != nil {
		return nil, err
	}
	if t.Named() == 0 {
		return nil, control.Errorf(control.BadRequest, "nobody is named")
	}
	if len(found) == 0 {
		return nil, control.Errorf(control.NotFound, "user or ID not found")
	}
	done := control.Ended{Sessions: []string{}}
	for _, h := range found {
		h.worker.log().Info("disconnected by an operator", "user", h.user)
		h.worker.leave(ipc.Reason_REASON_SERVER, true, leaveGrace)
		done.Sessions = append(done.Sessions, h.safeID)
	}
	return done, nil
}

// cookies shows what sec-mod knows.
func (c *console) cookies(_ context.Context, a control.CookiesArgs) (any, error) {
	all, err := c.listCookies()
	if err != nil {
		return nil, err
	}
	list := control.Cookies{Cookies: []control.Cookie{}}
	for _, k := range all {
		if a.Valid && k.State != control.StateAuthenticated || !strings.HasPrefix(k.Session, a.Session) {
			continue
		}
		list.Cookies = append(list.Cookies, k)
	}
	return list, nil
}

func (c *console) listCookies() ([]control.Cookie, error) {
	type answer struct {
		m   ipc.SecmCookies
		err error
	}
	result := make(chan *answer, 1)
	c.srv.sec.call(outgoing{typ: ipc.SecmListCookiesT, msg: new(ipc.Nothing)}, ipc.SecmCookiesT, func(rec *ipc.Record, err error) {
		a := &answer{err: err}
		if err == nil {
			a.err = ipc.ReadSealedMessage(rec.FDs[0], &a.m)
		}
		result <- a
	})
	t := time.NewTimer(statsTimeout)
	defer t.Stop()
	select {
	case a := <-result:
		if a.err != nil {
			return nil, control.Errorf(control.Unavailable, "sec-mod: %v", a.err)
		}
		all := make([]control.Cookie, 0, len(a.m.Cookies))
		for _, k := range a.m.Cookies {
			all = append(all, showCookie(k))
		}
		return all, nil
	case <-t.C:
		return nil, control.Errorf(control.Unavailable, "sec-mod does not answer")
	}
}

// cookieStates are ocserv's words for the states of internal/session.
var cookieStates = map[table.State]string{
	table.Init: control.StatePreAuth, table.Cont: control.StateAuthenticating,
	table.Completed: control.StateAuthenticated, table.Failed: control.StateFailed,
}

func showCookie(k *ipc.SecmCookie) control.Cookie {
	s := control.Cookie{
		Session: k.SafeId, State: cmp.Or(cookieStates[table.State(k.State)], "unknown"), User: k.User, Group: k.Group, Vhost: k.Vhost,
		UserAgent: k.UserAgent, RemoteIP: addrText(ipc.Addr(k.Peer)), Created: time.UnixMilli(k.CreatedUnixMs),
		InUse: int(k.InUse), Opened: k.Opened, TLSAuth: k.TlsAuth, TotalRX: k.BytesUp, TotalTX: k.BytesDown,
	}
	if k.ExpiresUnixMs != 0 {
		s.Expires = time.UnixMilli(k.ExpiresUnixMs)
	}
	return s
}

// terminate makes cookies void. Tunnels that they opened go on.
func (c *console) terminate(_ context.Context, t control.Target) (any, error) {
	q := &ipc.SecmTerminate{User: t.User}
	switch {
	case t.Named() != 1:
		return nil, control.Errorf(control.BadRequest, "name a user, an id or a session")
	case t.ID != 0:
		found, err := c.find(t)
		if err != nil {
			return nil, err
		}
		for _, h := range found {
			q.SafeIds = append(q.SafeIds, h.safeID)
		}
	case t.Session != "":
		id, err := c.whole(t.Session)
		if err != nil {
			return nil, err
		}
		q.SafeIds = []string{id}
	}
	rep := new(ipc.SecmTerminateRep)
	if err := c.srv.sec.ask(outgoing{typ: ipc.SecmTerminateT, msg: q}, ipc.SecmTerminateRepT, rep, statsTimeout); err != nil {
		return nil, control.Errorf(control.Unavailable, "sec-mod: %v", err)
	}
	c.srv.endSessions(rep.Ended...)
	done := control.Ended{Sessions: slices.Concat(rep.Ended, rep.Live), Live: rep.Live}
	if len(done.Sessions) == 0 {
		return nil, control.Errorf(control.NotFound, "user, ID or session not found")
	}
	return done, nil
}

// whole finds the id that begins so.
func (c *console) whole(prefix string) (string, error) {
	all, err := c.listCookies()
	if err != nil {
		return "", err
	}
	var found []string
	for _, k := range all {
		if k.Session != "" && strings.HasPrefix(k.Session, prefix) {
			found = append(found, k.Session)
		}
	}
	switch len(found) {
	case 0:
		return "", control.Errorf(control.NotFound, "Session ID not found or expired")
	case 1:
		return found[0], nil
	}
	e := control.Errorf(control.Ambiguous, "session '%s' is ambiguous", prefix)
	e.Candidates = found
	return "", e
}

// bans shows who has points against him.
func (c *console) bans(context.Context, nothing) (any, error) {
	list := control.Bans{Bans: []control.Ban{}}
	for _, b := range c.srv.bans.List(time.Now()) {
		list.Bans = append(list.Bans, control.Ban{IP: sourceText(b.Source), Score: b.Score, Banned: b.Banned, Expires: b.Expires})
	}
	return list, nil
}

// sourceText is an IPv4 address, or an IPv6 /64.
func sourceText(p netip.Prefix) string {
	if p.Addr().Is4() {
		return p.Addr().String()
	}
	return p.String()
}

// unban forgets an address, named as bans shows it or by any of its own.
func (c *console) unban(_ context.Context, a control.UnbanArgs) (any, error) {
	addr, err := sourceAddr(a.IP)
	if err != nil {
		return nil, err
	}
	if !c.srv.bans.Unban(addr) {
		return nil, control.Errorf(control.NotFound, "no points are counted for %v", ban.Source(addr))
	}
	c.srv.log.Info("unbanned by an operator", "source", fmt.Sprint(ban.Source(addr)))
	return nil, nil
}

// connected tells of a new tunnel.
func (c *console) connected(w *worker, sess *session) {
	s := c.srv.sessions.hold(sess, w).show()
	c.srv.log.Debug(fmt.Sprintf(msgDevice, s.Device), "user", s.User)
	c.publish(control.Event{Type: control.EventConnected, Session: &s})
}

// disconnected counts a tunnel that is no more and tells of it.
func (c *console) disconnected(w *worker, sess *session, reason ipc.Reason) {
	if !w.granted {
		return // it never was one
	}
	took := time.Since(w.since())
	last, _ := w.counted()
	c.ledger.closed(reason, took, last.BytesUp, last.BytesDown, ipc.TakeCounters(last.Counters))
	s := c.srv.sessions.hold(sess, w).show()
	c.publish(control.Event{Type: control.EventDisconnected, Session: &s, Reason: reasonText(reason), Duration: took.Seconds()})
}
