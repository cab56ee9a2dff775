package secmod

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"rocserv/internal/ipc"
	"rocserv/internal/ocpasswd"
)

// site is a folder with what a configuration names.
type site struct {
	t    testing.TB
	dir  string
	conf []string // lines of the configuration
}

// newSite makes a site with one ECDSA key and these lines in its users file.
func newSite(t testing.TB, users ...string) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "secmod") // a test's own folder has its name, with commas
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	st := &site{t: t, dir: dir}
	st.write("users", strings.Join(users, "\n")+"\n")
	st.conf = []string{
		`auth = "plain[passwd=` + st.path("users") + `]"`,
		"socket-file = " + st.path("sock"),
		"tcp-port = 8443",
		"device = vpns",
		"ipv4-network = 10.9.0.0/16",
		"cookie-timeout = 300",
	}
	st.key("", "p256", newPrivate(t, "p256"))
	return st
}

func (st *site) path(name string) string { return filepath.Join(st.dir, name) }

func (st *site) write(name, text string) string {
	st.t.Helper()
	if err := os.WriteFile(st.path(name), []byte(text), 0o600); err != nil {
		st.t.Fatal(err)
	}
	return st.path(name)
}

func (st *site) add(lines ...string) { st.conf = append(st.conf, lines...) }

func (st *site) text() []byte { return []byte(strings.Join(st.conf, "\n") + "\n") }

// key writes a self-signed certificate and its key and adds them to the configuration.
func (st *site) key(vhost, name string, priv crypto.Signer) {
	st.t.Helper()
	host := vhost
	if host == "" {
		host = "vpn.example"
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, priv.Public(), priv)
	if err != nil {
		st.t.Fatal(err)
	}
	p8, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		st.t.Fatal(err)
	}
	cert := st.write(name+".crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	key := st.write(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: p8})))
	st.add("server-cert = "+cert, "server-key = "+key)
}

func newPrivate(t testing.TB, kind string) (priv crypto.Signer) {
	t.Helper()
	var err error
	switch kind {
	case "rsa":
		priv, err = rsa.GenerateKey(rand.Reader, 2048)
	case "p256":
		priv, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "p384":
		priv, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "p521":
		priv, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "ed25519":
		_, priv, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return priv
}

// hashOf makes the line of a user.
func hashOf(t testing.TB, user, groups, password string) string {
	t.Helper()
	h, err := ocpasswd.Hash(ocpasswd.SHA256, []byte(password))
	if err != nil {
		t.Fatal(err)
	}
	return user + ":" + groups + ":" + h
}

// fakeClock is a clock that only a test moves.
type fakeClock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *fakeClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *fakeClock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// rig is a sec-mod with a main that is this test.
type rig struct {
	t     testing.TB
	s     *server
	main  *ipc.Conn
	clock *fakeClock
	log   *safeBuffer
	end   chan error // what serve returned

	mu      sync.Mutex
	nextID  uint32
	conns   uint64
	waiting map[uint32]chan ipc.Record
	notes   chan ipc.Record // SECM_BAN_IP, SECM_ENDED
	held    map[string]*ipc.SecmRecord

	helper func(*ipc.SecmHelperReq) (fd int, err error) // starts login helpers; nil: there are none
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// newRig starts a sec-mod without a configuration. prep changes it before.
func newRig(t testing.TB, prep ...func(*server)) *rig {
	t.Helper()
	near, far, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	its, err := ipc.NewConn(far)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, main: near, clock: &fakeClock{t: time.Now()}, log: new(safeBuffer), end: make(chan error, 1),
		waiting: map[uint32]chan ipc.Record{}, held: map[string]*ipc.SecmRecord{}, notes: make(chan ipc.Record, 10000)}
	r.s = newServer(Options{Main: its, Log: slog.New(slog.NewTextHandler(r.log, nil)), Now: r.clock.now})
	for _, p := range prep {
		p(r.s)
	}
	go func() {
		err := r.s.serve()
		r.s.stop()
		r.end <- err
	}()
	go r.read()
	t.Cleanup(func() { near.Close() })
	return r
}

// read hands answers to who waits for them.
func (r *rig) read() {
	for {
		rec, err := r.main.Recv()
		if err != nil {
			r.mu.Lock()
			for id, c := range r.waiting {
				close(c)
				delete(r.waiting, id)
			}
			r.waiting = nil
			r.mu.Unlock()
			close(r.notes)
			return
		}
		if rec.Type == ipc.SecmRecordT {
			r.keep(&rec)
			continue
		}
		if rec.Type == ipc.SecmHelperReqT {
			go r.startHelper(&rec)
			continue
		}
		if rec.ID == 0 {
			r.notes <- rec
			continue
		}
		r.mu.Lock()
		c := r.waiting[rec.ID]
		delete(r.waiting, rec.ID)
		r.mu.Unlock()
		c <- rec
	}
}

// startHelper does with a SECM_HELPER_REQ what main does.
func (r *rig) startHelper(rec *ipc.Record) {
	q := new(ipc.SecmHelperReq)
	if err := rec.Decode(q); err != nil {
		r.t.Error(err)
	}
	r.mu.Lock()
	start := r.helper
	r.mu.Unlock()
	rep := &ipc.SecmHelper{Token: q.Token, Error: "there are none"}
	var fds []int
	if start != nil {
		fd, err := start(q)
		if rep.Error = ""; err != nil {
			rep.Error = err.Error()
		} else {
			fds = append(fds, fd)
			defer unix.Close(fd)
		}
	}
	r.main.Send(ipc.SecmHelperT, 0, rep, fds...)
}

// keep does with a record what main does.
func (r *rig) keep(rec *ipc.Record) {
	m := new(ipc.SecmRecord)
	if err := rec.Decode(m); err != nil {
		r.t.Error(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(m.Sealed) == 0 {
		delete(r.held, m.SafeId)
	} else {
		r.held[m.SafeId] = m
	}
}

var errNoAnswer = errors.New("sec-mod ended")

// ask is one request of main's.
func (r *rig) ask(t ipc.Type, q ipc.Message, rep ipc.Message, fds ...int) (ipc.Record, error) {
	r.mu.Lock()
	if r.waiting == nil {
		r.mu.Unlock()
		return ipc.Record{}, errNoAnswer
	}
	r.nextID++
	id, c := r.nextID, make(chan ipc.Record, 1)
	r.waiting[id] = c
	r.mu.Unlock()
	if err := r.main.Send(t, id, q, fds...); err != nil {
		return ipc.Record{}, err
	}
	rec, ok := <-c
	if !ok {
		return ipc.Record{}, errNoAnswer
	}
	return rec, rec.Decode(rep)
}

// configure gives sec-mod a configuration.
func (r *rig) configure(generation uint64, text []byte) *ipc.SecmConfigRep {
	r.t.Helper()
	fd, err := ipc.Seal("config", text)
	if err != nil {
		r.t.Fatal(err)
	}
	defer unix.Close(fd)
	rep := new(ipc.SecmConfigRep)
	if _, err := r.ask(ipc.SecmConfigT, &ipc.SecmConfig{Generation: generation, Name: "ocserv.conf"}, rep, fd); err != nil {
		r.t.Fatal(err)
	}
	return rep
}

// boot starts a sec-mod with a site's configuration in effect.
func boot(t testing.TB, st *site, prep ...func(*server)) *rig {
	t.Helper()
	r := newRig(t, prep...)
	if rep := r.configure(1, st.text()); rep.Error != "" {
		t.Fatalf("configuration: %s", rep.Error)
	}
	return r
}

const home = "192.0.2.1"

// worker names a worker whose client is at peer and returns the worker's end.
func (r *rig) worker(peer string) (*ipc.Conn, uint64) {
	r.t.Helper()
	near, far, err := ipc.Pair()
	if err != nil {
		r.t.Fatal(err)
	}
	defer unix.Close(far)
	r.mu.Lock()
	r.conns++
	id := r.conns
	r.mu.Unlock()
	if err := r.name(id, peer, far); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { near.Close() })
	return near, id
}

func (r *rig) name(id uint64, peer string, fd int) error {
	addr := netip.AddrPortFrom(netip.MustParseAddr(peer), 4711)
	return r.main.Send(ipc.SecmWorkerT, 0, &ipc.SecmWorker{Identity: &ipc.Identity{ConnId: id, Peer: ipc.PutAddrPort(addr)}}, fd)
}

// handshaken names a worker and takes it through the handshake.
func (r *rig) handshaken(peer string) (*ipc.Conn, uint64) {
	r.t.Helper()
	c, id := r.worker(peer)
	rep := new(ipc.SignRep)
	if err := c.Call(ipc.SignT, signReq(), ipc.SignRepT, rep); err != nil || rep.Error != "" {
		r.t.Fatalf("SEC_SIGN: %v %s", err, rep.Error)
	}
	return c, id
}

// signReq is what a worker asks for with the site's P-256 key.
func signReq() *ipc.SignReq {
	text := strings.Repeat(" ", 64) + "TLS 1.3, server CertificateVerify\x00" + strings.Repeat("h", 32)
	return &ipc.SignReq{Scheme: 0x0403, Message: []byte(text)}
}

func call[A any, PA message[A]](t testing.TB, c *ipc.Conn, ask ipc.Type, q ipc.Message, want ipc.Type) PA {
	t.Helper()
	rep := PA(new(A))
	if err := c.Call(ask, q, want, rep); err != nil {
		t.Fatalf("%v: %v", ask, err)
	}
	return rep
}

func authInit(t testing.TB, c *ipc.Conn, q *ipc.AuthInit) *ipc.AuthReply {
	t.Helper()
	return call[ipc.AuthReply](t, c, ipc.AuthInitT, q, ipc.AuthReplyT)
}

func authCont(t testing.TB, c *ipc.Conn, sid []byte, password string) *ipc.AuthReply {
	t.Helper()
	return call[ipc.AuthReply](t, c, ipc.AuthContT, &ipc.AuthCont{Sid: sid, Password: []byte(password)}, ipc.AuthReplyT)
}

// login logs in and returns the cookie.
func (r *rig) login(c *ipc.Conn, user, password string) []byte {
	r.t.Helper()
	rep := authInit(r.t, c, &ipc.AuthInit{User: user})
	if rep.Status == ipc.AuthStatus_AUTH_MSG {
		rep = authCont(r.t, c, rep.Sid, password)
	}
	if rep.Status != ipc.AuthStatus_AUTH_OK {
		r.t.Fatalf("login of %s: %v", user, rep)
	}
	return rep.Sid
}

// openSession asks for the tunnel the way main does.
func (r *rig) openSession(cookie []byte, conn uint64) (*ipc.SecmSessionReply, *ipc.SessionConfig) {
	r.t.Helper()
	rep := new(ipc.SecmSessionReply)
	rec, err := r.ask(ipc.SecmSessionOpenT, &ipc.SecmSessionOpen{Sid: bytes.Clone(cookie), ConnId: conn, Hostname: "laptop"}, rep)
	if err != nil {
		r.t.Fatal(err)
	}
	defer rec.Close()
	if rep.Ok != (len(rec.FDs) == 2) {
		r.t.Fatalf("%d descriptors with ok = %t", len(rec.FDs), rep.Ok)
	}
	if !rep.Ok {
		return rep, nil
	}
	conf := new(ipc.SessionConfig)
	if err := ipc.ReadSealedMessage(rec.FDs[0], conf); err != nil {
		r.t.Fatal(err)
	}
	r.checkShown(rec.FDs[1], conf)
	return rep, conf
}

// checkShown fails the test unless main is shown all but the egress policy.
func (r *rig) checkShown(fd int, whole *ipc.SessionConfig) {
	r.t.Helper()
	shown, want := new(ipc.SessionConfig), proto.CloneOf(whole)
	if err := ipc.ReadSealedMessage(fd, shown); err != nil {
		r.t.Fatal(err)
	}
	want.Egress = nil
	if whole.Egress == nil || !proto.Equal(shown, want) {
		r.t.Fatalf("main may read %v of %v", shown, whole)
	}
}

func (r *rig) closeSession(safeID string, conn uint64, why ipc.Reason) *ipc.SecmCliStats {
	r.t.Helper()
	rep := new(ipc.SecmCliStats)
	if _, err := r.ask(ipc.SecmSessionCloseT, &ipc.SecmSessionClose{SafeId: safeID, ConnId: conn, Reason: why}, rep); err != nil {
		r.t.Fatal(err)
	}
	return rep
}

// gone reports whether sec-mod closes this channel, after whatever it answers.
func gone(c *ipc.Conn) bool {
	var gaveUp atomic.Bool
	defer time.AfterFunc(10*time.Second, func() { gaveUp.Store(true); c.Close() }).Stop()
	for {
		rec, err := c.Recv()
		if err != nil {
			return !gaveUp.Load() && hungUp(err)
		}
		rec.Close()
	}
}

// eventually waits until cond holds: for what another goroutine is about to do.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatalf("%s did not come about", what)
}

// bans counts the points main was told of since the last call, by address.
func (r *rig) bans() (score map[string]uint32) {
	r.t.Helper()
	r.closeSession("nobody's", 0, 0) // what was sent before its answer is read
	score = map[string]uint32{}
	for {
		select {
		case rec, ok := <-r.notes:
			if !ok {
				return score
			}
			m := new(ipc.SecmBanIP)
			if rec.Type == ipc.SecmBehindT {
				continue // many signatures at once, on a slow machine
			}
			if rec.Type != ipc.SecmBanIPT || rec.Decode(m) != nil {
				r.t.Fatalf("a %v", rec.Type)
			}
			score[ipc.Addr(m.Peer).String()] += m.Score
		default:
			return score
		}
	}
}

// alive fails the test unless another worker is served as ever.
func (r *rig) alive() {
	r.t.Helper()
	c, _ := r.handshaken(home)
	if rep := authInit(r.t, c, &ipc.AuthInit{User: "anna"}); rep.Status != ipc.AuthStatus_AUTH_MSG {
		r.t.Fatalf("another worker's login: %v", rep)
	}
	c.Close()
}

// reconfigured swaps a changed copy of the default virtual host in.
func (r *rig) reconfigured(change func(*vhost)) {
	was := r.s.gens.Load()
	v := *was.current.vhosts[""]
	change(&v)
	gen := *was.current
	gen.vhosts = maps.Clone(was.current.vhosts)
	gen.vhosts[""] = &v
	r.s.gens.Store(&generations{current: &gen, previous: was.previous, nextKey: was.nextKey})
}

func status(rep *ipc.AuthReply) string {
	return strings.TrimPrefix(fmt.Sprint(rep.Status), "AUTH_")
}
