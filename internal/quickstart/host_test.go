package quickstart

import (
	"fmt"
	mathrand "math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestParseRoutes(t *testing.T) {
	const table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" +
		"eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" +
		"eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n" +
		"eth0\t0000000A\t010200C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0\n" +
		"eth0\t0100000A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n" +
		"eth0\tzz\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n" +
		"short\n"
	want := "[192.0.2.0/24 10.0.0.0/8 10.0.0.1/32]"
	if nativeIsBig() {
		t.Skip("the sample is of a little-endian machine")
	}
	if got := fmt.Sprint(parseRoutes(table)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if b, err := os.ReadFile("/proc/net/route"); err == nil {
		for _, r := range parseRoutes(string(b)) {
			if !r.IsValid() || r.Bits() == 0 || r != r.Masked() {
				t.Errorf("this host has a route %v", r)
			}
		}
	}
}

func nativeIsBig() bool {
	return fmt.Sprint(parseRoutes("x\t0000000A\tx\tx\tx\tx\tx\t000000FF\n")) != "[10.0.0.0/8]"
}

// The pool is free where anything is, and private wherever it is.
func TestPool4(t *testing.T) {
	p := netip.MustParsePrefix
	for _, c := range []struct {
		taken []netip.Prefix
		first string // byte of the result
	}{
		{nil, "10."},
		{[]netip.Prefix{p("10.0.0.0/9"), p("10.128.0.0/10")}, "10."},
		{[]netip.Prefix{p("10.0.0.0/8")}, "172."},
		{[]netip.Prefix{p("10.0.0.0/8"), p("172.16.0.0/12")}, "192.168."},
		{[]netip.Prefix{p("10.0.0.0/8"), p("172.16.0.0/12"), p("192.168.0.0/16")}, "100."},
		{[]netip.Prefix{p("0.0.0.0/1"), p("128.0.0.0/1")}, "10."}, // nothing is free
	} {
		for i := range 20 {
			h := &host{intn: mathrand.New(mathrand.NewPCG(uint64(i), 7)).IntN}
			h.addrs, h.routes = c.taken[:len(c.taken)/2], c.taken[len(c.taken)/2:]
			got := h.pool4()
			if !strings.HasPrefix(got.String(), c.first) || got.Bits() != 24 || got != got.Masked() {
				t.Errorf("%v: %v", c.taken, got)
			}
			if !h.free(got) && len(c.taken) != 2 {
				t.Errorf("%v: %v is taken", c.taken, got)
			}
			if a := got.Addr(); !a.IsPrivate() && !p("100.64.0.0/10").Contains(a) {
				t.Errorf("%v is a public network", got)
			}
		}
	}
	if a, b := pool6(), pool6(); a == b || !a.Addr().IsPrivate() || a.Bits() != 64 || a != a.Masked() || a.Addr().As16()[6] != 0 {
		t.Errorf("IPv6 pools %v, %v", a, b)
	}
}

func TestUserName(t *testing.T) {
	for env, want := range map[string]string{
		"kim": "kim", "Kim.Lee_2-x": "Kim.Lee_2-x", "": "vpn", "a:b": "vpn", "#x": "vpn", "-x": "vpn", "..": "vpn", "a/b": "vpn", "k\u00edm": "vpn",
		strings.Repeat("x", 33): "vpn", "a b": "vpn",
	} {
		if got := userName(func(k string) string { return map[string]string{"USER": env}[k] }); got != want {
			t.Errorf("%q: %q, want %q", env, got, want)
		}
	}
	if got := userName(func(k string) string { return map[string]string{"LOGNAME": "kim"}[k] }); got != "kim" {
		t.Errorf("LOGNAME: %q", got)
	}
}

func TestNewPassword(t *testing.T) {
	seen := map[string]bool{}
	digits := map[rune]bool{}
	for range 1000 {
		s := newPassword()
		parts := strings.Split(s, "-")
		if len(parts) != 4 || slices.ContainsFunc(parts, func(p string) bool { return len(p) != 4 }) || strings.ContainsAny(s, "ilouILOU") || seen[s] {
			t.Fatalf("%q", s)
		}
		seen[s] = true
		for _, r := range strings.Join(parts, "") {
			digits[r] = true
		}
	}
	if len(digits) != 32 { // five bits each, sixteen of them
		t.Errorf("%d different characters", len(digits))
	}
}

func TestQuoted(t *testing.T) {
	for in, want := range map[string]string{
		"/home/kim/x": "/home/kim/x", "a b": "'a b'", "": "''", "it's": `'it'\''s'`, "$x": "'$x'", "[::1]:8443": "'[::1]:8443'",
		"pin-sha256:a+/=": "pin-sha256:a+/=",
	} {
		if got := quoted(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestThisHost(t *testing.T) {
	h := thisHost()
	if h.firstPort < 0 || h.firstPort > 65535 || h.now().IsZero() || h.intn(1) != 0 {
		t.Errorf("%+v", h)
	}
	for _, a := range h.addresses() {
		if a.IsLoopback() || a.IsLinkLocalUnicast() {
			t.Errorf("%v", a)
		}
	}
}
