package way

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"rocserv/egress"
)

func (r *rig) explained(p egress.Proto, dst string) string {
	e := r.ways.Explain(p, netip.MustParseAddrPort(dst))
	text := e.Line + ":"
	for _, h := range e.Ways {
		text += " " + h.Name
		if !h.Carries {
			text += "(cannot)"
		}
		if !h.Up {
			text += "(down)"
		}
		if h.Up != (h.Err == nil) {
			text += "(error?)"
		}
	}
	if e.Name != "" {
		text += " as " + e.Name
	}
	return text
}

// What is explained is what a dial does, and explaining changes nothing.
func TestExplain(t *testing.T) {
	closed := listen(t, slam)
	closed.Close()
	good := newSocksServer(t, &socksServer{})
	r := newRig(t, []Rule{
		{Rule: where("192.0.2.0/24"), Ways: []string{"bad", "good", "web"}, Text: "first"},
		{Rule: where("named.example"), Ways: []string{"good"}, Text: "second"},
		{Rule: where("203.0.113.0/24"), Ways: []string{"direct"}, Text: "third"},
	}, proxyAt("bad", SOCKS5, closed), proxyAt("good", SOCKS5, good.listener), proxyAt("web", HTTP, good.listener))
	r.names.Learn("named.example", netip.MustParseAddr("198.51.100.7"), time.Minute)
	r.names.Learn("other.example", netip.MustParseAddr("203.0.113.7"), time.Minute)
	check := func(when string, p egress.Proto, dst, want string) {
		t.Helper()
		for range 3 {
			if got := r.explained(p, dst); got != want {
				t.Errorf("%s, %s: %q, want %q", when, dst, got, want)
			}
		}
	}
	check("at first", egress.TCP, "192.0.2.1:443", "first: bad good web")
	check("at first", egress.UDP, "192.0.2.1:443", "first: bad good web(cannot)")
	check("at first", egress.TCP, "198.51.100.7:80", "second: good as named.example")
	check("at first", egress.TCP, "203.0.113.7:80", "third: direct")
	check("at first", egress.TCP, "198.51.100.8:80", ": direct")
	r.echo(somewhere)
	check("after a failure", egress.TCP, "192.0.2.1:443", "first: good web bad(down)")
	r.clock.advance(2 * time.Second)
	check("when it is due", egress.TCP, "192.0.2.1:443", "first: good web bad(down)")
}

// What the configuration names is reached by the ways named, by name or address,
// whatever the policy says of clients, and by no other.
func TestVia(t *testing.T) {
	good := newSocksServer(t, &socksServer{})
	target := listen(t, hang)
	closed := listen(t, slam)
	closed.Close()
	r := newRig(t, nil, proxyAt("bad", SOCKS5, closed), proxyAt("good", SOCKS5, good.listener))
	dial := func(host string, port uint16, ways ...string) error {
		t.Helper()
		via, err := r.ways.Via(ways)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		c, err := via(ctx, host, port)
		if err == nil {
			c.Close()
		}
		return err
	}
	if err := dial("dns.example", 853, "bad", "good"); err != nil {
		t.Error(err)
	}
	if err := dial("192.0.2.53", 53, "good"); err != nil {
		t.Error(err)
	}
	var failure *Failure
	if err := dial("192.0.2.53", 53, "bad"); !errors.As(err, &failure) {
		t.Errorf("past the proxy: %v", err)
	}
	// Directly: clients may go nowhere, and the name is looked up here.
	none, err := egress.NewPolicy(egress.PolicyConfig{})
	if err != nil {
		t.Fatal(err)
	}
	d := egress.NewDirect(none, egress.DirectConfig{})
	defer d.Close()
	w, err := New(Config{Direct: d, Policy: none, Lookup: func(_ context.Context, name string) ([]netip.Addr, error) {
		if name != "dns.example" {
			t.Errorf("asked for %s", name)
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.ways = w
	for _, host := range []string{"127.0.0.1", "dns.example"} {
		if err := dial(host, target.addr().Port(), "direct"); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, names := range [][]string{nil, {"nowhere"}} {
		if _, err := w.Via(names); err == nil || !strings.Contains(err.Error(), "no way") {
			t.Errorf("%q: %v", names, err)
		}
	}
}
