package mainproc

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"rocserv/internal/config"
)

const (
	v1Client = "PROXY TCP4 192.0.2.10 198.51.100.1 50000 443\r\n"
	v1Six    = "PROXY TCP6 2001:db8::1 2001:db8::2 50000 443\r\n"
	tlsBegin = "\x16\x03\x01"
)

// v2Client is a version 2 header for 192.0.2.10:50000, with more bytes of TLVs.
func v2Client(command byte, more int) string {
	b := []byte("\r\n\r\n\x00\r\nQUIT\n")
	b = append(b, 0x20|command, 0x11)
	b = binary.BigEndian.AppendUint16(b, uint16(12+3+more))
	b = append(b, 192, 0, 2, 10, 198, 51, 100, 1, 0xc3, 0x50, 1, 0xbb)
	b = append(b, 0x04) // NOOP
	b = binary.BigEndian.AppendUint16(b, uint16(more))
	return string(append(b, make([]byte, more)...))
}

// The header goes, all that follows stays, however the bytes arrive.
func TestReadHeader(t *testing.T) {
	client := origin{peer: netip.MustParseAddrPort("192.0.2.10:50000"), local: netip.MustParseAddrPort("198.51.100.1:443")}
	six := origin{peer: netip.MustParseAddrPort("[2001:db8::1]:50000"), local: netip.MustParseAddrPort("[2001:db8::2]:443")}
	tests := []struct {
		name, in string
		want     *origin // nil: the socket's, by the proxy's own word
		err      error
	}{
		{"version 1", v1Client, &client, nil},
		{"version 1, IPv6", v1Six, &six, nil},
		{"version 1 of nobody", "PROXY UNKNOWN\r\n", nil, nil},
		{"version 2", v2Client(1, 0), &client, nil},
		{"version 2 with TLVs", v2Client(1, 3000), &client, nil},
		{"version 2 of the proxy itself", v2Client(0, 0), nil, nil},
		{"TLS at once", tlsBegin, nil, errNoHeader},
		{"longer than we read", v2Client(1, 5000), nil, errNoHeader},
		{"endless line", "PROXY TCP4 " + string(make([]byte, 200)), nil, errNoHeader},
	}
	for _, tt := range tests {
		for _, piece := range []int{1 << 20, 7, 1} {
			if piece == 1 && len(tt.in) > 200 {
				continue
			}
			t.Run(tt.name, func(t *testing.T) {
				s, c := connected(t)
				go func() {
					for b := []byte(tt.in + tlsBegin); len(b) > 0; {
						n, err := c.Write(b[:min(piece, len(b))])
						if err != nil {
							return
						}
						b = b[n:]
						if piece < 10 {
							time.Sleep(100 * time.Microsecond)
						}
					}
				}()
				o, err := readHeader(s, time.Now().Add(patience))
				if !errors.Is(err, tt.err) {
					t.Fatalf("%v, want %v", err, tt.err)
				}
				if err != nil {
					return
				}
				want := socketOrigin(s)
				want.proxy, want.ownWord = want.peer, true
				if tt.want != nil {
					want = *tt.want
					want.proxy = addrPort(s.RemoteAddr())
				}
				if o != want {
					t.Errorf("%+v, want %+v", o, want)
				}
				rest := make([]byte, len(tlsBegin))
				if _, err := io.ReadFull(s, rest); err != nil || string(rest) != tlsBegin {
					t.Errorf("what follows is %q, %v", rest, err)
				}
			})
		}
	}
}

func TestReadHeaderEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		client func(*net.TCPConn)
		want   error
	}{
		"closed at once": {func(c *net.TCPConn) { c.Close() }, io.EOF},
		"reset":          {func(c *net.TCPConn) { c.SetLinger(0); c.Close() }, io.EOF},
		"cut":            {func(c *net.TCPConn) { c.Write([]byte(v1Client[:20])); c.Close() }, errNoHeader},
		"silence":        {func(*net.TCPConn) {}, errNoHeader},
		"slow":           {func(c *net.TCPConn) { c.Write([]byte(v1Client[:20])) }, errNoHeader},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := connected(t)
			tt.client(c)
			deadline := time.Now().Add(patience)
			if name == "silence" || name == "slow" {
				deadline = time.Now().Add(20 * time.Millisecond)
			}
			if _, err := readHeader(s, deadline); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

func TestExpectsHeader(t *testing.T) {
	some := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/64")}
	for _, tt := range []struct {
		on      bool
		trusted []netip.Prefix
		from    string
		want    bool
	}{
		{false, nil, "10.0.0.1", false}, {false, some, "10.0.0.1", false}, {true, nil, "192.0.2.1", true},
		{true, some, "10.255.0.1", true}, {true, some, "192.0.2.1", false}, {true, some, "2001:db8::9", true}, {true, some, "2001:db8:1::9", false},
	} {
		g := &config.Global{ListenProxyProto: tt.on, ProxyTrusted: tt.trusted}
		if got := expectsHeader(g, netip.MustParseAddr(tt.from)); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

// Who is counted, banned and refused where there is a proxy. The ghost has no
// workers: a client that is let in is one whose connection is scored.
func TestAdmitProxied(t *testing.T) {
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	elsewhere := []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	const client, proxy = "192.0.2.10", "127.0.0.1"
	tests := []struct {
		name    string
		trusted []netip.Prefix
		banned  string
		sends   string
		scored  string // whose connection is counted; "" is nobody's
	}{
		{"the client of the header is scored", loopback, "", v1Client + tlsBegin, client},
		{"and version 2", loopback, "", v2Client(1, 0) + tlsBegin, client},
		{"everybody is a proxy, as in ocserv", nil, "", v1Client + tlsBegin, client},
		{"a proxy by its own word is not", loopback, "", v2Client(0, 0) + tlsBegin, ""},
		{"a proxy without a header is not", loopback, "", tlsBegin, ""},
		{"a banned client stays out", loopback, client, v1Client + tlsBegin, ""},
		{"a banned proxy does not keep its clients out", loopback, proxy, v1Client + tlsBegin, client},
		{"who is no proxy needs no header", elsewhere, "", tlsBegin, proxy},
		{"and has no say", elsewhere, "", v1Client + tlsBegin, proxy},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := ghost()
			s.settings().ListenProxyProto, s.settings().ProxyTrusted = true, tt.trusted
			if tt.banned != "" {
				s.bans.Add(netip.MustParseAddr(tt.banned), 10, time.Now())
			}
			conn, c := connected(t)
			c.Write([]byte(tt.sends))
			s.door.admit(conn)
			gone(t, c)
			eventually(t, "its places free again", func() bool { return s.door.logins.len() == 0 && s.door.waiting.len() == 0 })
			scored := ""
			for _, e := range s.bans.List(time.Now()) {
				if !e.Banned {
					scored = e.Source.Addr().String()
				}
			}
			if scored != tt.scored {
				t.Errorf("scored: %q, want %q", scored, tt.scored)
			}
		})
	}
}

// A header from somebody who is no proxy costs no worker.
func TestForeignHeader(t *testing.T) {
	for in, want := range map[string]bool{
		"P": true, v1Client: true, v2Client(1, 0): true, "\r": true, "PROXY": true, tlsBegin: false, "POST / HTTP/1.1\r\n": false, "GET /": false,
	} {
		s, c := connected(t)
		c.Write([]byte(in))
		if err := awaitFirstByte(s, time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if got := beginsHeader(s); got != want {
			t.Errorf("%.20q: %v", in, got)
		}
		g := ghost()
		g.settings().ListenProxyProto, g.settings().ProxyTrusted = true, []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
		err := g.door.hear(&visitor{conn: s, from: socketOrigin(s)})
		if errors.Is(err, errHeaderFrom) != want {
			t.Errorf("%.20q: %v", in, err)
		}
	}
}

// A named proxy's connections have the whole hall, those of one client behind
// it a share; and no place is lost on the way from one to the other.
func TestProxiedShares(t *testing.T) {
	s := ghost()
	s.settings().ListenProxyProto = true
	s.settings().ProxyTrusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	b := s.door.room()
	var pending []*net.TCPConn
	for range b.share + 2 {
		conn, c := connected(t)
		s.door.admit(conn)
		pending = append(pending, c)
	}
	if n := s.door.waiting.len(); n != b.share+2 {
		t.Errorf("%d of a proxy's %d connections wait", n, b.share+2)
	}
	for _, c := range pending {
		c.Write([]byte(v1Client)) // and not a byte of its own
	}
	eventually(t, "the share of one client", func() bool { return s.door.waiting.len() == b.share })
}

// Bans: the operator's networks are exempt, the host's own unless told otherwise.
func TestBanPolicy(t *testing.T) {
	// No interface of this machine has an address of class E.
	exempt := []netip.Prefix{netip.MustParsePrefix("240.0.113.0/24")}
	for _, tt := range []struct {
		g               config.Global
		loopback, named bool
	}{
		{config.Global{}, true, false},
		{config.Global{BanExempt: exempt}, true, true},
		{config.Global{BanExempt: exempt, BanLocal: true}, false, true},
		{config.Global{BanLocal: true}, false, false},
	} {
		tt.g.MaxBanScore, tt.g.BanTime, tt.g.BanResetTime = 1, time.Hour, time.Hour
		s := ghost()
		s.bans.SetPolicy(banPolicy(&tt.g))
		for addr, want := range map[string]bool{"127.0.0.1": tt.loopback, "240.0.113.7": tt.named, "240.51.100.1": false} {
			s.bans.Add(netip.MustParseAddr(addr), 1, time.Now())
			if got := !s.bans.Banned(netip.MustParseAddr(addr), time.Now()); got != want {
				t.Errorf("ban-local %v, ban-exempt %v: %s exempt %v", tt.g.BanLocal, tt.g.BanExempt, addr, got)
			}
		}
	}
}
