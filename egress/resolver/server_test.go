package resolver

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"rocserv/egress"
	"rocserv/egress/tlsclient"
)

// longServer is a DNS server that speaks TCP, TLS or HTTPS on loopback.
type longServer struct {
	addr  netip.AddrPort
	roots *x509.CertPool
	conns atomic.Int64 // accepted
	asked atomic.Int64
	reuse atomic.Int64 // of the busiest connection

	mu   sync.Mutex
	open map[net.Conn]bool
	mute bool // takes queries and says nothing
	once bool // closes a connection after one answer

	special func(w http.ResponseWriter, name string) bool // says whether it has answered; set before the first query
}

func (s *longServer) set(f func()) {
	s.mu.Lock()
	f()
	s.mu.Unlock()
}

func (s *longServer) is(f func() bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return f()
}

// drop ends all connections.
func (s *longServer) drop() {
	s.set(func() {
		for c := range s.open {
			c.Close()
		}
	})
}

func (s *longServer) kept(c net.Conn, state bool) {
	s.set(func() {
		if s.open[c] = true; !state {
			delete(s.open, c)
		}
	})
}

func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"dns.test"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func newLongServer(t testing.TB, kind Kind) *longServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &longServer{addr: ln.Addr().(*net.TCPAddr).AddrPort(), open: map[net.Conn]bool{}}
	t.Cleanup(func() { ln.Close(); s.drop() })
	var cert tls.Certificate
	cert, s.roots = certificate(t)
	switch kind {
	case TLS:
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"dot"}})
	case HTTPS:
		h := &http.Server{Handler: s, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}, ConnState: func(c net.Conn, st http.ConnState) {
			switch st {
			case http.StateNew:
				s.conns.Add(1)
				s.kept(c, true)
			case http.StateClosed:
				s.kept(c, false)
			}
		}}
		h.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are refused
		t.Cleanup(func() { h.Close() })
		go h.ServeTLS(ln, "", "")
		return s
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.conns.Add(1)
			s.kept(c, true)
			go s.serve(t, c)
		}
	}()
	return s
}

// serve answers on a connection, two queries in reverse order when they come
// together.
func (s *longServer) serve(t testing.TB, c net.Conn) {
	defer func() { c.Close(); s.kept(c, false) }()
	r := bufio.NewReader(c)
	for n := int64(1); ; n++ {
		var length [2]byte
		if _, err := io.ReadFull(r, length[:]); err != nil {
			return
		}
		b := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(r, b); err != nil {
			return
		}
		s.asked.Add(1)
		s.reuse.Store(max(s.reuse.Load(), n))
		if s.is(func() bool { return s.mute }) {
			continue
		}
		c.Write(framed(answerTo(t, b, dnsmessage.RCodeSuccess, 2)))
		if s.is(func() bool { return s.once }) {
			return
		}
	}
}

func (s *longServer) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	b, err := io.ReadAll(req.Body)
	if err != nil || req.Method != "POST" || req.URL.Path != "/dns-query" || req.ProtoMajor != 2 || req.Host != fmt.Sprintf("dns.test:%d", s.addr.Port()) ||
		req.Header.Get("Content-Type") != mediaType || req.Header.Get("User-Agent") != "" || dnsID(b) != 0 {
		http.Error(w, "no", http.StatusBadRequest)
		return
	}
	s.asked.Add(1)
	if s.is(func() bool { return s.mute }) {
		<-req.Context().Done()
		return
	}
	w.Header().Set("Content-Type", mediaType)
	var q dnsmessage.Message
	q.Unpack(b)
	if s.special != nil && s.special(w, q.Questions[0].Name.String()) {
		return
	}
	q.Response = true
	q.Answers = []dnsmessage.Resource{addressRecord(q.Questions[0].Name.String(), 60, [4]byte{10, 0, 0, 0}), addressRecord(q.Questions[0].Name.String(), 60, [4]byte{10, 0, 0, 1})}
	q.Additionals = nil
	answer, _ := q.Pack()
	w.Write(answer)
}

func (s *longServer) server(kind Kind, fingerprint string) Server {
	protocols := []string{"dot"}
	if kind == HTTPS {
		protocols = []string{"h2"}
	}
	return Server{Kind: kind, Addr: s.addr, Path: "/dns-query", TLS: &tlsclient.Config{ServerName: "dns.test", Roots: s.roots, Fingerprint: fingerprint, Protocols: protocols}}
}

// asked is an answer that is awaited.
func (r *resolverOn) ask(t testing.TB, id uint16, name string) dnsmessage.Message {
	t.Helper()
	got := make(chan []byte, 1)
	r.Query(dnsQueryMsg(t, id, name, dnsmessage.TypeA, 1232), 1400, func(b []byte) { got <- bytes.Clone(b) })
	select {
	case b := <-got:
		return mustParse(t, b)
	case <-time.After(20 * time.Second):
		t.Fatal("no answer")
	}
	panic("not reached")
}

type resolverOn struct{ *Resolver }

func newResolverOn(t testing.TB, cfg Config) *resolverOn {
	r := New(newDirect(t), cfg)
	t.Cleanup(func() { r.Close() })
	return &resolverOn{r}
}

func settle(t testing.TB, n int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			b := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, want %d:\n%s", runtime.NumGoroutine(), n, b[:runtime.Stack(b, true)])
		}
	}
}

var longKinds = map[string]Kind{"TCP": Plain, "TLS": TLS, "HTTPS": HTTPS}

// Many queries at once go by one connection, and each has its own answer;
// nothing is left when the resolver is closed.
func TestLongServers(t *testing.T) {
	for name, kind := range longKinds {
		t.Run(name, func(t *testing.T) {
			s := newLongServer(t, kind)
			before := runtime.NumGoroutine()
			d := newDirect(t)
			// No try times out, however busy the machine is.
			cfg := Config{Servers: []Server{s.server(kind, "go")}, NewTimer: (&manualClock{now: time.Now()}).NewTimer}
			if kind == Plain {
				cfg.Dial = func(ctx context.Context, host string, port uint16) (egress.Stream, error) {
					return d.DialConfigured(ctx, netip.AddrPortFrom(netip.MustParseAddr(host), port))
				}
			}
			r := New(d, cfg)
			const queries = 200
			var wg sync.WaitGroup
			for i := range queries {
				wg.Add(1)
				want := fmt.Sprintf("n%d.example.", i)
				r.Query(dnsQueryMsg(t, uint16(i), want, dnsmessage.TypeA, 1232), 1400, func(b []byte) {
					defer wg.Done()
					var m dnsmessage.Message
					if err := m.Unpack(b); err != nil || m.ID != uint16(i) || len(m.Answers) != 2 || m.Questions[0].Name.String() != want {
						t.Errorf("query %d: %+v, %v", i, m.Header, err)
					}
				})
			}
			wg.Wait()
			if n := s.conns.Load(); n != 1 || s.asked.Load() != queries {
				t.Errorf("%d connections, %d queries", n, s.asked.Load())
			}
			r.Close()
			d.Close()
			s.drop()
			settle(t, before)
		})
	}
}

// A connection that the server closes is made again, with the queries that had
// no answer; a server that is silent costs a SERVFAIL, and the next its turn.
func TestLongServerEnds(t *testing.T) {
	for name, kind := range longKinds {
		if kind == Plain {
			continue
		}
		t.Run(name, func(t *testing.T) {
			s := newLongServer(t, kind)
			r := newResolverOn(t, Config{Servers: []Server{s.server(kind, "go")}})
			for i := range 4 {
				if m := r.ask(t, uint16(i), "a.example."); m.RCode != 0 || len(m.Answers) != 2 {
					t.Fatalf("%d: %+v", i, m.Header)
				}
				s.drop()
			}
			if n := s.conns.Load(); n < 4 {
				t.Errorf("%d connections", n)
			}
			if misses := r.Stats(); misses.Failed != 0 {
				t.Errorf("%+v", misses)
			}
			if kind == TLS {
				s.set(func() { s.once = true })
				for i := range 4 {
					if m := r.ask(t, uint16(i), "a.example."); m.RCode != 0 {
						t.Errorf("a server that closes after each answer: %+v", m.Header)
					}
				}
			}
			s.set(func() { s.mute = true })
			other := dnsServer(t)
			r.SetServers([]Server{s.server(kind, "go"), {Addr: other}})
			if m := r.ask(t, 9, "b.example."); m.RCode != 0 || len(m.Answers) != 1 {
				t.Errorf("beside a silent server: %+v", m)
			}
		})
	}
}

// A request that fails is no reason to end the connection, by which others have
// their answers: its query is asked again, and ends if that fails too.
func TestHTTPSRequestFails(t *testing.T) {
	for name, fail := range map[string]func(w http.ResponseWriter){
		"reset": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"cut": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", mediaType)
			w.Write(make([]byte, dnsHeaderLen))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
		"too long": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", mediaType)
			w.Write(make([]byte, wholeAnswer+1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newLongServer(t, HTTPS)
			hold := make(chan struct{})
			var failed atomic.Int64
			s.special = func(w http.ResponseWriter, name string) bool {
				switch {
				case name == "slow.example.":
					<-hold
				case name == "bad.example.", name == "once.example." && failed.Load() < maxTries+1:
					failed.Add(1)
					fail(w)
					return true
				}
				return false
			}
			// No try times out: what moves on has been told to.
			r := newResolverOn(t, Config{Servers: []Server{s.server(HTTPS, "go")}, NewTimer: (&manualClock{now: time.Now()}).NewTimer})
			slow := make(chan []byte, 1)
			r.Query(dnsQueryMsg(t, 1, "slow.example.", dnsmessage.TypeA, 1232), 1400, func(b []byte) { slow <- bytes.Clone(b) })
			if m := r.ask(t, 2, "bad.example."); m.RCode != dnsmessage.RCodeServerFailure || failed.Load() != maxTries {
				t.Errorf("%+v after %d tries", m.Header, failed.Load())
			}
			if m := r.ask(t, 3, "once.example."); m.RCode != 0 || len(m.Answers) != 2 || failed.Load() != maxTries+1 {
				t.Errorf("%+v after %d tries", m.Header, failed.Load())
			}
			close(hold)
			select {
			case b := <-slow:
				if m := mustParse(t, b); m.RCode != 0 || len(m.Answers) != 2 {
					t.Errorf("beside it: %+v", m.Header)
				}
			case <-time.After(20 * time.Second):
				t.Error("beside it: no answer")
			}
			if n := s.conns.Load(); n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// What a server refuses by HTTP's words the next is asked at once; the one that
// refused is not asked again, and the last one's refusal ends the query.
func TestHTTPSRefuses(t *testing.T) {
	for name, refuse := range map[string]func(w http.ResponseWriter){
		"403":        func(w http.ResponseWriter) { http.Error(w, "no", http.StatusForbidden) },
		"429":        func(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) },
		"a page":     func(w http.ResponseWriter) { w.Header().Set("Content-Type", "text/html"); w.Write(make([]byte, 100)) },
		"no message": func(w http.ResponseWriter) { w.Write(make([]byte, dnsHeaderLen-1)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newLongServer(t, HTTPS)
			s.special = func(w http.ResponseWriter, _ string) bool { refuse(w); return true }
			other := dnsServer(t)
			// No try times out: what moves on has been told to.
			clock := (&manualClock{now: time.Now()}).NewTimer
			r := newResolverOn(t, Config{Servers: []Server{s.server(HTTPS, "go"), {Addr: other}}, NewTimer: clock})
			if m := r.ask(t, 1, "a.example."); m.RCode != 0 || len(m.Answers) != 1 || s.asked.Load() != 1 {
				t.Errorf("%+v, asked %d times", m.Header, s.asked.Load())
			}
			r = newResolverOn(t, Config{Servers: []Server{s.server(HTTPS, "go")}, NewTimer: clock})
			if m := r.ask(t, 2, "a.example."); m.RCode != dnsmessage.RCodeServerFailure || s.asked.Load() != 2 {
				t.Errorf("alone: %+v, asked %d times", m.Header, s.asked.Load())
			}
		})
	}
}

// A certificate that is not good is no server: nothing is asked, and nobody
// else is asked instead but the next in the list.
func TestLongServerVerified(t *testing.T) {
	for name, kind := range longKinds {
		if kind == Plain {
			continue
		}
		for _, fingerprint := range []string{"go", "firefox"} {
			t.Run(name+" as "+fingerprint, func(t *testing.T) {
				s := newLongServer(t, kind)
				good := s.server(kind, fingerprint)
				if kind == TLS && fingerprint != "go" {
					good.TLS.Protocols = nil // a browser offers no "dot", and this server insists on it
				} else if m := newResolverOn(t, Config{Servers: []Server{good}}).ask(t, 1, "a.example."); m.RCode != 0 {
					t.Errorf("%+v", m.Header)
				}
				asked := s.asked.Load()
				for what, spoil := range map[string]func(*tlsclient.Config){
					"unknown root": func(c *tlsclient.Config) { c.Roots = x509.NewCertPool() },
					"another name": func(c *tlsclient.Config) { c.ServerName = "other.test" },
					"another pin":  func(c *tlsclient.Config) { c.Pins = []tlsclient.Pin{{1}} },
				} {
					bad := s.server(kind, fingerprint)
					spoil(bad.TLS)
					if m := newResolverOn(t, Config{Servers: []Server{bad}}).ask(t, 1, "a.example."); m.RCode != dnsmessage.RCodeServerFailure {
						t.Errorf("%s: %+v", what, m.Header)
					}
				}
				if s.asked.Load() != asked {
					t.Error("a server was asked that is not the one")
				}
			})
		}
	}
}

// A server with a name is found by Lookup, or by the operator's way, which is
// told the name.
func TestLongServerByName(t *testing.T) {
	s := newLongServer(t, TLS)
	named := s.server(TLS, "go")
	named.Host, named.Addr = "dns.test", netip.AddrPortFrom(netip.IPv4Unspecified(), s.addr.Port())
	lookup := func(_ context.Context, name string) ([]netip.Addr, error) {
		if name != "dns.test" {
			return nil, fmt.Errorf("asked for %s", name)
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.2"), s.addr.Addr()}, nil
	}
	if m := newResolverOn(t, Config{Servers: []Server{named}, Lookup: lookup}).ask(t, 1, "a.example."); m.RCode != 0 {
		t.Errorf("%+v", m.Header)
	}
	if m := newResolverOn(t, Config{Servers: []Server{named}}).ask(t, 1, "a.example."); m.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("without: %+v", m.Header)
	}
	d := newDirect(t)
	var told []string
	var mu sync.Mutex
	dial := func(ctx context.Context, host string, port uint16) (egress.Stream, error) {
		mu.Lock()
		told = append(told, fmt.Sprint(host, ":", port))
		mu.Unlock()
		return d.DialConfigured(ctx, s.addr)
	}
	if m := newResolverOn(t, Config{Servers: []Server{named}, Dial: dial}).ask(t, 1, "a.example."); m.RCode != 0 {
		t.Errorf("%+v", m.Header)
	}
	if want := fmt.Sprint("dns.test:", s.addr.Port()); len(told) != 1 || told[0] != want {
		t.Errorf("the way was told %q", told)
	}
}
