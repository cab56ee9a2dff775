package wire

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rocserv/internal/wire/dtlshello"
)

// The real client against a server that is nothing but this package.

// ocServer answers one openconnect.
type ocServer struct {
	t      *testing.T
	tcp    net.Listener
	udp    *net.UDPConn
	cert   tls.Certificate
	groups []Option
	psk    bool  // allow PSK
	notes  notes // what the client answered
	wg     sync.WaitGroup

	mu    sync.Mutex // protects the rest: there may be a connection for each request
	forms []Form     // what is asked, in this order
	certs bool       // ask for a client certificate first
}

// notes are collected from the connections' goroutines.
type notes struct {
	mu   sync.Mutex // protects list
	list []string
}

func (n *notes) add(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, fmt.Sprintf(format, args...))
}

func (n *notes) get() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.list)
}

func newOCServer(t *testing.T) *ocServer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "vpn.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s := &ocServer{t: t, cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}}
	if s.tcp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if s.udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	return s
}

// serve takes connections until the listener is closed.
func (s *ocServer) serve() {
	config := &tls.Config{Certificates: []tls.Certificate{s.cert}, DynamicRecordSizingDisabled: true}
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := s.tcp.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			defer c.Close()
			c.SetDeadline(time.Now().Add(20 * time.Second))
			if err := s.conn(tls.Server(c, config)); err != nil {
				s.notes.add("error %v", err)
			}
		})
	}
}

func (s *ocServer) conn(c *tls.Conn) error {
	r := NewReader(c)
	for {
		req, err := r.Next()
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil // openconnect sends no close_notify
		}
		if err != nil {
			return err
		}
		if req.IsTunnel() {
			return s.tunnel(c, req)
		}
		b, err := s.answer(req).Append(nil)
		if err != nil {
			return err
		}
		if _, err := c.Write(b); err != nil {
			return err
		}
	}
}

// answer plays the login: one form after the other.
func (s *ocServer) answer(req *Request) *Response {
	m, err := ParseAuth(req.Body)
	if err != nil {
		s.notes.add("error %v", err)
		return Unauthorized("")
	}
	agent := ParseAgent(req.Header.Get("User-Agent"))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.certs && !m.ClientCertFail && m.Kind == AuthInit {
		return ClientCertRequest()
	}
	if m.ClientCertFail {
		s.notes.add("no certificate")
		s.certs = false
	}
	form := s.forms[0]
	form.Groups, form.Group = s.groups, m.GroupSelect
	if m.Kind == AuthReply {
		s.notes.add("%s group=%s user=%s answer=%s", m.Kind, m.GroupSelect, m.Username(), string(m.Answer()))
		if s.forms = s.forms[1:]; len(s.forms) == 0 {
			ok := Success{SID: testSID, Banner: "Hi 100% & <all>", CertSHA1: sha1.Sum(s.cert.Certificate[0])}
			return ok.Response(agent)
		}
		form = s.forms[0]
	}
	return AuthResponse(form.Document(agent), ContextCookie(testSID, time.Minute))
}

func (s *ocServer) tunnel(c *tls.Conn, req *Request) error {
	conn, err := ParseConnect(req)
	if err != nil {
		return err
	}
	u := sample()
	u.Agent, u.Hostname, u.ServerName = conn.Agent, conn.Hostname, "rocserv"
	u.Routes.Exclude = routes("0.0.0.0/32", "10.1.0.0/16")
	u.DTLS = nil
	overhead := CSTPOverhead
	choice := conn.DTLS.Choose(s.psk, []Suite{SuiteECDHERSAAES256GCM})
	if choice.Mode != DTLSNone {
		overhead = SuitePSKAES128GCM.Overhead()
		u.DTLS = &TunnelDTLS{Port: s.udp.LocalAddr().(*net.UDPAddr).Port, ID: sample().DTLS.ID, Choice: choice}
	}
	u.MTU = MTUInput{Configured: 1500, ClientLink: conn.LinkMTU, Client: conn.MTU, Overhead: overhead}.MTU()
	b, err := u.Response()
	if err != nil {
		return err
	}
	if _, err := c.Write(b); err != nil {
		return err
	}
	s.notes.add("CONNECT %s", conn.Hostname)
	return s.frames(c)
}

// frames reads until the client disconnects.
func (s *ocServer) frames(c *tls.Conn) error {
	b := make([]byte, HeaderLen+MaxPayload)
	for {
		if _, err := io.ReadFull(c, b[:HeaderLen]); err != nil {
			return err
		}
		kind, n, err := ParseHeader(b)
		if err != nil {
			return err
		}
		if _, err := io.ReadFull(c, b[HeaderLen:HeaderLen+n]); err != nil {
			return err
		}
		if kind == Disconnect {
			code, text := ParseDisconnect(b[HeaderLen : HeaderLen+n])
			s.notes.add("disconnect %v %s", code.Ends(), text)
			return nil
		}
	}
}

// pin is what --servercert wants.
func (s *ocServer) pin() string {
	sum := sha256.Sum256(s.cert.Leaf.RawSubjectPublicKeyInfo)
	return "pin-sha256:" + base64.StdEncoding.EncodeToString(sum[:])
}

// run runs openconnect until its script has written the environment, and returns
// its output and the environment.
func (s *ocServer) run(args ...string) (out string, env map[string]string) {
	t := s.t
	t.Helper()
	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nenv >"+dir+"/env.new\nmv "+dir+"/env.new "+dir+"/env\nsleep 20\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	all := append([]string{"-v", "--non-inter", "--passwd-on-stdin", "-u", "alice", "--local-hostname", "laptop",
		"--servercert", s.pin(), "--script-tun", "--script", script}, args...)
	cmd := exec.CommandContext(ctx, "openconnect", append(all, "https://"+s.tcp.Addr().String()+"/")...)
	cmd.Stdin = strings.NewReader("secret&<pw>\n")
	var buf bytes.Buffer
	cmd.Stdout, cmd.Stderr = &buf, &buf
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for ctx.Err() == nil {
		b, err := os.ReadFile(filepath.Join(dir, "env"))
		if err == nil {
			env = environment(string(b))
			break
		}
		if slices.ContainsFunc(s.notes.get(), func(n string) bool { return strings.HasPrefix(n, "hello") }) {
			break
		}
		time.Sleep(10 * time.Millisecond) // another process's doing: there is nothing to wait for
	}
	cmd.Process.Signal(os.Interrupt)
	cmd.Wait()
	s.stop()
	return buf.String(), env
}

func environment(s string) map[string]string {
	env := map[string]string{}
	for l := range strings.SplitSeq(s, "\n") {
		k, v, _ := strings.Cut(l, "=")
		env[k] = v
	}
	return env
}

// start serves until the end of the test.
func (s *ocServer) start() {
	s.t.Helper()
	s.wg.Go(s.serve)
	s.wg.Go(s.hellos)
	s.t.Cleanup(s.stop)
}

// stop waits until everything the client sent has been read.
func (s *ocServer) stop() {
	s.tcp.Close()
	s.udp.Close()
	s.wg.Wait()
}

func needOpenConnect(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs openconnect")
	}
	if _, err := exec.LookPath("openconnect"); err != nil {
		t.Skip("openconnect is not installed")
	}
}

// hellos notes whose the ClientHellos on the UDP socket are.
func (s *ocServer) hellos() {
	b := make([]byte, 2048)
	for {
		n, _, err := s.udp.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		h, ok := dtlshello.Parse(b[:n])
		s.notes.add("hello %v %x", ok, h.ID)
	}
}

func TestOpenConnectLogin(t *testing.T) {
	needOpenConnect(t)
	both := Form{Banner: "Welcome & <hello>", Message: "100%s of %d%%: " + PromptBoth, Username: true, Password: true}
	name := Form{Message: PromptUsername, Username: true}
	password := Form{Message: PromptPassword, Password: true}
	otp := Form{Message: PromptOTP, Password: true, Counter: 1}
	groups := []Option{{"ops", ""}, {"eng", "Engineering & Co"}}
	tests := []struct {
		name   string
		forms  []Form
		groups []Option
		certs  bool
		args   []string
		notes  []string
		output []string
	}{
		{"one form", []Form{both}, nil, false, nil,
			[]string{"auth-reply group= user=alice answer=secret&<pw>"}, []string{"Welcome & <hello>", "100%s of %d%%: Please enter your username and password."}},
		{"without XML", []Form{both}, nil, false, []string{"--no-xmlpost"},
			[]string{"auth-reply group= user=alice answer=secret&<pw>"}, []string{"100%s of %d%%: "}},
		{"two forms", []Form{name, password}, nil, false, nil,
			[]string{"auth-reply group= user=alice answer=", "auth-reply group= user= answer=secret&<pw>"}, []string{PromptUsername, PromptPassword}},
		{"old client", []Form{name, password}, nil, false, []string{"--no-xmlpost", "--useragent", "Open AnyConnect VPN Agent v3.20"},
			[]string{"auth-reply group= user=alice answer=", "auth-reply group= user= answer=secret&<pw>"}, nil},
		{"OTP", []Form{both, otp}, nil, false, []string{"-F", "main:secondary_password=123456"},
			[]string{"auth-reply group= user=alice answer=secret&<pw>", "auth-reply group= user= answer=123456"}, []string{PromptOTP}},
		{"group", []Form{both}, groups, false, []string{"--authgroup", "Engineering & Co"},
			[]string{"auth-reply group=eng user=alice answer=secret&<pw>"}, nil},
		{"group without XML", []Form{both}, groups, false, []string{"--no-xmlpost", "--authgroup", "Engineering & Co"},
			[]string{"auth-reply group=eng user=alice answer=secret&<pw>"}, nil},
		{"certificate that is not there", []Form{both}, nil, true, nil,
			[]string{"no certificate", "auth-reply group= user=alice answer=secret&<pw>"}, nil},
		{"a connection for each request", []Form{both}, nil, false, []string{"--no-http-keepalive", "--os", "android"},
			[]string{"auth-reply group= user=alice answer=secret&<pw>"}, nil},
		{"again after a failure", []Form{both, {Error: "Login failed: 50%", Message: PromptPassword, Password: true, Counter: 1}}, nil, false, []string{"-F", "main:secondary_password=x"},
			[]string{"auth-reply group= user=alice answer=secret&<pw>", "auth-reply group= user= answer=x"}, []string{"Login failed: 50%"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newOCServer(t)
			s.forms, s.groups, s.certs = tt.forms, tt.groups, tt.certs
			s.start()
			out, env := s.run(append(tt.args, "--no-dtls")...)
			want := append(tt.notes, "CONNECT laptop", "disconnect true Aborted by caller")
			if got := s.notes.get(); !slices.Equal(got, want) {
				t.Errorf("notes %q, want %q", got, want)
			}
			for _, o := range append(tt.output, "HTTP/1.1 200 CONNECTED") {
				if !strings.Contains(out, o) {
					t.Errorf("no %q in the output", o)
				}
			}
			for k, v := range map[string]string{
				"INTERNAL_IP4_ADDRESS": "10.211.0.50", "INTERNAL_IP4_NETMASK": "255.255.255.0", "INTERNAL_IP4_MTU": "1411",
				"INTERNAL_IP4_NBNS": "10.211.0.3", "CISCO_DEF_DOMAIN": "example.com", "CISCO_SPLIT_DNS": "corp.example", "CISCO_BANNER": "Hi there",
				"CISCO_SPLIT_INC": "1", "CISCO_SPLIT_INC_0_ADDR": "10.0.0.0", "CISCO_SPLIT_INC_0_MASK": "255.0.0.0",
				"CISCO_SPLIT_EXC": "2", "CISCO_PROXY_PAC": "http://example.com/proxy.pac",
				"INTERNAL_IP6_NETMASK": "fd00:211:0:8e4f:9a7c:c09f:b76e:58ef/64",
			} {
				if env[k] != v {
					t.Errorf("%s is %q, want %q", k, env[k], v)
				}
			}
			if t.Failed() {
				t.Log(out)
				t.Log(env)
			}
		})
	}
}

// The id we tell a client is the one its ClientHello asks for.
func TestOpenConnectHello(t *testing.T) {
	needOpenConnect(t)
	id := fmt.Sprintf("%x", sample().DTLS.ID)
	for _, psk := range []bool{true, false} {
		t.Run(fmt.Sprintf("psk=%v", psk), func(t *testing.T) {
			s := newOCServer(t)
			s.forms, s.psk = []Form{{Message: PromptBoth, Username: true, Password: true}}, psk
			s.start()
			out, _ := s.run()
			if !slices.Contains(s.notes.get(), "hello true "+id) {
				t.Errorf("notes %q\n%s", s.notes.get(), out)
			}
		})
	}
}

// A cookie that is no longer good ends openconnect, with exit status 2.
func TestOpenConnectRefused(t *testing.T) {
	needOpenConnect(t)
	s := newOCServer(t)
	defer s.udp.Close()
	l := tls.NewListener(s.tcp, &tls.Config{Certificates: []tls.Certificate{s.cert}})
	var wg sync.WaitGroup
	wg.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if _, err := NewReader(c).Next(); err != nil {
			s.notes.add("error %v", err)
			return
		}
		b, err := Unauthorized("Cookie is not acceptable").Append(nil)
		c.Write(b)
		s.notes.add("refused %v", err)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "openconnect", "--non-inter", "-C", "webvpn="+testSID, "--script-tun", "--script", "true",
		"--servercert", s.pin(), "https://"+s.tcp.Addr().String()+"/")
	out, err := cmd.CombinedOutput()
	l.Close()
	wg.Wait()
	if cmd.ProcessState.ExitCode() != 2 || !slices.Equal(s.notes.get(), []string{"refused <nil>"}) {
		t.Errorf("%v, notes %q\n%s", err, s.notes.get(), out)
	}
}
