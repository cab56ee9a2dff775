package mainproc

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/ipc"
	"rocserv/internal/rolelog"
)

// The first byte of a SID tells the fake sec-mod what to do with it; the
// second names the user, the third is max-same-clients, the fourth whether the
// oldest is replaced.
const (
	sidGood        = 0
	sidRefused     = 1
	sidUnavailable = 2
	sidSlow        = 3 // answered after a second
	sidBan         = 4 // refused, and the peer gets 1000 points
	sidEnds        = 5 // good, and ended 300 ms later
	sidHeld        = 6 // answered once one of the next user was asked for
)

func testSID(kind, user, most byte, replace bool, nonce byte) []byte {
	sid := make([]byte, sidLength)
	sid[0], sid[1], sid[2], sid[31] = kind, user, most, nonce
	if replace {
		sid[3] = 1
	}
	return sid
}

func safeID(sid []byte) string {
	h := sha1.Sum(sid)
	return base64.StdEncoding.EncodeToString(h[:])
}

// quit ends the process without the second that the race detector takes.
func quit(status int) { unix.RawSyscall(unix.SYS_EXIT_GROUP, uintptr(status), 0, 0) }

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// ---- sec-mod ----

type fakeMod struct {
	conn *ipc.Conn
	log  *slog.Logger
	cfg  testConfig

	confined bool // has loaded a configuration

	mu    sync.Mutex
	users map[byte]chan struct{} // closed once a session of the user was asked for
}

func fakeSecMod() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	fds := openFDs()
	conn, err := ipc.NewConn(3)
	must(err)
	f := &fakeMod{conn: conn, log: slog.New(rolelog.NewHandler(os.Stderr, slog.LevelDebug)), users: map[byte]chan struct{}{}}
	f.log.Info("secmod started", "args", os.Args, "env", os.Environ(), "fds", fds)
	for {
		rec, err := conn.Recv()
		if err != nil {
			return
		}
		f.answer(rec)
	}
}

// takeHelper talks to a login helper as long as it lives.
func (f *fakeMod) takeHelper(rec *ipc.Record) {
	var m ipc.SecmHelper
	must(rec.Decode(&m))
	if m.Token != 7 || m.Error != "" || len(rec.FDs) != 1 {
		f.log.Error("no login helper", "token", m.Token, "err", m.Error)
		return
	}
	c, err := ipc.NewConn(rec.TakeFD(0))
	must(err)
	go func() {
		rep := new(ipc.HelperReady)
		must(c.Call(ipc.HelperConfigT, new(ipc.HelperConfig), ipc.HelperReadyT, rep))
		f.log.Info("login helper", "says", rep.Confinement)
		_, err := c.Recv()
		f.log.Info("login helper is gone", "err", err)
	}()
}

// fakeHelper says what it was started with.
func fakeHelper() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	c, err := ipc.NewConn(3)
	must(err)
	rec, err := c.Recv()
	must(err)
	must(c.Send(ipc.HelperReadyT, rec.ID, &ipc.HelperReady{Confinement: strings.Join(os.Args[1:], " ")}))
	c.Recv()
}

func (f *fakeMod) answer(rec ipc.Record) {
	switch rec.Type {
	case ipc.SecmConfigT:
		b, err := ipc.ReadSealed(rec.FDs[0])
		rec.Close()
		must(err)
		var cfg testConfig
		must(json.Unmarshal(b, &cfg))
		if _, err := os.Stat("secmod-dies"); err == nil || cfg.SecMod.Die {
			quit(7)
		}
		elsewhere := cfg.SecMod.Elsewhere && f.confined
		f.confined = true
		if cfg.SecMod.Refuse == "" && !elsewhere {
			f.cfg = cfg
		}
		var q ipc.SecmConfig
		must(rec.Decode(&q))
		if cfg.SecMod.Helper != "" {
			f.conn.Send(ipc.SecmHelperReqT, 0, &ipc.SecmHelperReq{Token: 7, Method: cfg.SecMod.Helper})
		}
		f.log.Info("configuration", "generation", q.Generation, "keyring", string(q.Keyring), "known", len(q.Known))
		f.conn.Send(ipc.SecmConfigRepT, rec.ID, &ipc.SecmConfigRep{Error: cfg.SecMod.Refuse, Elsewhere: elsewhere, Keyring: []byte("ring"),
			Vhosts: []*ipc.VhostKeys{{Chains: []*ipc.Chain{{KeyIndex: 7, Der: [][]byte{[]byte("leaf")}}}}}})
	case ipc.SecmHelperT:
		f.takeHelper(&rec)
	case ipc.SecmRestoreT:
		var m ipc.SecmRecords
		must(ipc.ReadSealedMessage(rec.FDs[0], &m))
		rec.Close()
		for _, h := range m.Records {
			f.log.Info("restored", "safe_id", h.SafeId, "sealed", string(h.Sealed), "conns", fmt.Sprint(h.ConnIds))
		}
		f.conn.Send(ipc.SecmRestoreRepT, rec.ID, &ipc.SecmRestoreRep{Restored: uint32(len(m.Records))})
	case ipc.SecmWorkerT:
		var m ipc.SecmWorker
		must(rec.Decode(&m))
		c, err := ipc.NewConn(rec.TakeFD(0))
		must(err)
		if m.Rejoined {
			f.log.Info("rejoined", "conn", m.Identity.ConnId, "safe_id", m.SafeId)
		}
		go signForWorker(c, m.Identity)
	case ipc.SecmSessionOpenT:
		var m ipc.SecmSessionOpen
		must(rec.Decode(&m))
		go f.open(rec.ID, &m)
	case ipc.SecmSessionCloseT:
		var m ipc.SecmSessionClose
		must(rec.Decode(&m))
		f.log.Info("session close", "safe_id", m.SafeId, "conn", m.ConnId, "reason", m.Reason.String())
		if f.cfg.SecMod.DieOnClose { // once: what kills one sec-mod need not kill the next
			if _, err := os.Stat("died"); err != nil {
				must(os.WriteFile("died", nil, 0o600))
				quit(7)
			}
		}
		f.conn.Send(ipc.SecmCliStatsT, rec.ID, &ipc.SecmCliStats{
			Invalidated: m.Reason == ipc.Reason_REASON_USER || m.Reason == ipc.Reason_REASON_SERVER,
		})
	case ipc.SecmStatsReqT:
		f.conn.Send(ipc.SecmStatsT, rec.ID, &ipc.SecmStats{Logins: 3, LoginsRefused: 2, AuthTimes: 2, AuthTimeMs: 3000, MaxAuthTimeMs: 2500})
	case ipc.SecmListCookiesT:
		fd, err := ipc.SealMessage("cookies", &ipc.SecmCookies{Cookies: []*ipc.SecmCookie{
			{SafeId: "abcdef1", User: "user1", State: 3, CreatedUnixMs: 1000}, {SafeId: "abcdef2", User: "user1", State: 3, CreatedUnixMs: 1000},
			{User: "user2", State: 1, CreatedUnixMs: 1000},
		}})
		must(err)
		f.conn.Send(ipc.SecmCookiesT, rec.ID, new(ipc.Nothing), fd)
		closeAll([]int{fd})
	case ipc.SecmListLimitsT:
		source := ipc.PutPrefix(netip.MustParsePrefix("2001:db8::/64"))
		f.conn.Send(ipc.SecmLimitsT, rec.ID, &ipc.SecmLimits{More: 5, Limits: []*ipc.SecmLimit{{User: "anna", UntilUnixMs: 2000}, {Source: source, UntilUnixMs: 1000}}})
	case ipc.SecmLiftT:
		var m ipc.SecmLift
		must(rec.Decode(&m))
		rep := new(ipc.SecmLifted)
		if m.User == "anna" || ipc.Addr(m.Source) == netip.MustParseAddr("2001:db8::") {
			rep.Limits = 1
		}
		f.conn.Send(ipc.SecmLiftedT, rec.ID, rep)
	case ipc.SecmTerminateT:
		var m ipc.SecmTerminate
		must(rec.Decode(&m))
		rep := &ipc.SecmTerminateRep{Live: m.SafeIds}
		if m.User != "" && m.User != "nobody" {
			rep.Ended = []string{"of-" + m.User}
		}
		f.conn.Send(ipc.SecmTerminateRepT, rec.ID, rep)
	}
}

// signForWorker answers on a worker's own channel with what main said of it.
func signForWorker(c *ipc.Conn, who *ipc.Identity) {
	defer c.Close()
	for {
		rec, err := c.Recv()
		if err != nil {
			return
		}
		if rec.Type == ipc.SignT {
			c.Send(ipc.SignRepT, 0, &ipc.SignRep{Signature: who.Peer})
		}
	}
}

// asked is closed once a session of the user was asked for.
func (f *fakeMod) asked(user byte) chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.users[user] == nil {
		f.users[user] = make(chan struct{})
	}
	return f.users[user]
}

// tellAsked notes that a session of the user is asked for.
func (f *fakeMod) tellAsked(user byte) {
	c := f.asked(user)
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-c:
	default:
		close(c)
	}
}

func (f *fakeMod) open(id uint32, m *ipc.SecmSessionOpen) {
	rep := &ipc.SecmSessionReply{
		Ok: true, User: fmt.Sprintf("user%d", m.Sid[1]), Group: "staff", SafeId: safeID(m.Sid), LoginUnixMs: 1000,
		MaxSameClients: uint32(m.Sid[2]), ReplaceOldest: m.Sid[3] == 1,
		Lease: &ipc.LeaseRequest{Ipv4Network: ipc.PutPrefix(netip.MustParsePrefix(f.cfg.SecMod.Network))},
	}
	f.tellAsked(m.Sid[1])
	switch m.Sid[0] {
	case sidHeld:
		<-f.asked(m.Sid[1] + 1)
	case sidRefused:
		rep = &ipc.SecmSessionReply{Reason: "bad cookie"}
	case sidUnavailable:
		rep = &ipc.SecmSessionReply{Unavailable: true, Reason: "store is down"}
	case sidBan:
		f.conn.Send(ipc.SecmBanIPT, 0, &ipc.SecmBanIP{Peer: m.Peer, Score: 1000, Cause: "test"})
		rep = &ipc.SecmSessionReply{Reason: "bad cookie"}
	case sidSlow:
		time.Sleep(time.Second)
	case sidEnds:
		time.AfterFunc(300*time.Millisecond, func() {
			f.conn.Send(ipc.SecmEndedT, 0, &ipc.SecmEnded{SafeIds: []string{rep.SafeId}})
		})
	}
	if !rep.Ok {
		f.conn.Send(ipc.SecmSessionReplyT, id, rep)
		return
	}
	f.conn.Send(ipc.SecmRecordT, 0, &ipc.SecmRecord{SafeId: rep.SafeId, Sealed: []byte("sealed " + rep.User)})
	conf := &ipc.SessionConfig{
		Banner: "welcome", Routes: []string{"10.0.0.0/255.0.0.0"}, Dns: [][]byte{ipc.PutAddr(netip.MustParseAddr("9.9.9.9"))}, DpdS: 90,
		Ports: []*ipc.PortRule{{Proto: "tcp", Port: 443}, {Proto: "icmp"}}, PortsDeny: true,
	}
	shown, err := ipc.SealMessage("session-shown", conf)
	must(err)
	conf.DpdS, conf.Egress = 1, &ipc.EgressPolicy{Ways: []*ipc.WayOut{{Password: "for the worker alone"}}}
	whole, err := ipc.SealMessage("session", conf)
	must(err)
	f.conn.Send(ipc.SecmSessionReplyT, id, rep, whole, shown)
	closeAll([]int{whole, shown})
}

// openFDs lists the descriptors this process was started with.
func openFDs() string {
	var list []string
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && !strings.HasPrefix(target, "anon_inode:") && !strings.Contains(target, "/fd") && !strings.Contains(target, "cgroup") {
			name, _, _ := strings.Cut(target, ":")
			list = append(list, e.Name()+"="+name)
		}
	}
	return strings.Join(list, " ")
}

// ---- worker ----

// fakeWork is a worker that does what its client says, a line at a time.
type fakeWork struct {
	main    *ipc.Conn
	sec     atomic.Pointer[ipc.Conn]
	who     *ipc.Identity
	config  *ipc.WorkerConfig
	startup *ipc.WorkerStartup
	replies chan *ipc.Record // AUTH_COOKIE_REP
	deaf    bool             // TERMINATE and RETIRE are not obeyed
	flows   uint32           // kept after RETIRE
	asked   uint64           // times, for its counters
	late    atomic.Pointer[ipc.Why]

	mu     sync.Mutex
	client net.Conn
}

func fakeWorker() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	if _, err := os.Stat("crash"); err == nil {
		quit(3)
	}
	fds := openFDs()
	mainConn, err := ipc.NewConn(3)
	must(err)
	secConn, err := ipc.NewConn(4)
	must(err)
	w := &fakeWork{main: mainConn, replies: make(chan *ipc.Record, 1)}
	w.sec.Store(secConn)
	if _, err := os.Stat("mute"); err == nil {
		time.Sleep(time.Hour)
	}
	must(w.main.Send(ipc.WorkerReadyT, 0, &ipc.WorkerReady{Confinement: "none"}))
	if _, err := os.Stat("crash-idle"); err == nil {
		quit(3)
	}
	rec, err := w.main.Recv()
	if err != nil || rec.Type == ipc.TerminateT {
		return
	}
	w.startup = new(ipc.WorkerStartup)
	must(rec.Decode(w.startup))
	w.who = w.startup.Identity
	f := os.NewFile(uintptr(rec.TakeFD(0)), "client")
	w.client, err = net.FileConn(f)
	must(err)
	f.Close()
	w.config = new(ipc.WorkerConfig)
	must(ipc.ReadSealedMessage(rec.FDs[1], w.config))
	rec.Close()
	go w.listen()
	in := bufio.NewScanner(w.client)
	for in.Scan() {
		w.obey(strings.Fields(in.Text()), fds)
	}
}

func (w *fakeWork) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(w.client, format+"\n", args...)
}

// listen takes what main says and tells the client.
func (w *fakeWork) listen() {
	for {
		rec, err := w.main.Recv()
		if err != nil {
			quit(0)
		}
		switch rec.Type {
		case ipc.AuthCookieRepT:
			w.replies <- &rec
		case ipc.TerminateT:
			var m ipc.Terminate
			must(rec.Decode(&m))
			w.say("terminate %v %v", m.Reason, m.TellClient)
			if !w.deaf {
				w.main.Send(ipc.SessionStatsT, 0, &ipc.SessionStats{BytesUp: 1, BytesDown: 2, Reason: m.Reason})
				quit(0)
			}
		case ipc.RetireT:
			w.retire(rec)
		case ipc.UDPFdT, ipc.UDPDatagramsT, ipc.UDPOfferT:
			w.udp(rec)
		case ipc.WorkerStatsReqT:
			w.asked++
			w.main.Send(ipc.WorkerStatsT, 0, &ipc.WorkerStats{BytesUp: 100 * w.asked, BytesDown: 7, Counters: []uint64{w.asked}, TcpFlows: 4})
		case ipc.WhyT:
			var m ipc.Why
			must(rec.Decode(&m))
			if m.Host == "late.example" { // answered when the client says so
				w.late.Store(&m)
				w.say("why")
				continue
			}
			w.main.Send(ipc.WhyAnswerT, 0, whyAnswer(&m))
		case ipc.HostInfoT:
			w.say("hostinfo")
		case ipc.PortsT:
			var m ipc.Ports
			must(rec.Decode(&m))
			w.say("ports %d", m.More)
		case ipc.SecModFdT:
			c, err := ipc.NewConn(rec.TakeFD(0))
			must(err)
			w.sec.Store(c)
			w.say("secmod")
		}
	}
}

// retire says by the pair which process this is, and stays if it has flows.
func (w *fakeWork) retire(rec ipc.Record) {
	var m ipc.Retire
	must(rec.Decode(&m))
	w.say("retire gen=%d", m.Generation)
	if w.deaf {
		return
	}
	w.main.Send(ipc.RetiredT, 0, &ipc.Retired{Stats: &ipc.SessionStats{BytesUp: 3, BytesDown: 4, Reason: ipc.Reason_REASON_REPLACED}, TcpFlows: w.flows})
	must(unix.Sendto(rec.FDs[0], []byte(strconv.Itoa(os.Getpid())), 0, nil))
	if w.flows == 0 {
		quit(0)
	}
}

// udp tells the client what came, and answers on the new socket.
func (w *fakeWork) udp(rec ipc.Record) {
	var m ipc.UdpFd
	must(rec.Decode(&m))
	var sizes []string
	for _, d := range m.Datagrams {
		sizes = append(sizes, strconv.Itoa(len(d))+":"+string(d[len(d)-1:]))
	}
	w.say("%v %v %v %s", rec.Type, ipc.AddrPort(m.Peer), ipc.AddrPort(m.Local), strings.Join(sizes, ","))
	if rec.Type != ipc.UDPFdT {
		return
	}
	f := os.NewFile(uintptr(rec.TakeFD(0)), "udp")
	c, err := net.FileConn(f)
	must(err)
	f.Close()
	go func() {
		var b [2048]byte
		for {
			n, err := c.Read(b[:])
			if err != nil {
				continue
			}
			c.Write(append([]byte("echo "), b[:n]...))
		}
	}()
}

func (w *fakeWork) obey(cmd []string, fds string) {
	switch cmd[0] {
	case "hello":
		w.say("hi pid=%d conn=%d peer=%v local=%v gen=%d udp=%d timeout=%d env=%v args=%v fds=%s", os.Getpid(), w.who.ConnId, ipc.AddrPort(w.who.Peer),
			ipc.AddrPort(w.who.Local), w.startup.Generation, w.config.UdpPort, w.config.AuthTimeoutS, os.Environ(), os.Args[1:], fds)
	case "sign":
		var rep ipc.SignRep
		must(w.sec.Load().Call(ipc.SignT, &ipc.SignReq{}, ipc.SignRepT, &rep))
		w.say("signed %v", ipc.AddrPort(rep.Signature))
	case "open":
		sid, err := hex.DecodeString(cmd[1])
		must(err)
		w.main.Send(ipc.AuthCookieReqT, 0, &ipc.AuthCookieReq{Sid: sid, WantIpv4: true, WantIpv6: true, Hostname: "laptop", UserAgent: "fake/1"})
		go func() { w.opened(<-w.replies) }()
	case "info":
		psk, err := hex.DecodeString(cmd[1])
		must(err)
		info := &ipc.SessionInfo{PskSha256: psk, TlsSuite: "(TLS1.3)", Mtu: 1400}
		if len(cmd) > 2 {
			info.DtlsPeer = ipc.PutAddrPort(netip.MustParseAddrPort(cmd[2]))
		}
		w.main.Send(ipc.SessionInfoT, 0, info)
		w.say("done")
	case "why":
		w.main.Send(ipc.WhyAnswerT, 0, whyAnswer(w.late.Load()))
		w.say("done")
	case "ban":
		w.main.Send(ipc.BanIPT, 0, &ipc.BanIP{Score: 1000, Cause: "misbehaviour"})
	case "ports":
		more, _ := strconv.Atoi(cmd[1])
		back, _ := strconv.Atoi(cmd[2])
		w.main.Send(ipc.PortsReqT, 0, &ipc.Ports{More: uint32(more), Back: uint32(back)})
		if more == 0 {
			w.say("done")
		}
	case "exit":
		reason, _ := strconv.Atoi(cmd[1])
		w.main.Send(ipc.SessionStatsT, 0, &ipc.SessionStats{BytesUp: 10, BytesDown: 20, Reason: ipc.Reason(reason)})
		quit(0)
	case "orphan": // a descendant that holds our channel
		_, err := syscall.ForkExec("/proc/self/exe", []string{"orphan", orphanArg}, &syscall.ProcAttr{Files: []uintptr{0, 1, 2, 3}})
		must(err)
		quit(0)
	case "keep":
		w.flows = 1
		w.say("done")
	case "detach":
		reason, _ := strconv.Atoi(cmd[1])
		w.flows = 1
		w.main.Send(ipc.DetachedT, 0, &ipc.Detached{Stats: &ipc.SessionStats{BytesUp: 10, BytesDown: 20, Reason: ipc.Reason(reason)}, TcpFlows: 1})
		w.say("done")
	case "deaf":
		w.deaf = true
		w.say("done")
	case "stall": // read nothing of main's any more
		w.say("done")
		syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case "log":
		slog.New(rolelog.NewHandler(os.Stderr, slog.LevelDebug)).Info("from the worker", "text", strings.Join(cmd[1:], " "))
		w.say("done")
	case "misbehave":
		w.misbehave(cmd[1])
	}
}

func (w *fakeWork) opened(rec *ipc.Record) {
	var rep ipc.AuthCookieRep
	must(rec.Decode(&rep))
	if rep.Result != ipc.CookieResult_COOKIE_OK {
		w.say("%v %s", rep.Result, rep.Reason)
		return
	}
	var cfg ipc.SessionConfig
	must(ipc.ReadSealedMessage(rec.FDs[0], &cfg))
	if len(cfg.Egress.GetWays()) == 0 {
		w.say("not the worker's configuration")
		return
	}
	keepers := ""
	for _, fd := range rec.FDs[1:] {
		var b [16]byte
		n, _, err := unix.Recvfrom(fd, b[:], 0)
		must(err)
		keepers += "," + string(b[:n])
	}
	w.say("ok %v %s %s gen=%d ports=%d app=%x psk=%x banner=%s%s", ipc.Addr(rep.Lease.Ipv4), rep.User, rep.ShortId, rep.Generation, rep.Ports.GetMore(), rep.AppId, rep.PreviousPskSha256, cfg.Banner, keepers)
}

func (w *fakeWork) misbehave(how string) {
	switch how {
	case "ready-again":
		w.main.Send(ipc.WorkerReadyT, 0, &ipc.WorkerReady{})
	case "info-before-login":
		w.main.Send(ipc.SessionInfoT, 0, &ipc.SessionInfo{})
	case "foreign-type":
		w.main.Send(ipc.SecmEndedT, 0, &ipc.SecmEnded{SafeIds: []string{"x"}})
	case "short-sid":
		w.main.Send(ipc.AuthCookieReqT, 0, &ipc.AuthCookieReq{Sid: []byte("short")})
	case "stats-unasked":
		w.main.Send(ipc.WorkerStatsT, 0, &ipc.WorkerStats{})
	case "why-unasked":
		w.main.Send(ipc.WhyAnswerT, 0, &ipc.WhyAnswer{})
	case "with-id":
		w.main.Send(ipc.BanIPT, 9, &ipc.BanIP{})
	case "ports-before-login":
		w.main.Send(ipc.PortsReqT, 0, &ipc.Ports{More: 32})
	case "cookie-twice":
		sid := testSID(sidRefused, 1, 0, false, 0)
		for range 2 {
			w.main.Send(ipc.AuthCookieReqT, 0, &ipc.AuthCookieReq{Sid: sid})
		}
	case "flood":
		for w.main.Send(ipc.BanIPT, 0, &ipc.BanIP{}) == nil {
		}
	case "retired":
		w.main.Send(ipc.RetiredT, 0, &ipc.Retired{})
	case "detached-before-login":
		w.main.Send(ipc.DetachedT, 0, &ipc.Detached{})
	case "close-channel":
		w.main.Close()
	case "panic":
		panic("deliberate")
	}
	time.Sleep(time.Minute) // main ends this
}
