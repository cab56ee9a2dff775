package way

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rocserv/egress"
	"rocserv/egress/httpproxy"
	"rocserv/internal/secret"
	"rocserv/test/descriptors"
)

// A proxy that is no good, whatever is wrong with it, is the router's fault and
// not the destination's; the next way is taken; and it is left alone for a while.
func TestFailures(t *testing.T) {
	closed := listen(t, slam)
	closed.Close()
	wrongSOCKS := newSocksServer(t, &socksServer{password: "right"})
	for _, tt := range []struct {
		name string
		bad  Definition
		came *listener
	}{
		{"SOCKS5 refused", proxyAt("bad", SOCKS5, closed), nil},
		{"SOCKS5 hangs", Definition{Kind: SOCKS5}, listen(t, hang)},
		{"SOCKS5 is garbage", Definition{Kind: SOCKS5}, listen(t, garbage)},
		{"SOCKS5 slams", Definition{Kind: SOCKS5}, listen(t, slam)},
		{"SOCKS5 wants another password", Definition{Kind: SOCKS5, Login: httpproxy.Login{User: "u", Password: secret.NewText("wr0ng")}}, wrongSOCKS.listener},
		{"SOCKS5 wants a password", Definition{Kind: SOCKS5}, wrongSOCKS.listener},
		{"SOCKS5 is HTTP", Definition{Kind: SOCKS5}, httpServer(t, 200, "")},
		{"HTTP refused", proxyAt("bad", HTTP, closed), nil},
		{"HTTP is garbage", Definition{Kind: HTTP}, listen(t, garbage)},
		{"HTTP slams", Definition{Kind: HTTP}, listen(t, slam)},
		{"HTTP wants another password", Definition{Kind: HTTP, Login: httpproxy.Login{User: "u", Password: secret.NewText("wr0ng")}}, httpServer(t, 200, "Basic dTpyaWdodA==")},
		{"HTTPS hangs", Definition{Kind: HTTPS}, listen(t, hang)},
		{"HTTPS is HTTP", Definition{Kind: HTTPS}, httpServer(t, 200, "")},
		{"HTTPS is garbage", Definition{Kind: HTTPS}, listen(t, garbage)},
		{"no such name", Definition{Kind: SOCKS5, Host: "nowhere.test", Port: 1}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			good := newSocksServer(t, &socksServer{})
			bad := tt.bad
			if bad.Host == "" {
				login := bad.Login
				bad = proxyAt("bad", bad.Kind, tt.came)
				bad.Login = login
			}
			bad.Name = "bad"
			r := newRig(t, []Rule{{Rule: where("192.0.2.0/24"), Ways: []string{"bad", "good"}}, {Ways: []string{"bad"}}},
				bad, proxyAt("good", SOCKS5, good.listener))
			r.echo(somewhere)
			count := func() int32 {
				if tt.came == nil {
					return 0
				}
				return tt.came.came.Load()
			}
			before := count()
			r.echo(somewhere)
			_, err := r.dial(netip.MustParseAddrPort("198.51.100.1:1"))
			if egress.Classify(err) != egress.HostUnreachable || !isFailure(err) {
				t.Errorf("alone it is %v", err)
			}
			if strings.Contains(err.Error(), "wr0ng") {
				t.Errorf("%v tells a secret", err)
			}
			if n := count() - before; n != 0 {
				t.Errorf("while it is down it is asked %d times", n)
			}
			if n := good.came.Load(); n != 2 {
				t.Errorf("the good way was taken %d times, want twice", n)
			}
		})
	}
}

// What a proxy says of a destination is the answer, whatever other ways there are.
func TestAnswers(t *testing.T) {
	for reply, want := range map[byte]egress.Class{
		1: egress.HostUnreachable, 2: egress.Prohibited, 3: egress.NetUnreachable, 4: egress.HostUnreachable, 5: egress.Refused, 6: egress.TimedOut,
	} {
		proxy, other := newSocksServer(t, &socksServer{reply: reply}), newSocksServer(t, &socksServer{})
		r := newRig(t, through("p", "other"), proxyAt("p", SOCKS5, proxy.listener), proxyAt("other", SOCKS5, other.listener))
		for range 2 {
			if _, err := r.dial(somewhere); egress.Classify(err) != want {
				t.Errorf("reply %d is %v: %v", reply, egress.Classify(err), err)
			}
		}
		if proxy.came.Load() != 2 || other.came.Load() != 0 {
			t.Errorf("reply %d: asked %d times, the other %d times", reply, proxy.came.Load(), other.came.Load())
		}
	}
}

// By rule: destinations, names, and what no rule holds for. The proxy is told
// the name there is.
func TestRoutes(t *testing.T) {
	a, b := newSocksServer(t, &socksServer{}), newSocksServer(t, &socksServer{password: "right"})
	web := httpServer(t, 200, "Bearer tok")
	echo := listen(t, func(c net.Conn) { io.Copy(c, c); c.(*net.TCPConn).CloseWrite() })
	r := newRig(t, []Rule{
		{Rule: where("corp.example"), Ways: []string{"b"}},
		{Rule: where("192.0.2.0/24", "2001:db8::/32"), Ways: []string{"a"}},
		{Rule: where("203.0.113.0/24"), Ways: []string{"web"}},
		{Rule: where("198.51.100.0/24"), Ways: []string{"blackhole"}},
	}, proxyAt("a", SOCKS5, a.listener),
		Definition{Name: "b", Kind: SOCKS5, Host: "proxy.test", Port: b.addr().Port(), Login: httpproxy.Login{User: "u", Password: secret.NewText("right")}},
		Definition{Name: "web", Kind: HTTP, Host: "127.0.0.1", Port: web.addr().Port(), Login: httpproxy.Login{Bearer: secret.NewText("tok")}})
	r.names.Learn("db.corp.example", netip.MustParseAddr("192.0.2.9"), 0)
	r.names.Learn("www.example", netip.MustParseAddr("192.0.2.8"), 0)
	r.echo(netip.MustParseAddrPort("192.0.2.9:1"))
	r.echo(netip.MustParseAddrPort("192.0.2.8:1"))
	r.echo(netip.MustParseAddrPort("192.0.2.7:1"))
	r.echo(netip.MustParseAddrPort("[2001:db8::7]:1"))
	if got := r.echo(netip.MustParseAddrPort("203.0.113.5:99")); !strings.HasPrefix(got, "203.0.113.5:99\n") {
		t.Errorf("the HTTP proxy was asked for %q", got)
	}
	r.echo(echo.addr()) // directly
	if got, want := a.names(), []string{"www.example", "192.0.2.7", "2001:db8::7"}; !slices.Equal(got, want) {
		t.Errorf("a was asked for %q, want %q", got, want)
	}
	if got, want := b.names(), []string{"db.corp.example"}; !slices.Equal(got, want) {
		t.Errorf("b was asked for %q, want %q", got, want)
	}
	if _, err := r.dial(netip.MustParseAddrPort("198.51.100.1:1")); egress.Classify(err) != egress.TimedOut {
		t.Errorf("blackhole: %v", err)
	}
	if _, err := r.dial(netip.MustParseAddrPort("169.254.169.254:80")); egress.Classify(err) != egress.Prohibited {
		t.Errorf("the policy does not come first: %v", err)
	}
}

// table is what each kind of way does with each protocol; the policy is before
// all of them, in every form of an address.
func TestWhatIsCarried(t *testing.T) {
	socks, web := newSocksServer(t, &socksServer{}), httpServer(t, 200, "")
	kinds := []Definition{
		proxyAt("socks5", SOCKS5, socks.listener), proxyAt("http", HTTP, web), proxyAt("https", HTTPS, web),
		{Name: "bound", Kind: Direct, Binding: egress.Binding{Source4: netip.MustParseAddr("127.0.0.1")}},
	}
	const tcp, udp, ping = 1, 2, 4
	carried := map[string]int{"direct": tcp | udp | ping, "bound": tcp | udp | ping, "blackhole": tcp | udp | ping, "socks5": tcp | udp, "http": tcp, "https": tcp}
	for name, can := range carried {
		r := newRig(t, through(name), kinds...)
		for _, p := range []struct {
			proto egress.Proto
			bit   int
		}{{egress.TCP, tcp}, {egress.UDP, udp}, {egress.ICMP, ping}, {egress.ICMPv6, ping}} {
			want := can&p.bit != 0
			for _, dst := range []string{"192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "64:ff9b::c000:201"} {
				if err := r.ways.Check(p.proto, netip.AddrPortFrom(netip.MustParseAddr(dst), 443)); (err == nil) != want || err != nil && egress.Classify(err) != egress.Prohibited {
					t.Errorf("%s, protocol %d to %s: %v", name, p.proto, dst, err)
				}
			}
			for _, dst := range []string{"169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "0.0.0.0", "::1", "fe80::1", "224.0.0.1"} {
				a := netip.AddrPortFrom(netip.MustParseAddr(dst), 443)
				var d egress.Denied
				if err := r.ways.Check(p.proto, a); !errors.As(err, &d) || !d.Hard() {
					t.Errorf("%s, protocol %d to %s: %v", name, p.proto, dst, err)
				}
				s, err := r.ways.OpenUDP(a.Addr().Is6(), newInbox())
				if err != nil {
					t.Fatal(err)
				}
				if n, err := s.Send([]egress.Message{{Addr: a, Payload: []byte("x")}}); n != 0 || !errors.As(err, &d) {
					t.Errorf("%s: %d datagrams to %s, %v", name, n, dst, err)
				}
				s.Close()
				if _, err := r.dial(a); !errors.As(err, &d) {
					t.Errorf("%s: dialled %s: %v", name, dst, err)
				}
			}
		}
	}
	if socks.came.Load()+web.came.Load() != 0 {
		t.Error("a proxy was asked for a forbidden destination")
	}
	// What one way of a list does not carry, the next one may.
	r := newRig(t, through("http", "socks5"), kinds...)
	if err := r.ways.Check(egress.UDP, somewhere); err != nil {
		t.Error(err)
	}
	if err := r.ways.Check(egress.ICMP, somewhere); egress.Classify(err) != egress.Prohibited {
		t.Error(err)
	}
}

// Who was down is probed when its time is over, without a connection waiting
// for it, and taken again when it has been up for a while.
func TestHealth(t *testing.T) {
	first := newSocksServer(t, &socksServer{})
	second := newSocksServer(t, &socksServer{})
	addr := first.addr()
	first.Close()
	r := newRig(t, through("first", "second"), proxyAt("first", SOCKS5, first.listener), proxyAt("second", SOCKS5, second.listener))
	m := r.ways.members["first"]
	probed := func() bool { m.mu.Lock(); defer m.mu.Unlock(); return !m.probing }
	for range 3 { // longer with each failure
		r.echo(somewhere)
		r.wait("the end of a probe", probed)
		r.clock.advance(downAtMost)
	}
	if m.mu.Lock(); m.fails < 2 || m.until.Sub(r.clock.now()) > downAtMost {
		t.Errorf("%d failures, down for %v", m.fails, m.until.Sub(r.clock.now()))
	}
	m.mu.Unlock()
	ln, err := net.Listen("tcp", addr.String())
	if err != nil {
		t.Skip(err) // somebody else has the port by now
	}
	defer ln.Close()
	came := make(chan struct{}, 10)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			came <- struct{}{}
			go func() { defer c.Close(); first.serve(c) }()
		}
	}()
	r.echo(somewhere)
	r.wait("first is up", func() bool { return m.status().up })
	<-came // the probe
	n := second.came.Load()
	r.echo(somewhere) // it stays with the second
	if second.came.Load() != n+1 {
		t.Error("the address jumps back at once")
	}
	r.clock.advance(stay)
	r.echo(somewhere)
	select {
	case <-came:
	case <-time.After(5 * time.Second):
		t.Error("the first way is not taken again")
	}
}

// A proxy that takes connections and never answers is not waited for for ever:
// what it is asked for may be silent, so it is probed.
func TestSilentProxy(t *testing.T) {
	silent := listen(t, hang)
	good := newSocksServer(t, &socksServer{})
	bad := proxyAt("silent", HTTP, silent)
	bad.Check = "192.0.2.99:1"
	r := newRig(t, through("silent", "good"), bad, proxyAt("good", SOCKS5, good.listener))
	for range doubts {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		if _, err := r.ways.DialTCP(ctx, netip.AddrPort{}, somewhere); egress.Classify(err) != egress.TimedOut {
			t.Errorf("%v", err)
		}
		cancel()
	}
	m := r.ways.members["silent"]
	r.wait("a probe", func() bool { return silent.came.Load() == doubts+1 })
	if !m.status().up {
		t.Error("down before the probe has ended")
	}
	silent.Close()
}

// A probe of an HTTP proxy wants an answer, whichever, but not that the login is
// no good: that the proxy takes connections is not enough.
func TestProbeOfHTTP(t *testing.T) {
	answers := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			b := make([]byte, 512)
			n, _ := c.Read(b)
			if strings.HasPrefix(string(b[:n]), "OPTIONS * HTTP/1.1\r\n") {
				io.WriteString(c, text)
			}
			io.Copy(io.Discard, c)
		}
	}
	for name, tt := range map[string]struct {
		serve func(net.Conn)
		want  string // the failure; empty: none
	}{
		"200":     {answers("HTTP/1.1 200 OK\r\n\r\n"), ""},
		"400":     {answers("HTTP/1.0 400 Bad Request\r\nA: b\r\n\r\nx"), ""},
		"405":     {answers("HTTP/1.1 405 No\r\n\r\n"), ""},
		"login":   {answers("HTTP/1.1 407 Login\r\n\r\n"), "407"},
		"login 2": {answers("HTTP/1.1 401 Login\r\n\r\n"), "401"},
		"silent":  {hang, "no answer for 200ms"},
		"garbage": {garbage, "does not speak HTTP"},
		"slams":   {slam, "way p: "},
	} {
		d := proxyAt("p", HTTP, listen(t, tt.serve))
		d.Timeout = 200 * time.Millisecond
		if tt.want == "" {
			d.Timeout = 10 * time.Second
		}
		r := newRig(t, through("p"), d)
		err := r.ways.members["p"].probe(t.Context())
		if tt.want == "" && err != nil || tt.want != "" && (!isFailure(err) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// inbox is a Receiver that keeps copies.
type inbox struct {
	mu   sync.Mutex
	msgs []egress.Message
}

func newInbox() *inbox { return new(inbox) }

func (i *inbox) Receive(msgs []egress.Message) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, m := range msgs {
		m.Payload = slices.Clone(m.Payload)
		i.msgs = append(i.msgs, m)
	}
}

func (i *inbox) Report(*egress.Report) {}

func (i *inbox) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.msgs)
}

// Datagrams go by an association, which is asked for with the first of them;
// they come back with the address that the proxy names; and when the proxy ends
// the association the next datagram asks for another.
func TestDatagrams(t *testing.T) {
	proxy := newSocksServer(t, &socksServer{})
	r := newRig(t, through("p"), proxyAt("p", SOCKS5, proxy.listener))
	in := newInbox()
	s, err := r.ways.OpenUDP(false, in)
	if err != nil {
		t.Fatal(err)
	}
	other := netip.MustParseAddrPort("192.0.2.2:7")
	if n, err := s.Send([]egress.Message{{Addr: somewhere, Payload: []byte("a")}, {Addr: other, Payload: []byte("bb")}}); n != 2 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	r.wait("two datagrams back", func() bool { return in.count() == 2 })
	if in.msgs[0].Addr != somewhere || string(in.msgs[0].Payload) != "a" || in.msgs[1].Addr != other || string(in.msgs[1].Payload) != "bb" {
		t.Errorf("%+v", in.msgs)
	}
	s.Send([]egress.Message{{Addr: other, Payload: []byte("c")}})
	r.wait("the third", func() bool { return in.count() == 3 })
	if proxy.came.Load() != 1 {
		t.Errorf("%d connections to the proxy", proxy.came.Load())
	}
	proxy.mu.Lock()
	proxy.ctl[0].Close()
	proxy.mu.Unlock()
	a := s.(*socket).parts[0].sock.(*association)
	r.wait("the end of the association", a.dead)
	s.Send([]egress.Message{{Addr: other, Payload: []byte("d")}})
	r.wait("the fourth", func() bool { return in.count() == 4 })
	if !r.ways.members["p"].status().up {
		t.Error("the end of an association is taken for the end of the way")
	}
	s.Close()
	if _, err := s.Send([]egress.Message{{Addr: other}}); err == nil {
		t.Error("a closed socket sends")
	}
}

// A proxy without UDP is no worse for TCP; its datagrams are refused, or go by
// the next way.
func TestNoUDP(t *testing.T) {
	proxy, other := newSocksServer(t, &socksServer{noUDP: true}), newSocksServer(t, &socksServer{})
	r := newRig(t, []Rule{{Rule: where("192.0.2.0/24"), Ways: []string{"p"}}, {Ways: []string{"p", "other"}}},
		proxyAt("p", SOCKS5, proxy.listener), proxyAt("other", SOCKS5, other.listener))
	in := newInbox()
	s, _ := r.ways.OpenUDP(false, in)
	defer s.Close()
	s.Send([]egress.Message{{Addr: somewhere, Payload: []byte("a")}})
	r.wait("it refuses", func() bool { return r.ways.Check(egress.UDP, somewhere) != nil })
	if n, err := s.Send([]egress.Message{{Addr: somewhere, Payload: []byte("a")}}); n != 0 || egress.Classify(err) != egress.Prohibited {
		t.Errorf("%d, %v", n, err)
	}
	s.Send([]egress.Message{{Addr: netip.MustParseAddrPort("198.51.100.1:7"), Payload: []byte("b")}})
	r.wait("the other way", func() bool { return in.count() == 1 })
	r.echo(somewhere)
	r.clock.advance(udpAgain)
	if err := r.ways.Check(egress.UDP, somewhere); err != nil {
		t.Errorf("never asked again: %v", err)
	}
}

// A relay elsewhere is taken only where clients may send to.
func TestRelay(t *testing.T) {
	policy, err := egress.NewPolicy(egress.PolicyConfig{})
	if err != nil {
		t.Fatal(err)
	}
	s := &socks{policy: policy}
	proxy := netip.MustParseAddr("192.0.2.1")
	for bound, want := range map[string]string{
		"0.0.0.0:9": "192.0.2.1:9", "[::]:9": "192.0.2.1:9", "192.0.2.1:9": "192.0.2.1:9", "192.0.2.2:9": "192.0.2.2:9",
		"127.0.0.1:53": "", "169.254.169.254:80": "", "[::1]:9": "", "[fe80::1]:9": "",
	} {
		got, err := s.relay(netip.MustParseAddrPort(bound), proxy)
		if want == "" && err == nil || want != "" && got.String() != want {
			t.Errorf("%s: %v, %v", bound, got, err)
		}
	}
}

// A proxy that dies in the middle of everything leaves nothing behind.
func TestNothingIsLeft(t *testing.T) {
	warm, err := net.Listen("tcp", "127.0.0.1:0") // package net's poller stays for good
	if err != nil {
		t.Fatal(err)
	}
	warm.Close()
	files, goroutines := descriptors.Count(t), runtime.NumGoroutine()
	func() {
		proxy := newSocksServer(t, &socksServer{})
		r := newRig(t, through("p"), proxyAt("p", SOCKS5, proxy.listener))
		var open []egress.Stream
		for range 20 {
			c, err := r.dial(somewhere)
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, c)
		}
		in := newInbox()
		s, _ := r.ways.OpenUDP(false, in)
		s.Send([]egress.Message{{Addr: somewhere, Payload: []byte("a")}})
		r.wait("a datagram", func() bool { return in.count() == 1 })
		for range 20 { // that are given up half-way
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := r.ways.DialTCP(ctx, netip.AddrPort{}, somewhere); err == nil {
				t.Error("dialled without waiting")
			}
		}
		s.Close()
		for _, c := range open {
			c.Close()
		}
		proxy.Close()
		r.ways.Close()
		r.direct.Close()
	}()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		f, g := descriptors.Count(t), runtime.NumGoroutine()
		if f <= files && g <= goroutines {
			return
		}
		if time.Now().After(deadline) {
			b := make([]byte, 1<<16)
			t.Fatalf("%d files, %d before; %d goroutines, %d before\n%s", f, files, g, goroutines, b[:runtime.Stack(b, true)])
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no such way":  {Rules: through("x")},
		"no way":       {Rules: []Rule{{}}},
		"no such kind": {Ways: []Definition{{Name: "a", Kind: "gopher"}}},
	} {
		policy, _ := egress.NewPolicy(egress.PolicyConfig{})
		cfg.Direct = egress.NewDirect(policy, egress.DirectConfig{})
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
