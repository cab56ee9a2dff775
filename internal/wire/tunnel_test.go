package wire

import (
	"bytes"
	"errors"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func addrs(s ...string) []netip.Addr {
	var list []netip.Addr
	for _, a := range s {
		list = append(list, netip.MustParseAddr(a))
	}
	return list
}

func routes(s ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, p := range s {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}

// sample is the tunnel of testdata/openconnect-9.01: ocserv's configuration in
// record/capture.sh.
func sample() *Tunnel {
	id := make([]byte, 32)
	for i := range id {
		id[i] = byte(i)
	}
	return &Tunnel{
		Agent:      AgentOpenConnect,
		ServerName: "ocserv 1.1.6",
		Hostname:   "laptop",
		Addresses:  Addresses{IPv4: netip.MustParseAddr("10.211.0.50"), Bits4: 24, IPv6: netip.MustParseAddr("fd00:211:0:8e4f:9a7c:c09f:b76e:58ef"), Bits6: 64},
		Names:      Names{DNS: addrs("10.211.0.1", "fd00:211::1"), NBNS: addrs("10.211.0.3"), Split: []string{"corp.example"}, Domain: "example.com"},
		Routes:     Routes{Include: routes("10.0.0.0/8", "fd00:211::/48"), Exclude: routes("10.1.0.0/16")},
		Timers: Timers{
			DPD: 90 * time.Second, Keepalive: 32400 * time.Second, Idle: 1200 * time.Second,
			Session: 36000 * time.Second, SessionLeft: 36000 * time.Second, Rekey: 172800 * time.Second,
		},
		MTU:      MTU{1500, 1434},
		DTLS:     &TunnelDTLS{Port: 24443, ID: id, Choice: DTLSChoice{Mode: DTLSPSK, Name: pskNegotiate}},
		ProxyURL: "http://example.com/proxy.pac",
		Banner:   "Hi there",
		Custom:   []string{"X-Custom: yes"},
	}
}

// checkReply holds what is true of every reply.
func checkReply(t *testing.T, b []byte) {
	t.Helper()
	lines, ok := strings.CutSuffix(string(b), "\r\n\r\n")
	if !ok || !strings.HasPrefix(lines, "HTTP/1.1 200 CONNECTED\r\nX-CSTP-Version: 1\r\n") {
		t.Fatalf("reply %q", b)
	}
	for _, l := range strings.Split(lines, "\r\n")[1:] {
		f, ok := parseField(l)
		if !ok || l != f.Name+": "+f.Value && l != f.Name+":" {
			t.Fatalf("line %q", l)
		}
	}
	for _, must := range []string{"\r\nX-CSTP-MTU: ", "\r\nX-CSTP-Address", "\r\nX-CSTP-DPD: "} {
		if !strings.Contains(lines, must) {
			t.Fatalf("no %q in %q", must, b)
		}
	}
}

func (t *Tunnel) lines(tb testing.TB) []string {
	tb.Helper()
	b, err := t.Response()
	if err != nil {
		tb.Fatal(err)
	}
	if tt, ok := tb.(*testing.T); ok {
		checkReply(tt, b)
	}
	return strings.Split(strings.TrimSuffix(string(b), "\r\n\r\n"), "\r\n")
}

// The reply is ocserv's, line by line, but for what is meant to differ.
func TestTunnelAsOcserv(t *testing.T) {
	tests := []struct {
		file   string
		change func(*Tunnel)
	}{
		{"xml", func(*Tunnel) {}},
		{"ipv4-only", func(u *Tunnel) { u.Addresses.IPv6 = netip.Addr{} }},
		{"no-dtls", func(u *Tunnel) { u.DTLS, u.MTU.Tunnel = nil, 1472 }},
		{"legacy-dtls", func(u *Tunnel) {
			u.DTLS.Choice = DTLSChoice{DTLSLegacy, SuiteRSAAES256GCM, "AES256-GCM-SHA384", true}
		}},
		{"ua-anyconnect", func(u *Tunnel) { u.Agent = AgentAnyConnect }},
		{"ua-v3", func(u *Tunnel) { u.Agent = AgentOpenConnectV3 }},
		{"ua-cisco-ios", func(u *Tunnel) { u.Agent, u.Timers.DPD = AgentAnyConnectIOS, 1800*time.Second }},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			u := sample()
			tt.change(u)
			c := transcript(t, "openconnect-9.01/"+tt.file)[0]
			i := bytes.Index(c.server, []byte("HTTP/1.1 200 CONNECTED"))
			theirs := strings.Split(strings.TrimSuffix(string(c.server[i:]), "\r\n\r\n"), "\r\n")
			compare(t, comparable(u.lines(t)), comparable(theirs))
		})
	}
}

// included-http-headers are in the reply as far as they are header lines that do
// not end it.
func TestTunnelIncludedHeaders(t *testing.T) {
	u := sample()
	u.HTTP = []string{"Strict-Transport-Security: max-age=1", "no field", "content-length: 5", "X-A:b"}
	var added []string
	before := sample().lines(t)
	for _, l := range u.lines(t) {
		if !slices.Contains(before, l) {
			added = append(added, l)
		}
	}
	if want := []string{"Strict-Transport-Security: max-age=1", "X-A: b"}; !slices.Equal(added, want) {
		t.Errorf("added %q, want %q", added, want)
	}
}

// comparable removes what differs: chance, the way to rekey, the second
// spelling of PAC, and 2000::/3, which ocserv sends beside routes as well.
func comparable(lines []string) []string {
	var out []string
	for _, l := range lines {
		switch name, _, _ := strings.Cut(l, ":"); name {
		case "X-CSTP-Rekey-Time", "X-CSTP-Rekey-Method", "X-DTLS-Rekey-Time", "X-DTLS-Rekey-Method", "X-DTLS-App-ID", "X-DTLS-Session-ID":
			out = append(out, name)
		case "X-CSTP-MSIE-Proxy-PAC-URL":
		default:
			if l != "X-CSTP-Split-Include-IP6: 2000::/3" {
				out = append(out, l)
			}
		}
	}
	return out
}

func compare(t *testing.T, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		var g, w string
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Fatalf("line %d: %q, want %q", i, g, w)
		}
	}
}

func TestTunnelHeaders(t *testing.T) {
	tests := []struct {
		name    string
		change  func(*Tunnel)
		has     []string // in this order
		without []string // prefixes
	}{
		{"PSK", func(*Tunnel) {}, []string{
			"X-CSTP-Rekey-Time: 172800", "X-CSTP-Rekey-Method: new-tunnel",
			"X-CSTP-MSIE-Proxy-Pac-URL: http://example.com/proxy.pac", "X-CSTP-MSIE-Proxy-PAC-URL: http://example.com/proxy.pac",
			"X-DTLS-Rekey-Time: 172810", "X-DTLS-Rekey-Method: new-tunnel",
			"X-DTLS-App-ID: 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "X-DTLS-CipherSuite: PSK-NEGOTIATE",
		}, []string{"X-DTLS-MTU", "X-DTLS-Session-ID", "X-DTLS12", "X-CSTP-DynDNS", "X-CSTP-Content", "X-DTLS-Content", "X-CSTP-Lease"}},
		{"legacy", func(u *Tunnel) {
			u.DTLS.Choice = DTLSChoice{DTLSLegacy, SuiteECDHERSAAES256GCM, "ECDHE-RSA-AES256-GCM-SHA384", true}
		}, []string{
			"X-DTLS-Session-ID: 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
			"X-DTLS12-CipherSuite: ECDHE-RSA-AES256-GCM-SHA384", "X-DTLS-MTU: 1434",
		}, []string{"X-DTLS-App-ID", "X-DTLS-CipherSuite"}},
		{"openconnect 7", func(u *Tunnel) {
			u.DTLS.Choice = DTLSChoice{DTLSLegacy, SuiteRSAAES256GCM, "OC-DTLS1_2-AES256-GCM", false}
		}, []string{"X-DTLS-CipherSuite: OC-DTLS1_2-AES256-GCM"}, []string{"X-DTLS12", "X-DTLS-App-ID"}},
		{"no DTLS", func(u *Tunnel) { u.DTLS = nil }, nil, []string{"X-DTLS"}},
		{"old IPv6", func(u *Tunnel) { u.Addresses.Old6 = true }, []string{
			"X-CSTP-Address: 10.211.0.50", "X-CSTP-Netmask: 255.255.255.0",
			"X-CSTP-Address: fd00:211:0:8e4f:9a7c:c09f:b76e:58ef", "X-CSTP-Netmask: fd00:211:0:8e4f:9a7c:c09f:b76e:58ef/64",
		}, []string{"X-CSTP-Address-IP6", "X-CSTP-Split-Include-IP6", "X-CSTP-DNS: fd", "X-CSTP-DNS-IP6"}},
		{"IPv6 only", func(u *Tunnel) { u.Addresses.IPv4 = netip.Addr{} }, []string{"X-CSTP-Address-IP6: fd00:211:0:8e4f:9a7c:c09f:b76e:58ef/64", "X-CSTP-DNS: fd00:211::1"},
			[]string{"X-CSTP-Address:", "X-CSTP-Netmask", "X-CSTP-NBNS", "X-CSTP-Split-Include:", "X-CSTP-Split-Exclude:", "X-CSTP-DNS: 10"}},
		{"too small for IPv6", func(u *Tunnel) { u.MTU.Tunnel = 1279 }, []string{"X-CSTP-Address: 10.211.0.50", "X-CSTP-MTU: 1279"}, []string{"X-CSTP-Address-IP6", "X-CSTP-Split-Include-IP6"}},
		{"unknown client", func(u *Tunnel) { u.Agent = AgentUnknown }, []string{"X-CSTP-DNS: 10.211.0.1", "X-CSTP-DNS-IP6: fd00:211::1"}, nil},
		{"iOS without routes", func(u *Tunnel) { u.Agent, u.Routes.Include = AgentAnyConnectIOS, routes("10.0.0.0/8") },
			[]string{"X-CSTP-Split-Include-IP6: 2000::/3", "X-CSTP-Split-Include: 10.0.0.0/255.0.0.0"}, nil},
		{"iOS with routes", func(u *Tunnel) { u.Agent = AgentAnyConnectIOS }, []string{"X-CSTP-Split-Include-IP6: fd00:211::/48"}, []string{"X-CSTP-Split-Include-IP6: 2000"}},
		{"iOS with IPv4 only", func(u *Tunnel) { u.Agent, u.Addresses.IPv6 = AgentAnyConnectIOS, netip.Addr{} }, nil, []string{"X-CSTP-Split-Include-IP6"}},
		{"own LAN", func(u *Tunnel) { u.Routes.Exclude = routes("10.1.0.0/16", "fd01::/16", "0.0.0.0/32") }, []string{
			"X-CSTP-Split-Exclude: 0.0.0.0/255.255.255.255", "X-CSTP-Split-Exclude: 10.1.0.0/255.255.0.0", "X-CSTP-Split-Exclude-IP6: fd01::/16",
		}, nil},
		{"default route", func(u *Tunnel) { u.Routes.Include = nil }, nil, []string{"X-CSTP-Split-Include"}},
		{"0/0", func(u *Tunnel) { u.Routes.Include = routes("0.0.0.0/0", "::/0") }, []string{"X-CSTP-Split-Include: 0.0.0.0/0.0.0.0", "X-CSTP-Split-Include-IP6: ::/0"}, nil},
		{"bypass and DNS", func(u *Tunnel) { u.Routes.Bypass, u.Names.TunnelAll = true, true }, []string{"X-CSTP-Tunnel-All-DNS: true", "X-CSTP-Client-Bypass-Protocol: true"}, nil},
		{"several domains", func(u *Tunnel) { u.Names.Domain = " a.example, b.example;c.example\td.example " },
			[]string{"X-CSTP-Default-Domain: a.example,b.example,c.example,d.example"}, nil},
		{"no domain", func(u *Tunnel) { u.Names.Domain = " , " }, nil, []string{"X-CSTP-Default-Domain"}},
		{"no timers", func(u *Tunnel) { u.Timers = Timers{} }, []string{
			"X-CSTP-DPD: 0", "X-CSTP-Keepalive: 0", "X-CSTP-Idle-Timeout: none", "X-CSTP-Rekey-Method: none", "X-CSTP-Session-Timeout: none", "X-DTLS-Rekey-Method: none",
		}, []string{"X-CSTP-Rekey-Time", "X-DTLS-Rekey-Time", "X-CSTP-Session-Timeout-Remaining"}},
		{"session that is over", func(u *Tunnel) { u.Timers.SessionLeft = -time.Hour }, []string{"X-CSTP-Session-Timeout: 36000", "X-CSTP-Session-Timeout-Remaining: 0"}, nil},
		{"DynDNS", func(u *Tunnel) { u.DynDNS = true }, []string{"X-CSTP-DynDNS: true"}, nil},
		{"no proxy", func(u *Tunnel) { u.ProxyURL = "" }, nil, []string{"X-CSTP-MSIE"}},
		{"compression", func(u *Tunnel) { u.Encoding, u.DTLS.Encoding = "oc-lz4", "lzs" }, []string{"X-CSTP-Content-Encoding: oc-lz4", "X-DTLS-Content-Encoding: lzs"}, nil},
		{"banner of lines", func(u *Tunnel) { u.Banner = "Hi\r\nthere\n" }, []string{"X-CSTP-Banner: Hi there"}, nil},
		{"no names", func(u *Tunnel) { u.ServerName, u.Hostname, u.Banner = "", "", "" }, []string{"X-CSTP-Server-Name:"}, []string{"X-CSTP-Hostname", "X-CSTP-Banner"}},
		{"mapped DNS", func(u *Tunnel) { u.Names.DNS = addrs("::ffff:10.0.0.9") }, []string{"X-CSTP-DNS: 10.0.0.9"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := sample()
			tt.change(u)
			lines := u.lines(t)
			last := -1
			for _, h := range tt.has {
				i := slices.Index(lines, h)
				if i <= last {
					t.Errorf("%q: line %d, after %d in\n%s", h, i, last, strings.Join(lines, "\n"))
				}
				last = i
			}
			for _, p := range tt.without {
				if i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, p) }); i >= 0 {
					t.Errorf("there is %q", lines[i])
				}
			}
		})
	}
}

func TestTunnelRefuses(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Tunnel)
		err    error
	}{
		{"no address", func(u *Tunnel) { u.Addresses = Addresses{} }, ErrNoAddress},
		{"only IPv6, too small", func(u *Tunnel) { u.Addresses.IPv4, u.MTU.Tunnel = netip.Addr{}, 1000 }, ErrNoAddress},
		{"no MTU", func(u *Tunnel) { u.MTU = MTU{} }, ErrTunnel},
		{"mask", func(u *Tunnel) { u.Addresses.Bits4 = 33 }, ErrTunnel},
		{"prefix", func(u *Tunnel) { u.Addresses.Bits6 = -1 }, ErrTunnel},
		{"short App-ID", func(u *Tunnel) { u.DTLS.ID = u.DTLS.ID[1:] }, ErrTunnel},
		{"DTLS without mode", func(u *Tunnel) { u.DTLS.Choice = DTLSChoice{} }, ErrTunnel},
		{"route", func(u *Tunnel) { u.Routes.Include = append(u.Routes.Include, netip.Prefix{}) }, ErrField},
		{"server name", func(u *Tunnel) { u.ServerName = "a\r\nX-Evil: 1" }, ErrField},
		{"host name", func(u *Tunnel) { u.Hostname = "a\nb" }, ErrField},
		{"domain", func(u *Tunnel) { u.Names.Domain = "a\r\n" }, ErrField},
		{"split DNS", func(u *Tunnel) { u.Names.Split = []string{"a\x00"} }, ErrField},
		{"proxy", func(u *Tunnel) { u.ProxyURL = "http://x/\r\nX-Evil: 1" }, ErrField},
		{"custom header", func(u *Tunnel) { u.Custom = []string{"X-User: a\r\nX-Evil: 1"} }, ErrField},
		{"custom header that would end the reply", func(u *Tunnel) { u.Custom = []string{"content-length: 0"} }, ErrField},
		{"custom header without name", func(u *Tunnel) { u.Custom = []string{"hello"} }, ErrField},
		{"encoding", func(u *Tunnel) { u.Encoding = "a\nb" }, ErrField},
		{"banner", func(u *Tunnel) { u.Banner = "a\x00b" }, ErrField},
	}
	for _, tt := range tests {
		u := sample()
		tt.change(u)
		if b, err := u.Response(); !errors.Is(err, tt.err) || b != nil {
			t.Errorf("%s: %v, %q", tt.name, err, b)
		}
	}
}

func TestParseRoute(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.0/8":                  "10.0.0.0/8",
		"10.1.2.3/255.0.0.0":          "10.0.0.0/8",
		"10.1.2.3/255.255.255.255":    "10.1.2.3/32",
		"0.0.0.0/0.0.0.0":             "0.0.0.0/0",
		"0.0.0.0/255.255.255.255":     "0.0.0.0/32",
		"fd00::1/8":                   "fd00::/8",
		"::/0":                        "::/0",
		"10.0.0.0":                    "",
		"":                            "",
		"10.0.0.0/33":                 "",
		"10.0.0.0/255.0.255.0":        "",
		"fd00::/255.0.0.0":            "",
		"10.0.0.0/ffff::":             "",
		"::ffff:10.0.0.0/104":         "",
		"fe80::1%eth0/64":             "",
		"10.0.0.0/8\r\nX-Evil: 1":     "",
		"10.0.0.0/255.0.0.0\r\nX: 1":  "",
		"default":                     "",
		"10.0.0.0/255.0.0.0/8":        "",
		"::ffff:10.0.0.0/255.0.0.0":   "",
		"010.0.0.0/8":                 "",
		"10.0.0.0/255.255.255.0 ":     "",
		"256.0.0.0/255.255.255.0":     "",
		"192.0.2.128/255.255.255.128": "192.0.2.128/25",
	} {
		p, err := ParseRoute(in)
		if want == "" {
			if err == nil {
				t.Errorf("%q: %v", in, p)
			}
			continue
		}
		if err != nil || p.String() != want {
			t.Errorf("%q: %v, %v", in, p, err)
		}
	}
}

func TestDottedMask(t *testing.T) {
	for bits, want := range map[int]string{0: "0.0.0.0", 1: "128.0.0.0", 8: "255.0.0.0", 23: "255.255.254.0", 31: "255.255.255.254", 32: "255.255.255.255"} {
		if got := dottedMask(bits); got != want {
			t.Errorf("/%d: %s", bits, got)
		}
	}
	for bits := range 33 {
		if got := maskBits(netip.MustParseAddr(dottedMask(bits))); got != bits {
			t.Errorf("/%d became /%d", bits, got)
		}
	}
}

func TestMTU(t *testing.T) {
	gcm := SuiteECDHERSAAES256GCM.Overhead()
	tests := []struct {
		name         string
		in           MTUInput
		link, tunnel int
	}{
		{"as ocserv", MTUInput{Configured: 1500, ClientLink: 65535, Client: 65425, Overhead: gcm}, 1500, 1434},
		{"over IPv6", MTUInput{Configured: 1500, Outer6: true, Overhead: gcm}, 1500, 1414},
		{"nothing known", MTUInput{Overhead: gcm}, 1500, 1434},
		{"ChaCha20", MTUInput{Overhead: SuitePSKChaCha20.Overhead()}, 1500, 1442},
		{"unknown suite", MTUInput{Overhead: Suite(1).Overhead()}, 1500, 1390},
		{"no DTLS", MTUInput{Overhead: CSTPOverhead}, 1500, 1411},
		{"client's link", MTUInput{ClientLink: 1399, Client: 9999, Overhead: gcm}, 1399, 1333},
		{"client's tunnel", MTUInput{Client: 1399, Overhead: gcm}, 1465, 1399},
		{"path", MTUInput{ClientLink: 1500, Path: 1280, Overhead: gcm}, 1280, 1214},
		{"jumbo", MTUInput{Configured: 9000, ClientLink: 9000, Overhead: gcm}, 9000, 8934},
		{"client of zero", MTUInput{ClientLink: 0, Client: 0, Overhead: gcm}, 1500, 1434},
		{"client of one", MTUInput{ClientLink: 1, Overhead: gcm}, 642, MinMTU}, // ocserv issue 717
		{"client of 65", MTUInput{ClientLink: 65, Overhead: gcm}, 642, MinMTU},
		{"tunnel of one", MTUInput{Client: 1, Overhead: gcm}, 642, MinMTU},
		{"client of many", MTUInput{ClientLink: maxClientMTU, Client: maxClientMTU, Overhead: gcm}, 1500, 1434},
		{"largest numbers", MTUInput{Configured: math.MaxInt, ClientLink: math.MaxInt, Client: math.MaxInt, Path: math.MaxInt, Overhead: gcm}, MaxMTU + 66, MaxMTU},
		{"smallest numbers", MTUInput{Configured: math.MinInt, ClientLink: math.MinInt, Client: math.MinInt, Path: math.MinInt, Overhead: gcm}, 1500, 1434},
		{"operator of ten", MTUInput{Configured: 10, Overhead: gcm}, 642, MinMTU},
		{"path of ten over IPv6", MTUInput{Path: 10, Outer6: true, Overhead: gcm}, 662, MinMTU},
	}
	for _, tt := range tests {
		if got := tt.in.MTU(); got != (MTU{tt.link, tt.tunnel}) {
			t.Errorf("%s: %+v, want %d, %d", tt.name, got, tt.link, tt.tunnel)
		}
	}
}

func FuzzMTU(f *testing.F) {
	f.Add(1500, 65535, 65425, 0, false, uint16(0xc030))
	f.Add(-1, 1, math.MaxInt32, math.MaxInt, true, uint16(0))
	f.Fuzz(func(t *testing.T, configured, link, client, path int, outer6 bool, suite uint16) {
		in := MTUInput{configured, link, client, path, outer6, Suite(suite).Overhead()}
		m := in.MTU()
		if m.Tunnel < MinMTU || m.Tunnel > MaxMTU || m.Link <= m.Tunnel {
			t.Fatalf("%+v gives %+v", in, m)
		}
		// A packet of that size fits into every link that is one.
		for _, l := range []int{configured, link, path} {
			if l >= MinMTU+200 && m.Link > l {
				t.Fatalf("%+v gives %+v", in, m)
			}
		}
	})
}

func BenchmarkTunnelResponse(b *testing.B) {
	u := sample()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := u.Response(); err != nil {
			b.Fatal(err)
		}
	}
}
