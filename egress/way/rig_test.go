package way

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rocserv/egress"
	"rocserv/egress/match"
)

// listener is a server on the loopback interface that counts who comes.
type listener struct {
	net.Listener
	came atomic.Int32
}

func listen(t *testing.T, serve func(net.Conn)) *listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{Listener: ln}
	var mu sync.Mutex
	var open []net.Conn
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range open {
			c.Close()
		}
	})
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			l.came.Add(1)
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return l
}

func (l *listener) addr() netip.AddrPort { return l.Addr().(*net.TCPAddr).AddrPort() }

// socksServer is a SOCKS5 proxy that writes down what it is asked for.
type socksServer struct {
	*listener
	password string // of user "u"; empty: none asked for
	reply    byte   // of all requests
	noUDP    bool

	mu    sync.Mutex
	asked []string
	ctl   []net.Conn // of associations
}

func newSocksServer(t *testing.T, s *socksServer) *socksServer {
	s.listener = listen(t, s.serve)
	return s
}

func (s *socksServer) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

func (s *socksServer) serve(c net.Conn) {
	r := bufio.NewReader(c)
	head := make([]byte, 2)
	io.ReadFull(r, head)
	io.CopyN(io.Discard, r, int64(head[1]))
	if s.password != "" {
		c.Write([]byte{5, 2})
		io.ReadFull(r, head) // version, length of the user
		io.CopyN(io.Discard, r, int64(head[1]))
		n, _ := r.ReadByte()
		given := make([]byte, n)
		io.ReadFull(r, given)
		if string(given) != s.password {
			c.Write([]byte{1, 1})
			return
		}
		c.Write([]byte{1, 0})
	} else {
		c.Write([]byte{5, 0})
	}
	req := make([]byte, 4)
	if _, err := io.ReadFull(r, req); err != nil {
		return // a probe
	}
	var host string
	switch req[3] {
	case 1:
		b := make([]byte, 4)
		io.ReadFull(r, b)
		host = net.IP(b).String()
	case 3:
		n, _ := r.ReadByte()
		b := make([]byte, n)
		io.ReadFull(r, b)
		host = string(b)
	case 4:
		b := make([]byte, 16)
		io.ReadFull(r, b)
		host = net.IP(b).String()
	}
	port := make([]byte, 2)
	io.ReadFull(r, port)
	s.mu.Lock()
	s.asked = append(s.asked, host)
	s.mu.Unlock()
	switch {
	case s.reply != 0:
		c.Write([]byte{5, s.reply, 0, 1, 0, 0, 0, 0, 0, 0})
	case req[1] == 3:
		s.relay(c, r)
	default:
		c.Write([]byte{5, 0, 0, 1, 127, 0, 0, 1, 0, 0})
		io.Copy(struct{ io.Writer }{c}, r) // the destination is an echo, without splice(2), whose pipes package net keeps for later
		c.(*net.TCPConn).CloseWrite()
	}
}

// relay echoes datagrams, header and all, as long as the connection is open.
func (s *socksServer) relay(c net.Conn, r io.Reader) {
	if s.noUDP {
		c.Write([]byte{5, 7, 0, 1, 0, 0, 0, 0, 0, 0})
		return
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return
	}
	defer pc.Close()
	s.mu.Lock()
	s.ctl = append(s.ctl, c)
	s.mu.Unlock()
	c.Write(binary.BigEndian.AppendUint16([]byte{5, 0, 0, 1, 0, 0, 0, 0}, uint16(pc.LocalAddr().(*net.UDPAddr).Port)))
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			pc.WriteTo(b[:n], from)
		}
	}()
	io.Copy(io.Discard, r)
}

// httpServer is an HTTP proxy whose destinations are an echo.
func httpServer(t *testing.T, status int, login string) *listener {
	return listen(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		switch {
		case login != "" && req.Header.Get("Proxy-Authorization") != login:
			io.WriteString(c, "HTTP/1.1 407 Login\r\n\r\n")
		case status != 200:
			io.WriteString(c, "HTTP/1.1 "+http.StatusText(status)+"\r\n\r\n")
		default:
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n"+req.Host+"\n")
			io.Copy(c, r)
			c.(*net.TCPConn).CloseWrite()
		}
	})
}

// Behaviours of a server that is no good.
func hang(c net.Conn)    { io.Copy(io.Discard, c) }
func garbage(c net.Conn) { io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n"); io.Copy(io.Discard, c) }
func slam(net.Conn)      {}

// clock stands still until it is moved.
type clock struct{ ns atomic.Int64 }

func newClock() *clock { c := new(clock); c.ns.Store(1e18); return c }

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// rig is Ways with what is around them.
type rig struct {
	*testing.T
	ways   *Ways
	direct *egress.Direct
	names  *egress.Names
	clock  *clock
}

func newRig(t *testing.T, rules []Rule, defs ...Definition) *rig {
	t.Helper()
	r := &rig{T: t, names: egress.NewNames(nil), clock: newClock()}
	policy, err := egress.NewPolicy(egress.PolicyConfig{AllowUnsafe: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if err != nil {
		t.Fatal(err)
	}
	r.direct = egress.NewDirect(policy, egress.DirectConfig{})
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	r.ways, err = New(Config{Direct: r.direct, Policy: policy, Names: r.names, Ways: defs, Rules: rules, Now: r.clock.now, Log: log,
		Lookup: func(_ context.Context, name string) ([]netip.Addr, error) {
			if !strings.HasPrefix(name, "proxy") {
				return nil, net.UnknownNetworkError(name)
			}
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.ways.Close(); r.direct.Close() })
	return r
}

func through(ways ...string) []Rule { return []Rule{{Ways: ways}} }

func proxyAt(name string, kind Kind, l *listener) Definition {
	return Definition{Name: name, Kind: kind, Host: "127.0.0.1", Port: l.addr().Port(), Timeout: 300 * time.Millisecond}
}

var somewhere = netip.MustParseAddrPort("192.0.2.1:443")

func (r *rig) dial(dst netip.AddrPort) (egress.Stream, error) {
	ctx, cancel := context.WithTimeout(r.Context(), 20*time.Second)
	defer cancel()
	return r.ways.DialTCP(ctx, netip.AddrPort{}, dst)
}

// echo dials and sends a word there and back, to the end.
func (r *rig) echo(dst netip.AddrPort) string {
	r.Helper()
	c, err := r.dial(dst)
	if err != nil {
		r.Errorf("%v: %v", dst, err)
		return ""
	}
	defer c.Close()
	io.WriteString(c, "hello")
	if err := c.CloseWrite(); err != nil {
		r.Errorf("%v: %v", dst, err)
	}
	b, err := io.ReadAll(c)
	if err != nil || !strings.HasSuffix(string(b), "hello") {
		r.Errorf("%v: %q came back, %v", dst, b, err)
	}
	return string(b)
}

func where(nets ...string) (r match.Rule) {
	for _, n := range nets {
		if p, err := netip.ParsePrefix(n); err == nil {
			r.Nets = append(r.Nets, p)
		} else {
			r.Domains = append(r.Domains, n)
		}
	}
	return r
}

// wait waits for something that happens in the background.
func (r *rig) wait(what string, ok func() bool) {
	r.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.Fatalf("never: %s", what)
		}
	}
}
