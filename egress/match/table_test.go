package match

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

func nets(s ...string) (list []netip.Prefix) {
	for _, p := range s {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}

func TestFind(t *testing.T) {
	table, err := New([]Rule{
		0: {Nets: nets("10.0.0.5/32"), Ports: []Ports{{TCP, 443, 443}}},
		1: {Nets: nets("10.0.0.0/24"), Ports: []Ports{{TCP, 1, 1023}, {UDP, 53, 53}}},
		2: {Domains: []string{"example.org"}},
		3: {Domains: []string{"*.test"}, Ports: []Ports{{TCP, 80, 80}}},
		4: {Nets: nets("10.0.0.0/8", "fd00::/8")},
		5: {Ports: []Ports{{TCP, 25, 25}, {ICMP, 0, 0}}},
		6: {Nets: nets("10.0.0.5/32")},
		7: {Nets: nets("::ffff:192.0.2.0/120")},
	})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		proto uint8
		dst   string
		names string
		want  int
	}{
		{TCP, "10.0.0.5:443", "", 0},
		{TCP, "10.0.0.5:80", "", 1},
		{TCP, "10.0.0.6:443", "", 1},
		{TCP, "10.0.0.5:8080", "", 4}, // and not 6, which is narrower but later
		{UDP, "10.0.0.5:53", "", 1},
		{UDP, "10.0.0.5:443", "", 4},
		{ICMP, "10.0.0.5:0", "", 4},
		{TCP, "[fd00::1]:25", "", 4},
		{TCP, "8.8.8.8:25", "", 5},
		{ICMP, "8.8.8.8:0", "", 5},
		{ICMPv6, "[2a00::1]:0", "", None},
		{TCP, "8.8.8.8:443", "", None},
		{TCP, "8.8.8.8:443", "example.org", 2},
		{TCP, "8.8.8.8:443", "a.b.example.org", 2},
		{TCP, "8.8.8.8:443", "notexample.org", None},
		{TCP, "8.8.8.8:25", "nothing.else www.example.org", 2},
		{TCP, "10.0.0.5:443", "example.org", 0},
		{TCP, "8.8.8.8:80", "a.test", 3},
		{TCP, "8.8.8.8:80", "test", None},
		{TCP, "8.8.8.8:81", "a.test", None},
		{TCP, "192.0.2.9:1", "", 7},
		{47, "10.0.0.5:443", "", None},
	}
	for _, tt := range tests {
		dst := netip.MustParseAddrPort(tt.dst)
		if got := table.Find(tt.proto, dst.Addr(), dst.Port(), strings.Fields(tt.names)); got != tt.want {
			t.Errorf("protocol %d to %s (%s): rule %d, want %d", tt.proto, tt.dst, tt.names, got, tt.want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, r := range []Rule{
		{Nets: []netip.Prefix{{}}}, {Domains: []string{""}}, {Domains: []string{"*."}}, {Domains: []string{"A.org"}},
		{Domains: []string{"a.org."}}, {Ports: []Ports{{TCP, 9, 8}}}, {Ports: []Ports{{47, 0, 0}}},
	} {
		if _, err := New([]Rule{{}, r}); err == nil || !strings.HasPrefix(err.Error(), "rule 2: ") {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

// scan is what Find is, one rule after the other.
func scan(rules []Rule, proto uint8, a netip.Addr, port uint16, names []string) int {
	for i, r := range rules {
		where := len(r.Nets)+len(r.Domains) == 0
		for _, p := range r.Nets {
			where = where || p.Contains(a)
		}
		for _, d := range r.Domains {
			for _, n := range names {
				rest, only := strings.CutPrefix(d, "*.")
				where = where || strings.HasSuffix(n, "."+rest) || !only && n == d
			}
		}
		what := len(r.Ports) == 0
		for _, p := range r.Ports {
			what = what || p.Proto == proto && p.First <= port && port <= p.Last
		}
		if where && what {
			return i
		}
	}
	return None
}

// TestAgainstScan compares with the plain reading of a list, on a world so
// small that everything overlaps.
func TestAgainstScan(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	protocols := []uint8{TCP, UDP, ICMP, ICMPv6}
	domains := []string{"a", "b.a", "c.b.a", "*.a", "*.b.a", "x.c.b.a"}
	names := []string{"a", "b.a", "c.b.a", "x.c.b.a", "z", "y.a"}
	small := func() netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(rnd.IntN(16))}) }
	for round := range 300 {
		rules := make([]Rule, 1+rnd.IntN(30))
		for i := range rules {
			r := &rules[i]
			for range rnd.IntN(3) {
				r.Nets = append(r.Nets, netip.PrefixFrom(small(), 26+rnd.IntN(7)).Masked())
			}
			if rnd.IntN(3) == 0 {
				r.Domains = append(r.Domains, domains[rnd.IntN(len(domains))])
			}
			for range rnd.IntN(4) {
				first := uint16(rnd.IntN(20))
				r.Ports = append(r.Ports, Ports{protocols[rnd.IntN(4)], first, first + uint16(rnd.IntN(8))})
			}
		}
		table, err := New(rules)
		if err != nil {
			t.Fatal(err)
		}
		for range 300 {
			proto, a, port := protocols[rnd.IntN(4)], small(), uint16(rnd.IntN(30))
			var of []string
			for range rnd.IntN(3) {
				of = append(of, names[rnd.IntN(len(names))])
			}
			if got, want := table.Find(proto, a, port, of), scan(rules, proto, a, port, of); got != want {
				t.Fatalf("round %d: protocol %d to %v:%d %v: rule %d, want %d\n%+v", round, proto, a, port, of, got, want, rules)
			}
		}
	}
}

func many(n int) []Rule {
	rnd := rand.New(rand.NewPCG(3, 4))
	rules := make([]Rule, n)
	for i := range rules {
		switch i % 3 {
		case 0:
			a := netip.AddrFrom4([4]byte{byte(rnd.IntN(200)), byte(rnd.IntN(256)), byte(rnd.IntN(256)), 0})
			rules[i].Nets = []netip.Prefix{netip.PrefixFrom(a, 24)}
		case 1:
			rules[i].Domains = []string{fmt.Sprintf("host%d.example.org", i)}
		case 2:
			rules[i].Ports = []Ports{{TCP, uint16(i), uint16(i)}}
		}
	}
	return rules
}

func TestFindAllocatesNothing(t *testing.T) {
	table, err := New(many(3000))
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"a.host1.example.org"}
	if n := testing.AllocsPerRun(100, func() { table.Find(TCP, netip.AddrFrom4([4]byte{8, 8, 8, 8}), 443, names) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkFind(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		table, err := New(many(n))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			names := []string{"www.host9.example.net"}
			for b.Loop() {
				table.Find(TCP, netip.AddrFrom4([4]byte{210, 8, 8, 8}), 60443, names)
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	rules := many(10000)
	for b.Loop() {
		if _, err := New(rules); err != nil {
			b.Fatal(err)
		}
	}
}
