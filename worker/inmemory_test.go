package worker

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"rocserv/internal/ipc"
	"rocserv/internal/wire"
	"rocserv/netstack/stacktest"
)

var (
	clientIP = netip.MustParseAddr("10.99.0.7")
	gateV4   = netip.MustParseAddr("10.99.0.1")
	clientV6 = netip.MustParseAddr("fd99::7")
	gateV6   = netip.MustParseAddr("fd99::1")
	webHost  = netip.MustParseAddrPort("192.0.2.80:80")
	webV6    = netip.MustParseAddrPort("[2001:db8:1::80]:80")
)

// world is everything around one worker, in memory: main and sec-mod played by
// goroutines, a network of scripted hosts, and a TCP connection for the client.
type world struct {
	t       testing.TB
	net     *stacktest.Network
	main    *ipc.Conn
	clientC net.Conn
	served  chan error
	played  sync.WaitGroup // main and sec-mod have read everything
	sid     []byte
	key     *ecdsa.PrivateKey
	rsa     atomic.Pointer[rsa.PrivateKey] // of key index rsaKey
	profile atomic.Value                   // string, of every user; a socket between the goroutines orders nothing for the race detector
	tickets *tickets

	mu     sync.Mutex
	stats  *ipc.SessionStats
	kept   []ipc.Message // DETACHED, RETIRED and WORKER_STATS
	pairs  []int         // to keepers, for AUTH_COOKIE_REP
	ports  *hostPorts    // nil: main does not count them
	infos  []*ipc.SessionInfo
	final  *ipc.CliStats
	signed int
	logins []string
}

func newWorld(t testing.TB, clock tcpip.Clock, tune func(*ipc.WorkerConfig, *ipc.SessionConfig)) *world {
	t.Helper()
	w := &world{t: t, tickets: new(tickets), net: stacktest.NewNetwork(), served: make(chan error, 1), sid: bytes.Repeat([]byte{0x5a}, 32)}
	t.Cleanup(w.net.Close)
	var err error
	w.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var mainFar, secFar int
	var sec *ipc.Conn
	if w.main, mainFar, err = ipc.Pair(); err != nil {
		t.Fatal(err)
	}
	if sec, secFar, err = ipc.Pair(); err != nil {
		t.Fatal(err)
	}
	workerMain, err := ipc.NewConn(mainFar)
	if err != nil {
		t.Fatal(err)
	}
	workerSec, err := ipc.NewConn(secFar)
	if err != nil {
		t.Fatal(err)
	}
	wc, sc := w.configs()
	if tune != nil {
		tune(wc, sc)
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	w.played.Go(func() { w.playSecMod(sec) })
	w.played.Go(func() { w.playMain(sc) })
	go func() {
		w.served <- Serve(Options{
			Main: workerMain, SecMod: workerSec, Log: log, Clock: clock,
			Outside: func(OutsideConfig) (Outside, error) {
				return Outside{Net: w.net, Close: func() {}}, nil
			},
		})
		workerMain.Close() // as the end of a process does
	}()
	w.startWorker(wc)
	t.Cleanup(func() { w.clientC.Close(); w.main.Close(); sec.Close() })
	return w
}

func (w *world) configs() (*ipc.WorkerConfig, *ipc.SessionConfig) {
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, w.key.Public(), w.key)
	if err != nil {
		w.t.Fatal(err)
	}
	return &ipc.WorkerConfig{
			AuthTimeoutS: 60, ServerName: "test",
			Vhosts: []*ipc.Vhost{{Chains: []*ipc.Chain{{Der: [][]byte{der}, Kind: ipc.KeyKind_KEY_ECDSA_P256}}, CookieTimeoutS: 300, DtlsPsk: true,
				HttpHeaders: []string{"Strict-Transport-Security: max-age=31536000"}}},
		}, &ipc.SessionConfig{
			DpdS: 90, KeepaliveS: 32400, RekeyS: 172800, RekeyNewTunnel: true,
			Routes: []string{"192.0.2.0/255.255.255.0", "2001:db8::/32"}, Banner: "Welcome",
		}
}

// startWorker hands the worker a connection, as main does.
func (w *world) startWorker(wc *ipc.WorkerConfig) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	defer ln.Close()
	if w.clientC, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		w.t.Fatal(err)
	}
	in, err := ln.Accept()
	if err != nil {
		w.t.Fatal(err)
	}
	defer in.Close()
	fd, err := ipc.SealMessage("config", wc)
	if err != nil {
		w.t.Fatal(err)
	}
	defer unix.Close(fd)
	rc, err := in.(*net.TCPConn).SyscallConn()
	if err != nil {
		w.t.Fatal(err)
	}
	rc.Control(func(tcp uintptr) {
		err = w.main.Send(ipc.WorkerStartupT, 0, &ipc.WorkerStartup{
			Identity: &ipc.Identity{ConnId: 1, Peer: ipc.PutAddrPort(netip.MustParseAddrPort("198.51.100.9:1234")),
				Local: ipc.PutAddrPort(netip.MustParseAddrPort("198.51.100.1:443")), StartUnixMs: time.Now().UnixMilli()},
			Generation: 1, Host: &ipc.HostInfo{Ipv4Out: true, Ipv6Out: true},
		}, int(tcp), fd)
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) playMain(sc *ipc.SessionConfig) {
	for {
		rec, err := w.main.Recv()
		if err != nil {
			return
		}
		switch rec.Type {
		case ipc.AuthCookieReqT:
			var req ipc.AuthCookieReq
			rec.Decode(&req)
			w.answerCookie(&req, sc)
		case ipc.SessionInfoT:
			m := new(ipc.SessionInfo)
			rec.Decode(m)
			w.mu.Lock()
			w.infos = append(w.infos, m)
			w.mu.Unlock()
		case ipc.SessionStatsT:
			m := new(ipc.SessionStats)
			rec.Decode(m)
			w.mu.Lock()
			w.stats = m
			w.mu.Unlock()
		case ipc.PortsReqT:
			w.grant(&rec)
		case ipc.WorkerStatsT:
			w.keep(&rec, new(ipc.WorkerStats))
		case ipc.DetachedT:
			w.keep(&rec, new(ipc.Detached))
		case ipc.RetiredT:
			w.keep(&rec, new(ipc.Retired))
		}
		rec.Close()
	}
}

func (w *world) answerCookie(req *ipc.AuthCookieReq, sc *ipc.SessionConfig) {
	if !bytes.Equal(req.Sid, w.sid) {
		w.main.Send(ipc.AuthCookieRepT, 0, &ipc.AuthCookieRep{})
		return
	}
	fd, err := ipc.SealMessage("session", sc)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	lease := &ipc.Lease{Ipv4: ipc.PutAddr(clientIP), Ipv4Gateway: ipc.PutAddr(gateV4), Ipv4Bits: 24}
	if req.WantIpv6 {
		lease.Ipv6, lease.Ipv6Gateway, lease.Ipv6Bits = ipc.PutAddr(clientV6), ipc.PutAddr(gateV6), 64
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.main.Send(ipc.AuthCookieRepT, 0, &ipc.AuthCookieRep{
		Result: ipc.CookieResult_COOKIE_OK, AppId: make([]byte, 32), User: "alice", ShortId: "abcdef",
		LoginUnixMs: time.Now().UnixMilli(), Lease: lease, Ports: w.ports.open(),
	}, append([]int{fd}, w.pairs...)...)
	closeFDs(w.pairs)
}

func (w *world) keep(rec *ipc.Record, m ipc.Message) {
	rec.Decode(m)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept = append(w.kept, m)
}

func (w *world) playSecMod(c *ipc.Conn) {
	loggedIn := false
	for {
		rec, err := c.Recv()
		if err != nil {
			return
		}
		if loggedIn && (rec.Type == ipc.AuthInitT || rec.Type == ipc.AuthContT) { // sec-mod calls that a violation
			c.Close()
			return
		}
		switch rec.Type {
		case ipc.SignT:
			var req ipc.SignReq
			rec.Decode(&req)
			sig, err := w.sign(&req)
			w.mu.Lock()
			w.signed++
			w.mu.Unlock()
			c.Send(ipc.SignRepT, 0, &ipc.SignRep{Signature: sig, Error: errText(err)})
		case ipc.AuthInitT:
			var req ipc.AuthInit
			if rec.Decode(&req) != nil { // sec-mod calls that a violation
				c.Close()
				return
			}
			w.mu.Lock()
			w.logins = append(w.logins, req.User)
			w.mu.Unlock()
			rep := &ipc.AuthReply{Status: ipc.AuthStatus_AUTH_MSG, Sid: w.sid, Message: wire.PromptPassword}
			if req.Method == ipc.AuthMethod_AUTH_SSO {
				rep.LoginUrl, rep.FinalUrl = fmt.Sprintf("https://vpn/login?%v&%s&%s", req.Browser.External, req.Browser.Key, req.Browser.SecretQuery), "https://vpn/done"
			}
			c.Send(ipc.AuthReplyT, 0, rep)
		case ipc.BrowseT:
			var req ipc.Browse
			rec.Decode(&req)
			c.Send(ipc.BrowsedT, 0, browsedFor(&req))
		case ipc.AuthContT:
			var req ipc.AuthCont
			rec.Decode(&req)
			rep := &ipc.AuthReply{Status: ipc.AuthStatus_AUTH_MSG, Sid: w.sid, Message: wire.PromptFailed}
			switch string(req.Password) {
			case "right":
				rep = &ipc.AuthReply{Status: ipc.AuthStatus_AUTH_OK, Sid: w.sid, User: "alice"}
				if profile, ok := w.profile.Load().(string); ok {
					sum := sha1.Sum([]byte(profile))
					rep.ProfileName, rep.ProfileSha1 = "our profile.xml", sum[:]
				}
			case "first leg":
				rep.Leg = []byte("and you")
			case "second leg":
				rep = &ipc.AuthReply{Status: ipc.AuthStatus_AUTH_OK, Sid: w.sid, User: "alice", Leg: []byte("welcome")}
			case "busy":
				rep = &ipc.AuthReply{Status: ipc.AuthStatus_AUTH_BUSY, Sid: w.sid}
			case "last":
				rep = &ipc.AuthReply{Status: ipc.AuthStatus_AUTH_FAILED}
			}
			loggedIn = rep.Status == ipc.AuthStatus_AUTH_OK
			c.Send(ipc.AuthReplyT, 0, rep)
		case ipc.ResumeSealT:
			var req ipc.ResumeReq
			rec.Decode(&req)
			c.Send(ipc.ResumeRepT, 0, &ipc.ResumeRep{Data: w.tickets.seal(req.Data)})
		case ipc.ResumeOpenT:
			var req ipc.ResumeReq
			rec.Decode(&req)
			c.Send(ipc.ResumeRepT, 0, &ipc.ResumeRep{Data: w.tickets.open(req.Data)})
		case ipc.KDCT:
			var req ipc.KDCReq
			rec.Decode(&req)
			rep := new(ipc.KDCRep)
			if string(req.Message) != "dead" {
				rep.Message = append([]byte("answer on "+req.Path+" to "), req.Message...)
			}
			c.Send(ipc.KDCRepT, 0, rep)
		case ipc.ProfileT:
			w.answerProfile(c, &rec)
		case ipc.CliStatsT:
			m := new(ipc.CliStats)
			rec.Decode(m)
			w.mu.Lock()
			w.final = m
			w.mu.Unlock()
		}
	}
}

// rsaKey is the key index of a world's RSA key.
const rsaKey = 7

func (w *world) sign(req *ipc.SignReq) ([]byte, error) {
	hash := map[uint32]crypto.Hash{4: crypto.SHA256, 5: crypto.SHA384, 6: crypto.SHA512}
	var opts crypto.SignerOpts = hash[req.Scheme>>8]
	if req.Scheme>>8 == 8 { // rsa_pss_rsae
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash[req.Scheme&0xff]}
	}
	if req.KeyIndex != rsaKey {
		return crypto.SignMessage(w.key, rand.Reader, req.Message, opts)
	}
	return crypto.SignMessage(w.rsa.Load(), rand.Reader, req.Message, opts)
}

func (w *world) answerProfile(c *ipc.Conn, rec *ipc.Record) {
	var req ipc.ProfileReq
	rec.Decode(&req)
	profile, ok := w.profile.Load().(string)
	if !ok || !bytes.Equal(req.Sid, w.sid) {
		c.Send(ipc.ProfileRepT, 0, new(ipc.Nothing))
		return
	}
	fd, err := ipc.Seal("profile", []byte(profile))
	if err != nil {
		return
	}
	defer unix.Close(fd)
	c.Send(ipc.ProfileRepT, 0, new(ipc.Nothing), fd)
}

func errText(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

func (w *world) wait() error {
	w.t.Helper()
	select {
	case err := <-w.served:
		w.played.Wait()
		return err
	case <-time.After(20 * time.Second):
		w.t.Fatal("the worker does not end")
	}
	return nil
}

func TestWorkerFromHandshakeToGoodbye(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.net.Serve(webHost, stacktest.Echo)
	w.net.Serve(webV6, stacktest.Echo)
	w.net.ServeUDP(netip.MustParseAddrPort("192.0.2.53:5353"), func(p []byte) []byte { return append([]byte("re: "), p...) })
	w.net.Pingable(webHost.Addr())
	c := w.dial()
	_, head, form := c.request("POST", "/", `<config-auth client="vpn" type="init"></config-auth>`)
	if !strings.Contains(form, `name="username"`) || !strings.Contains(form, `name="password"`) {
		t.Errorf("form without both fields: %s", form)
	}
	if !strings.Contains(head, "Strict-Transport-Security: max-age=31536000\n") {
		t.Errorf("the operator's header is missing:\n%s", head)
	}
	c.connect(c.login())
	for k, want := range map[string]string{
		"X-CSTP-Address": clientIP.String(), "X-CSTP-Netmask": "255.255.255.0", "X-CSTP-Address-IP6": clientV6.String() + "/64",
		"X-CSTP-DPD": "90", "X-CSTP-Rekey-Method": "new-tunnel", "X-CSTP-Banner": "Welcome", "X-CSTP-Server-Name": "test",
		"X-CSTP-Split-Include": "192.0.2.0/255.255.255.0", "X-CSTP-DNS": gateV4.String(),
	} {
		if got := c.head[k]; len(got) == 0 || got[0] != want {
			t.Errorf("%s: %q, want %q", k, got, want)
		}
	}
	for k := range c.head {
		if strings.HasPrefix(k, "X-DTLS") {
			t.Errorf("client without DTLS was told %s", k)
		}
	}
	exchange(t, c, webHost)
	exchange(t, c, webV6)
	udpExchange(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, host := range []netip.Addr{webHost.Addr(), gateV4, gateV6} {
		if got, err := c.Ping(ctx, host, []byte("how far")); err != nil || string(got) != "how far" {
			t.Errorf("ping %v: %q, %v", host, got, err)
		}
	}
	c.frame(wire.DPDReq, []byte("padding"))
	if p := c.await("answer to DPD", wire.DPDResp); len(p.Payload) != 0 {
		t.Errorf("DPD on CSTP was answered with %d bytes", len(p.Payload))
	}
	c.frame(wire.Disconnect, []byte("\xb0bye"))
	if err := w.wait(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.signed != 1 {
		t.Errorf("%d signatures for one handshake", w.signed)
	}
	if w.stats == nil || w.stats.Reason != ipc.Reason_REASON_USER || w.stats.BytesUp < 200000 || w.stats.BytesDown < 200000 {
		t.Errorf("main was told %v", w.stats)
	}
	if w.final == nil || !w.final.Final || w.final.BytesUp != w.stats.BytesUp {
		t.Errorf("sec-mod was told %v", w.final)
	}
	if len(w.infos) == 0 || w.infos[0].Mtu == 0 || w.infos[0].TlsSuite == "" {
		t.Errorf("session info %v", w.infos)
	}
}

// exchange sends 100 KB to an echoing host and compares what comes back.
func exchange(t *testing.T, c *vpnClient, host netip.AddrPort) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := c.DialTCP(ctx, host)
	if err != nil {
		t.Fatalf("%v: %v", host, err)
	}
	defer conn.Close()
	const size = 100 << 10
	go func() {
		io.CopyN(conn, stacktest.Stream(7), size)
		conn.CloseWrite()
	}()
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	got, n, err := stacktest.Checksum(conn)
	want, _, _ := stacktest.Checksum(io.LimitReader(stacktest.Stream(7), size))
	if err != nil || n != size || got != want {
		t.Errorf("%v: %d bytes came back, %v", host, n, err)
	}
}

func udpExchange(t *testing.T, c *vpnClient) {
	t.Helper()
	u, err := c.DialUDP(netip.MustParseAddrPort("192.0.2.53:5353"))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	u.SetDeadline(time.Now().Add(10 * time.Second))
	u.Write([]byte("hello"))
	buf := make([]byte, 100)
	if n, err := u.Read(buf); err != nil || string(buf[:n]) != "re: hello" {
		t.Errorf("UDP: %q, %v", buf[:n], err)
	}
}

func TestWhatCannotBeReachedIsSaid(t *testing.T) {
	w := newWorld(t, nil, nil)
	refused := netip.MustParseAddrPort("192.0.2.1:1")
	unreachable := netip.MustParseAddrPort("192.0.2.2:1")
	denied := netip.MustParseAddrPort("192.0.2.3:1")
	w.net.Fail(unreachable, syscall.EHOSTUNREACH)
	w.net.Prohibit(netip.MustParsePrefix("192.0.2.3/32"))
	c := w.dial()
	c.connect(c.login())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for host, want := range map[netip.AddrPort]error{refused: syscall.ECONNREFUSED, unreachable: syscall.EHOSTUNREACH, denied: syscall.EHOSTUNREACH} {
		if conn, err := c.DialTCP(ctx, host); !errors.Is(err, want) {
			t.Errorf("%v: %v, want %v", host, err, want)
			if err == nil {
				conn.Close()
			}
		}
	}
}

func TestSourceThatIsNotTheLeaseIsDropped(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.net.Pingable(webHost.Addr())
	c := w.dial()
	c.connect(c.login())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var echo []byte // a packet the client really sends, for a template
	c.SetUp(func(pkts [][]byte) { echo = bytes.Clone(pkts[0]); c.up(pkts) })
	if _, err := c.Ping(ctx, gateV4, []byte("x")); err != nil {
		t.Fatal(err)
	}
	spoofed := bytes.Clone(echo)
	spoofed[15]++ // source 10.99.0.8, header checksum put right
	binary.BigEndian.PutUint16(spoofed[10:], binary.BigEndian.Uint16(spoofed[10:])-1)
	c.frame(wire.Data, spoofed)
	c.frame(wire.Data, []byte{0x45})       // no packet at all
	c.frame(wire.Data, nil)                // empty
	c.frame(77, []byte("what is this?"))   // unknown type
	c.frame(wire.Data, make([]byte, 3000)) // zeros
	if _, err := c.Ping(ctx, gateV4, []byte("still there")); err != nil {
		t.Errorf("after nonsense: %v", err)
	}
}

func TestMainEndsASession(t *testing.T) {
	tests := []struct {
		name string
		say  *ipc.Terminate
		tell bool
	}{
		{"kicked", &ipc.Terminate{Reason: ipc.Reason_REASON_SERVER, TellClient: true, Text: "go away"}, true},
		{"replaced", &ipc.Terminate{Reason: ipc.Reason_REASON_REPLACED}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			c := w.dial()
			c.connect(c.login())
			if err := w.main.Send(ipc.TerminateT, 0, tt.say); err != nil {
				t.Fatal(err)
			}
			if tt.tell {
				if p := c.await("goodbye", wire.Disconnect); string(p.Payload) != "\xb0go away" {
					t.Errorf("told %q", p.Payload)
				}
			} else if p, ok := <-c.control; ok {
				t.Errorf("told type %d", p.Type)
			}
			w.wait()
			if w.stats == nil || w.stats.Reason != tt.say.Reason {
				t.Errorf("main was told %v", w.stats)
			}
		})
	}
}

func TestMainGoneEndsTheWorkerAtEveryStage(t *testing.T) {
	for _, stage := range []string{"connected", "TLS", "tunnel"} {
		t.Run(stage, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			if stage != "connected" {
				c := w.dial()
				if stage == "tunnel" {
					c.connect(c.login())
				}
			}
			w.main.Close()
			w.wait()
		})
	}
}

func TestClientGoneEndsTheWorker(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.net.Serve(webHost, stacktest.Echo)
	c := w.dial()
	c.connect(c.login())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := c.Ping(ctx, gateV4, []byte("x")); err != nil { // nothing to keep
		t.Fatal(err)
	}
	w.clientC.Close()
	if err := w.wait(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if w.stats.Reason != ipc.Reason_REASON_CONNECTION_LOST {
		t.Errorf("reason %v", w.stats.Reason)
	}
}
