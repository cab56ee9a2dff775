package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
)

func mustPolicy(t testing.TB, cfg PolicyConfig) *Policy {
	t.Helper()
	p, err := NewPolicy(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func prefixes(s ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range s {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// denied is the verdict on an address; 0: allowed.
func denied(t testing.TB, p *Policy, proto Proto, a netip.Addr) Denied {
	t.Helper()
	port := uint16(443)
	if proto == ICMP || proto == ICMPv6 {
		port = 0
	}
	err := p.Check(proto, netip.AddrPortFrom(a, port))
	if err == nil {
		return 0
	}
	var d Denied
	if !errors.As(err, &d) || !errors.Is(err, ErrProhibited) || Classify(err) != Prohibited {
		t.Fatalf("%v: %v is no Denied of class Prohibited", a, err)
	}
	return d
}

// forms are the ways to write an IPv4 address as IPv6.
var forms = []struct {
	name string
	wrap func(v4 [4]byte) netip.Addr
}{
	{"plain", netip.AddrFrom4},
	{"mapped", func(a [4]byte) netip.Addr { return suffix("::ffff:0:0", a) }},
	{"compat", func(a [4]byte) netip.Addr { return suffix("::", a) }},
	{"nat64", func(a [4]byte) netip.Addr { return suffix("64:ff9b::", a) }},
	{"nat64 local /96", func(a [4]byte) netip.Addr { return suffix("64:ff9b:1::", a) }},
	{"nat64 configured /96", func(a [4]byte) netip.Addr { return suffix("2a00:64::", a) }},
	{"6to4", func(a [4]byte) netip.Addr {
		b := [16]byte{0x20, 0x02, a[0], a[1], a[2], a[3], 15: 1}
		return netip.AddrFrom16(b)
	}},
	{"teredo client", func(a [4]byte) netip.Addr {
		return netip.AddrFrom16([16]byte{0x20, 0x01, 0, 0, 8, 8, 8, 8, 12: ^a[0], 13: ^a[1], 14: ^a[2], 15: ^a[3]})
	}},
	{"teredo server", func(a [4]byte) netip.Addr {
		return netip.AddrFrom16([16]byte{0x20, 0x01, 0, 0, a[0], a[1], a[2], a[3], 12: 247, 13: 247, 14: 247, 15: 247})
	}},
}

func suffix(prefix string, v4 [4]byte) netip.Addr {
	b := addr(prefix).As16()
	copy(b[12:], v4[:])
	return netip.AddrFrom16(b)
}

// ranges are what the policy must know, written down a second time: first and
// last address, and what the lines say of it.
var ranges = []struct {
	first, last string
	want        Denied
}{
	{"0.0.0.0", "0.255.255.255", DeniedUnspecified},
	{"127.0.0.0", "127.255.255.255", DeniedLoopback},
	{"169.254.0.0", "169.254.255.255", DeniedLinkLocal},
	{"224.0.0.0", "239.255.255.255", DeniedMulticast},
	{"240.0.0.0", "255.255.255.254", DeniedReserved},
	{"255.255.255.255", "255.255.255.255", DeniedBroadcast},
	{"169.254.169.254", "169.254.169.254", DeniedMetadata},
	{"169.254.170.2", "169.254.170.2", DeniedMetadata},
	{"169.254.170.23", "169.254.170.23", DeniedMetadata},
	{"168.63.129.16", "168.63.129.16", DeniedMetadata},
	{"100.100.100.200", "100.100.100.200", DeniedMetadata},
	{"192.0.0.192", "192.0.0.192", DeniedMetadata},
	{"10.0.0.0", "10.255.255.255", DeniedPrivate},
	{"172.16.0.0", "172.31.255.255", DeniedPrivate},
	{"192.168.0.0", "192.168.255.255", DeniedPrivate},
	{"100.64.0.0", "100.127.255.255", DeniedShared},
	{"192.0.0.0", "192.0.0.255", DeniedSpecial},
	{"198.18.0.0", "198.19.255.255", DeniedSpecial},
	{"192.0.2.0", "192.0.2.255", DeniedDocumentation},
	{"198.51.100.0", "198.51.100.255", DeniedDocumentation},
	{"203.0.113.0", "203.0.113.255", DeniedDocumentation},

	{"::", "::", DeniedUnspecified},
	{"::1", "::1", DeniedLoopback},
	{"fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", DeniedLinkLocal},
	{"ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", DeniedMulticast},
	{"fd00:ec2::254", "fd00:ec2::254", DeniedMetadata},
	{"fd00:ec2::23", "fd00:ec2::23", DeniedMetadata},
	{"fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", DeniedPrivate},
	{"fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", DeniedPrivate},
	{"2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", DeniedDocumentation},
	{"3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", DeniedDocumentation},
}

// open are the neighbours of the ranges, and some others.
var open = []string{
	"1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
	"168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0",
	"191.255.255.255", "192.0.1.0", "192.0.3.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0",
	"198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255", "8.8.8.8",
	"2000::", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::", "2606:4700:4700::1111",
	"fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe00::", "fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	"3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::",
}

// TestRanges is every range × protocol × form × profile × egress-allow-unsafe.
func TestRanges(t *testing.T) {
	for _, internet := range []bool{false, true} {
		closed := mustPolicy(t, PolicyConfig{Internet: internet, NAT64: prefixes("2a00:64::/96")})
		for _, r := range ranges {
			opened := mustPolicy(t, PolicyConfig{
				Internet: internet, NAT64: prefixes("2a00:64::/96"), AllowUnsafe: cover(addr(r.first), addr(r.last)),
			})
			want := r.want
			if !want.Hard() && !internet {
				want = 0
			}
			for _, end := range []string{r.first, r.last} {
				eachForm(t, addr(end), func(name string, proto Proto, a netip.Addr) {
					if got := denied(t, closed, proto, a); got != want {
						t.Errorf("internet=%v %s %s as %s (%v), protocol %d: %v, want %v", internet, r.want, end, name, a, proto, got, want)
					}
					if got := denied(t, opened, proto, a); got != 0 {
						t.Errorf("internet=%v %s %s as %s (%v), protocol %d: %v though opened by name", internet, r.want, end, name, a, proto, got)
					}
				})
			}
		}
		for _, s := range open {
			eachForm(t, addr(s), func(name string, proto Proto, a netip.Addr) {
				if got := denied(t, closed, proto, a); got != 0 {
					t.Errorf("internet=%v %s as %s (%v), protocol %d: %v, want it allowed", internet, s, name, a, proto, got)
				}
			})
		}
	}
}

func eachForm(t *testing.T, a netip.Addr, f func(name string, proto Proto, a netip.Addr)) {
	t.Helper()
	if !a.Is4() {
		for _, proto := range []Proto{TCP, UDP, ICMPv6} {
			f("plain", proto, a)
		}
		return
	}
	for _, form := range forms {
		w := form.wrap(a.As4())
		if w == netip.IPv6Unspecified() || w == netip.IPv6Loopback() {
			continue // lines of their own
		}
		for _, proto := range []Proto{TCP, UDP, ICMP, ICMPv6} {
			f(form.name, proto, w)
		}
	}
}

// cover gives the prefixes that make up a range.
func cover(first, last netip.Addr) []netip.Prefix {
	var out []netip.Prefix
	for a := first; a.IsValid() && a.Compare(last) <= 0; {
		p := netip.PrefixFrom(a, a.BitLen())
		for p.Bits() > 0 {
			wider := netip.PrefixFrom(a, p.Bits()-1)
			if wider.Masked().Addr() != a || lastOf(wider).Compare(last) > 0 {
				break
			}
			p = wider
		}
		out = append(out, p)
		a = lastOf(p).Next()
	}
	return out
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func TestVerdicts(t *testing.T) {
	host := Host{
		OwnAddrs: []netip.Addr{addr("127.0.0.1"), addr("::1"), addr("fe80::1%eth0"), addr("10.1.2.3"),
			addr("198.41.0.4"), addr("2a00:1::5"), addr("::ffff:10.1.2.4")},
		OwnNets:   prefixes("10.1.2.3/24", "198.41.0.4/31", "203.5.0.1/32", "8.8.4.4/0", "2a00:1::5/64"),
		Listeners: []netip.AddrPort{netip.MustParseAddrPort("192.0.43.8:443")},
		Denied:    prefixes("10.96.0.1/32", "172.20.0.0/16", "::ffff:11.0.0.0/104"),
	}
	tests := []struct {
		name  string
		cfg   PolicyConfig
		proto Proto
		dst   string // without a port: 443
		want  Denied
	}{
		{"own address", PolicyConfig{Host: host}, TCP, "10.1.2.3", DeniedOwnAddress},
		{"own address as UDP", PolicyConfig{Host: host}, UDP, "198.41.0.4", DeniedOwnAddress},
		{"own address of IPv6", PolicyConfig{Host: host}, ICMPv6, "2a00:1::5", DeniedOwnAddress},
		{"own address given as mapped", PolicyConfig{Host: host}, TCP, "10.1.2.4", DeniedOwnAddress},
		{"own address through NAT64", PolicyConfig{Host: host}, TCP, "64:ff9b::10.1.2.3", DeniedOwnAddress},
		{"own address through 6to4", PolicyConfig{Host: host}, TCP, "2002:a01:203::1", DeniedOwnAddress},
		{"neighbour of an own address", PolicyConfig{Host: host}, TCP, "10.1.2.5", 0},
		{"own loopback opened by its range", PolicyConfig{Host: host, AllowUnsafe: prefixes("127.0.0.0/8")}, TCP, "127.0.0.1", 0},
		{"own address not opened by a wider prefix", PolicyConfig{Host: host, AllowUnsafe: prefixes("10.0.0.0/8")}, TCP, "10.1.2.3", DeniedOwnAddress},
		{"own address opened by name", PolicyConfig{Host: host, AllowUnsafe: prefixes("10.1.2.3/32")}, TCP, "10.1.2.3", 0},
		{"own address opened as mapped", PolicyConfig{Host: host, AllowUnsafe: prefixes("::ffff:10.1.2.3/128")}, TCP, "10.1.2.3", 0},

		{"directed broadcast", PolicyConfig{Host: host}, UDP, "10.1.2.255", DeniedBroadcast},
		{"directed broadcast of zeros", PolicyConfig{Host: host}, UDP, "10.1.2.0", DeniedBroadcast},
		{"no broadcast on a /31", PolicyConfig{Host: host}, UDP, "198.41.0.5", 0},
		{"no broadcast on a /32", PolicyConfig{Host: host}, UDP, "203.5.0.1", 0},
		{"no broadcast on a /0", PolicyConfig{Host: host, AllowUnsafe: prefixes("255.255.255.255/32")}, UDP, "255.255.255.255", 0},

		{"listener", PolicyConfig{Host: host}, TCP, "192.0.43.8", DeniedListener},
		{"listener, mapped", PolicyConfig{Host: host}, UDP, "::ffff:192.0.43.8", DeniedListener},
		{"listener through NAT64", PolicyConfig{Host: host}, TCP, "64:ff9b::192.0.43.8", DeniedListener},
		{"listener's address, other port", PolicyConfig{Host: host}, TCP, "192.0.43.8:80", 0},
		{"listener opened by name", PolicyConfig{Host: host, AllowUnsafe: prefixes("192.0.43.8/32")}, TCP, "192.0.43.8", 0},

		{"named by the host", PolicyConfig{Host: host}, TCP, "10.96.0.1", DeniedHost},
		{"named by the host, in it", PolicyConfig{Host: host}, ICMP, "172.20.9.9:0", DeniedHost},
		{"named by the host as mapped", PolicyConfig{Host: host}, TCP, "11.1.1.1", DeniedHost},
		{"beside it", PolicyConfig{Host: host}, TCP, "10.96.0.2", 0},

		{"metadata not opened by link-local", PolicyConfig{AllowUnsafe: prefixes("169.254.0.0/16")}, TCP, "169.254.169.254", DeniedMetadata},
		{"link-local opened", PolicyConfig{AllowUnsafe: prefixes("169.254.0.0/16")}, TCP, "169.254.1.1", 0},
		{"everything opens nothing that is listed", PolicyConfig{AllowUnsafe: prefixes("0.0.0.0/0", "::/0")}, TCP, "127.0.0.1", DeniedLoopback},
		{"loopback, one host opened", PolicyConfig{AllowUnsafe: prefixes("127.0.0.1/32")}, TCP, "127.0.0.2", DeniedLoopback},
		{"opened beats private", PolicyConfig{Internet: true, AllowUnsafe: prefixes("10.5.0.0/16")}, TCP, "10.5.1.1", 0},
		{"private beside it", PolicyConfig{Internet: true, AllowUnsafe: prefixes("10.5.0.0/16")}, TCP, "10.6.1.1", DeniedPrivate},
		{"the embedded address is opened", PolicyConfig{AllowUnsafe: prefixes("127.0.0.0/8")}, TCP, "64:ff9b::127.0.0.1", 0},
		{"naming the wrapping opens nothing", PolicyConfig{AllowUnsafe: prefixes("64:ff9b::/96")}, TCP, "64:ff9b::127.0.0.1", DeniedLoopback},

		{"protocol", PolicyConfig{}, 47, "8.8.8.8", DeniedProtocol},
		{"zone", PolicyConfig{AllowUnsafe: prefixes("fe80::/10")}, TCP, "[fe80::1%eth0]:443", DeniedZone},
		{"zone on a public address", PolicyConfig{}, TCP, "[2a00::1%1]:443", DeniedZone},

		{"teredo, both ends public", PolicyConfig{}, UDP, "2001:0:808:808::f7f7:f7f7", 0},
		{"nat64 local, /48", PolicyConfig{}, TCP, "64:ff9b:1:7f00:0:100::", DeniedLoopback},
		{"nat64 local, /48 with a public suffix", PolicyConfig{}, TCP, "64:ff9b:1:7f00:0:100:808:808", DeniedLoopback},
		{"nat64 local, /56", PolicyConfig{}, TCP, "64:ff9b:1:7f:0:1::", DeniedLoopback},
		{"nat64 local, /64", PolicyConfig{}, TCP, "64:ff9b:1:0:7f:0:100:0", DeniedLoopback},
		{"nat64 local, /64 of a subnet", PolicyConfig{Internet: true}, TCP, "64:ff9b:1:abcd:a:0:100:0", DeniedPrivate},
		{"nat64 local, nothing in it", PolicyConfig{}, TCP, "64:ff9b:1::", DeniedUnspecified},
		{"nat64 local, public", PolicyConfig{}, TCP, "64:ff9b:1:808:8:800::", 0},
		{"nat64 local, its length told", PolicyConfig{NAT64: prefixes("64:ff9b:1:7f00::/96")}, TCP, "64:ff9b:1:7f00::808:808", 0},
		{"nat64 configured /32", PolicyConfig{NAT64: prefixes("2a00:64::/32")}, TCP, "2a00:64:7f00:1::", DeniedLoopback},
		{"nat64 configured /40", PolicyConfig{NAT64: prefixes("2a00:64::/40")}, TCP, "2a00:64:7f:0:1::", DeniedLoopback},
		{"nat64 configured /48", PolicyConfig{NAT64: prefixes("2a00:64::/48")}, TCP, "2a00:64:0:7f00:0:100::", DeniedLoopback},
		{"nat64 configured /56", PolicyConfig{NAT64: prefixes("2a00:64::/56")}, TCP, "2a00:64:0:7f:0:1::", DeniedLoopback},
		{"nat64 configured /64", PolicyConfig{NAT64: prefixes("2a00:64::/64")}, TCP, "2a00:64::7f:0:100:0", DeniedLoopback},
		{"nat64 configured, the longest counts", PolicyConfig{NAT64: prefixes("2a00:64::/32", "2a00:64::/96")}, TCP, "2a00:64::7f00:1", DeniedLoopback},
		{"not a NAT64 prefix of ours", PolicyConfig{}, TCP, "2a00:64::7f00:1", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dst, err := netip.ParseAddrPort(tt.dst)
			if err != nil {
				dst = netip.AddrPortFrom(addr(tt.dst), 443)
			}
			p := mustPolicy(t, tt.cfg)
			var got Denied
			if err := p.Check(tt.proto, dst); err != nil && !errors.As(err, &got) {
				t.Fatalf("error %v", err)
			}
			if got != tt.want {
				t.Errorf("%v: %v, want %v", dst, got, tt.want)
			}
		})
	}
	if err := mustPolicy(t, PolicyConfig{}).Check(TCP, netip.AddrPort{}); !errors.Is(err, DeniedInvalid) {
		t.Errorf("no address: %v", err)
	}
}

func TestNewPolicyRefuses(t *testing.T) {
	for name, cfg := range map[string]PolicyConfig{
		"length":         {NAT64: prefixes("2a00:64::/80")},
		"family":         {NAT64: prefixes("10.0.0.0/32")},
		"no prefix":      {NAT64: []netip.Prefix{{}}},
		"invalid":        {AllowUnsafe: []netip.Prefix{{}}},
		"invalid denied": {Host: Host{Denied: []netip.Prefix{{}}}},
	} {
		if _, err := NewPolicy(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestSetHost: what the host is changes while others ask.
func TestSetHost(t *testing.T) {
	p := mustPolicy(t, PolicyConfig{Host: Host{OwnAddrs: []netip.Addr{addr("10.0.0.1")}, Denied: prefixes("10.9.0.0/16")}})
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if denied(t, p, TCP, addr("127.0.0.1")) != DeniedLoopback {
						t.Error("loopback was open while the host changed")
					}
				}
			}
		})
	}
	for i := range 100 {
		own := netip.AddrFrom4([4]byte{10, 0, 1, byte(i)})
		p.SetOwnAddrs([]netip.Addr{own})
		if d := denied(t, p, TCP, own); d != DeniedOwnAddress {
			t.Fatalf("new own address: %v", d)
		}
	}
	close(stop)
	wg.Wait()
	if d := denied(t, p, TCP, addr("10.0.0.1")); d != 0 {
		t.Errorf("former own address: %v", d)
	}
	if d := denied(t, p, TCP, addr("10.9.1.1")); d != DeniedHost {
		t.Errorf("SetOwnAddrs forgot what the host named: %v", d)
	}
	p.SetHost(Host{Denied: []netip.Prefix{{}}})
	if d := denied(t, p, TCP, addr("10.9.1.1")); d != 0 {
		t.Errorf("SetHost kept what the host named: %v", d)
	}
}

func TestDeniedText(t *testing.T) {
	seen := map[string]bool{}
	for d := DeniedInvalid; d <= DeniedDocumentation; d++ {
		if s := d.String(); s == "" || s == "unknown" || seen[s] {
			t.Errorf("refusal %d: text %q", d, s)
		} else {
			seen[s] = true
		}
	}
	if got, want := DeniedMetadata.Error(), "prohibited by egress policy: cloud metadata service"; got != want {
		t.Errorf("error %q, want %q", got, want)
	}
	if DeniedHost.Hard() != true || DeniedPrivate.Hard() != false {
		t.Error("tiers")
	}
	if s := fmt.Sprint(Denied(0), Denied(200)); s == "" {
		t.Error("no text for what is none")
	}
}

func TestCheckAllocatesNothing(t *testing.T) {
	p := mustPolicy(t, PolicyConfig{Internet: true})
	for _, a := range []string{"8.8.8.8", "127.0.0.1", "2001:0:808:808::f7f7:f7f7", "64:ff9b:1::10.0.0.1"} {
		dst := netip.AddrPortFrom(addr(a), 80)
		if n := testing.AllocsPerRun(100, func() { p.Check(TCP, dst) }); n != 0 {
			t.Errorf("%s: %v allocations", a, n)
		}
	}
}

// FuzzPolicy: however an IPv4 address is written, the verdict is that of the
// plain one.
func FuzzPolicy(f *testing.F) {
	for _, r := range ranges {
		if a := addr(r.first); a.Is4() {
			f.Add(a.AsSlice(), true)
		}
	}
	profiles := map[bool]*Policy{}
	for _, internet := range []bool{false, true} {
		profiles[internet] = mustPolicy(f, PolicyConfig{Internet: internet, NAT64: prefixes("2a00:64::/96")})
	}
	f.Fuzz(func(t *testing.T, b []byte, internet bool) {
		p := profiles[internet]
		switch len(b) {
		case 4:
			plain := denied(t, p, UDP, netip.AddrFrom4([4]byte(b)))
			for _, form := range forms {
				w := form.wrap([4]byte(b))
				if w == netip.IPv6Unspecified() || w == netip.IPv6Loopback() {
					continue
				}
				if got := denied(t, p, UDP, w); got != plain {
					t.Errorf("%v as %s: %v, plain %v", b, form.name, got, plain)
				}
			}
		case 16:
			denied(t, p, UDP, netip.AddrFrom16([16]byte(b)))
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	p := mustPolicy(b, PolicyConfig{Internet: true, Host: Host{OwnAddrs: []netip.Addr{addr("10.1.2.3"), addr("2a00::1")}}})
	for _, s := range []string{"8.8.8.8", "2606:4700:4700::1111", "64:ff9b::8.8.8.8"} {
		dst := netip.AddrPortFrom(addr(s), 443)
		b.Run(s, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Check(UDP, dst)
			}
		})
	}
}
