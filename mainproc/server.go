package mainproc

import (
	"cmp"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"os/user"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/ban"
	"rocserv/internal/capacity"
	"rocserv/internal/config"
	"rocserv/internal/control"
	"rocserv/internal/ipc"
	"rocserv/internal/rolelog"
	"rocserv/internal/sandbox"
)

const (
	maintenanceEvery = 15 * time.Minute // as in ocserv
	poolSize         = 8
	reconnectRoom    = 10 // a tenth of max-clients more may connect, to come back with a cookie
)

// server is main: the processes, the listeners, and the tables. Each table has
// a lock or an owner of its own; there is no lock over all.
type server struct {
	opts     Options
	log      *slog.Logger
	procs    *procs
	sec      *security
	records  *records
	closings *closings
	pool     *pool[*worker]
	workers  *registry
	sessions *sessions
	bans     *ban.Table
	door     *door
	ports    *ports
	gen      atomic.Pointer[generation]
	host     atomic.Pointer[ipc.HostInfo]
	console  *console
	peering  peering
	credits  credits
	hooks    *hooks
	loading  sync.Mutex // held while a configuration or a sec-mod comes into effect
	number   uint64     // of the last generation tried; owned by who holds loading
	confined sandbox.Report
	before   predecessor
	ended    chan struct{} // closed when the server is over
	notify   *notifier
	store    *store        // nil: none
	memory   image         // of the store, until it is in effect
	upgrades chan *program // to become, which have been tried
	visitors []visitor     // of the main before, until they are let in

	workerRole *role // roleWorker, perhaps of another program

	confinedLog confinedLog
	translation nat64Finder // readHost's
}

// newServer reads the configuration and opens the ports, or takes both over from
// the main before (st). text is the configuration's if it is yet to be loaded.
func newServer(opts Options, confined sandbox.Report, signals chan<- os.Signal, st *inherited) (_ *server, text []byte, err error) {
	var cfg *config.Config
	if st != nil {
		cfg, err = st.Config.parse(opts)
	} else {
		cfg, text, err = readConfig(opts)
	}
	if err != nil {
		return nil, nil, err
	}
	if err := checkConfinement(&cfg.Global, confined); err != nil {
		clear(text)
		return nil, nil, err
	}
	s := &server{opts: opts, log: opts.Logger, confined: confined, ended: make(chan struct{}), upgrades: make(chan *program, 1), workerRole: roleWorker}
	s.notify = newNotifier(os.Getpid(), s.log)
	s.translation.lookup = net.DefaultResolver.LookupNetIP
	s.sec, s.records, s.closings = newSecurity(), newRecords(), newClosings()
	s.setLevel(&cfg.Global)
	s.logOwnConfinement()
	s.gen.Store(&generation{cfg: cfg})
	if st == nil {
		for _, w := range append(warnings(cfg), notes(&cfg.Global, os.Getuid())...) {
			s.log.Warn(w)
		}
	}
	if s.procs, err = newProcs(opts.SelfExe, s.log); err != nil {
		return nil, nil, err
	}
	s.console = newConsole(s, signals)
	s.hooks = newHooks(os.Environ())
	s.workers, s.sessions, s.bans = newRegistry(), newSessions(), ban.New(banPolicy(&cfg.Global))
	s.peering.changed = make(chan struct{}, 1)
	s.sessions.moved = s.peering.change
	s.setHost(s.readHost())
	s.door = newDoor(s, s.measure(&cfg.Global))
	s.credits.size(sharedPorts(), s.maxWorkers())
	s.pool = &pool[*worker]{
		start:    s.startWorker,
		dismiss:  func(w *worker) { w.leave(ipc.Reason_REASON_SERVER, false, leaveGrace) },
		size:     max(min(poolSize, s.door.most/4), 1),
		parallel: max(runtime.NumCPU(), 2),
		log:      s.log,
		now:      time.Now,
	}
	s.openStore()
	if st == nil {
		s.remember()
	}
	if st != nil {
		s.ports, err = inheritPorts(st.Ports)
	} else {
		s.ports, err = openPorts(&cfg.Global, opts.passed, s.log)
	}
	if err != nil {
		return nil, nil, err
	}
	return s, text, nil
}

// settings are the global ones of the configuration in effect.
func (s *server) settings() *config.Global { return &s.gen.Load().cfg.Global }

// measure finds out how many workers the machine allows, and says so.
func (s *server) measure(g *config.Global) int {
	n, by := capacity.Read(os.DirFS("/"), os.Getuid()).Workers()
	switch {
	case g.MaxClients > n:
		s.log.Warn("max-clients is more than this machine allows", "max-clients", g.MaxClients, "workers", n, "limit", by)
	case g.MaxClients > 0:
		s.log.Info("room for clients", "max-clients", g.MaxClients, "workers", n, "limit", by)
	default:
		s.log.Info("room for clients", "workers", n, "limit", by)
	}
	return n
}

// maxClients is how many sessions can have a tunnel at a time.
func (s *server) maxClients() int {
	if n := s.settings().MaxClients; n > 0 {
		return min(n, s.door.most)
	}
	return s.door.most
}

// maxWorkers is how many workers can have a client. It is above maxClients, so
// that a client whose tunnel is up but whose network has changed is let in
// when all places are taken: its own is one of them.
func (s *server) maxWorkers() int {
	n := s.maxClients()
	return min(n+max(n/reconnectRoom, 4), max(s.door.most, 2))
}

// banPolicy exempts the host's own networks, as ocserv does, unless ban-local.
func banPolicy(g *config.Global) ban.Policy {
	p := ban.Policy{MaxScore: g.MaxBanScore, BanTime: g.BanTime, ResetTime: g.BanResetTime, Exempt: slices.Clone(g.BanExempt)}
	if !g.BanLocal {
		p.Exempt = append(p.Exempt, localSubnets()...)
	}
	return p
}

// addBanPoints counts points against an address. Once it is banned its logins
// under way end too; tunnels stay.
func (s *server) addBanPoints(a netip.Addr, points uint32, cause string) {
	now := time.Now()
	was := s.bans.Banned(a, now)
	if !s.bans.Add(a, int(min(points, math.MaxInt16)), now) || was {
		return
	}
	source := ban.Source(a)
	s.log.Info("banned", "source", source, "cause", cause)
	s.console.publish(control.Event{Type: control.EventBanned, IP: sourceText(source), Reason: cause})
	for _, w := range s.workers.inLogin(func(who identity) bool { return ban.Source(who.peer.Addr()) == source }) {
		w.leave(ipc.Reason_REASON_ERROR, false, leaveGrace)
	}
}

// fromSecMod acts on what sec-mod says unasked.
func (s *server) fromSecMod(rec *ipc.Record) error {
	switch rec.Type {
	case ipc.SecmBanIPT:
		var m ipc.SecmBanIP
		if err := rec.Decode(&m); err != nil {
			return err
		}
		if a := ipc.Addr(m.Peer); a.IsValid() {
			s.addBanPoints(a, m.Score, m.Cause)
		}
	case ipc.SecmViolationT:
		var m ipc.SecmViolation
		if err := rec.Decode(&m); err != nil {
			return err
		}
		if w := s.workers.find(m.ConnId); w != nil {
			s.workers.violations.Add(1)
			w.punish(violation("towards sec-mod: %s", m.What))
		}
	case ipc.SecmBehindT:
		if err := rec.Decode(new(ipc.Nothing)); err != nil {
			return err
		}
		s.door.turns.slow(time.Now())
		s.log.Debug("sec-mod is behind with passwords or signatures")
	case ipc.SecmRecordT:
		m := new(ipc.SecmRecord)
		if err := rec.Decode(m); err != nil {
			return err
		}
		return s.records.keep(m)
	case ipc.SecmEndedT:
		var m ipc.SecmEnded
		if err := rec.Decode(&m); err != nil {
			return err
		}
		s.endSessions(m.SafeIds...)
	default:
		return violation("%v from sec-mod", rec.Type)
	}
	return nil
}

// maintain does what needs doing now and then.
func (s *server) maintain() {
	s.bans.Sweep(time.Now())
	s.records.sweep(time.Now())
	live, all := s.sessions.count()
	s.log.Debug("maintenance", "tunnels", live, "sessions", all, "workers", s.workers.clients(), "violations", s.workers.violations.Load(), "goroutines", runtime.NumGoroutine())
	if d := s.ports.demux.Load(); d != nil {
		d.report()
	}
}

func (s *server) setLevel(g *config.Global) {
	if s.opts.Level != nil {
		s.opts.Level.Set(rolelog.Level(s.logLevel(g)))
	}
	if s.opts.Log != nil {
		s.opts.Log.SetJSON(g.LogJSON)
		s.opts.Log.SetFacility(cmp.Or(s.opts.Facility, g.SyslogFacility))
	}
}

func (s *server) logLevel(g *config.Global) int {
	if s.opts.Debug >= 0 {
		return s.opts.Debug
	}
	return g.LogLevel
}

// notes says what of the configuration does not hold here.
func notes(g *config.Global, uid int) (list []string) {
	if g.RunAsUser != "" && !isUser(g.RunAsUser, uid) {
		list = append(list, fmt.Sprintf("note: run-as-user = %s has no effect: the server keeps the uid it was started with, %d", g.RunAsUser, uid))
	}
	for _, s := range scriptsOf(g) {
		if err := s.executable(); err != nil {
			list = append(list, "warning: "+err.Error())
		}
	}
	return list
}

// script is a program that an option names.
type script struct{ option, file string }

func scriptsOf(g *config.Global) []script {
	return []script{{"connect-script", g.ConnectScript}, {"disconnect-script", g.DisconnectScript}, {"host-update-script", g.HostUpdateScript}}
}

// executable says whether it can be run, if it is set.
func (s script) executable() error {
	if s.file == "" {
		return nil
	}
	if err := unix.Access(s.file, unix.X_OK); err != nil {
		return fmt.Errorf("%s = %s cannot be executed by uid %d: %w", s.option, s.file, os.Getuid(), err)
	}
	return nil
}

// isUser says whether name, or number, is that uid.
func isUser(name string, uid int) bool {
	if name == strconv.Itoa(uid) {
		return true
	}
	u, err := user.Lookup(name)
	return err == nil && u.Uid == strconv.Itoa(uid)
}

func warnings(cfg *config.Config) (list []string) {
	for _, p := range cfg.Warnings {
		if p.Line > 0 {
			list = append(list, fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text))
		} else {
			list = append(list, p.Text)
		}
	}
	return list
}
