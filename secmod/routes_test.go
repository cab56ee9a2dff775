package secmod

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"rocserv/internal/config"
)

func routesOf(t testing.TB, s string) (list []netip.Prefix) {
	t.Helper()
	for _, f := range strings.Fields(s) {
		p, err := netip.ParsePrefix(f)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

func TestAggregated(t *testing.T) {
	for _, tt := range []struct{ name, list, beside, want string }{
		{"nothing", "", "", ""},
		{"one, as it was written", "10.1.2.3/8", "", "10.1.2.3/8"},
		{"two apart", "10.9.0.0/16 10.1.2.3/24", "", "10.9.0.0/16 10.1.2.3/24"},
		{"the same", "10.0.0.0/8 10.1.1.1/8", "", "10.0.0.0/8"},
		{"within", "10.1.0.0/16 10.0.0.0/8 10.1.1.0/24", "", "10.0.0.0/8"},
		{"halves", "10.0.1.0/24 192.168.0.0/16 10.0.0.0/24", "", "10.0.0.0/23 192.168.0.0/16"},
		{"no halves", "10.0.1.0/24 10.0.2.0/24", "", "10.0.1.0/24 10.0.2.0/24"},
		{"four quarters", "10.0.0.0/24 10.0.1.0/24 10.0.2.0/24 10.0.3.0/24", "", "10.0.0.0/22"},
		{"halves of everything", "0.0.0.0/1 128.0.0.0/1 ::/1 8000::/1", "", "0.0.0.0/1 128.0.0.0/1 ::/1 8000::/1"},
		{"hosts", "10.0.0.2/32 10.0.0.3/32", "", "10.0.0.2/31"},
		{"IPv6", "fd00::/65 fd00::8000:0:0:0/65 fd00::1/128", "", "fd00::/64"},
		{"families", "10.0.0.0/24 ::a00:100/120 10.0.1.0/24", "", "10.0.0.0/23 ::a00:100/120"},
		{"an exception of the whole", "10.0.0.0/24 10.0.1.0/24", "10.0.0.0/23", "10.0.0.0/24 10.0.1.0/24"},
		{"an exception of a half", "10.0.0.0/24 10.0.1.0/24", "10.0.0.0/24", "10.0.0.0/24 10.0.1.0/24"},
		{"an exception within", "10.0.0.0/24 10.0.1.0/24", "10.0.1.7/32", "10.0.0.0/24 10.0.1.0/24"},
		{"an exception around", "10.0.0.0/24 10.0.1.0/24", "10.0.0.0/8", "10.0.0.0/23"},
		{"an exception elsewhere", "10.0.0.0/24 10.0.1.0/24", "10.0.2.0/24", "10.0.0.0/23"},
		{"within, an exception between", "10.0.0.0/8 10.1.1.0/24", "10.1.0.0/16", "10.0.0.0/8 10.1.1.0/24"},
		{"within, an exception inside", "10.0.0.0/8 10.1.1.0/24", "10.1.1.1/32", "10.0.0.0/8"},
		{"within, an exception around", "10.0.0.0/8 10.1.1.0/24", "0.0.0.0/0", "10.0.0.0/8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list := routesOf(t, tt.list)
			if got := strings.Trim(fmt.Sprint(aggregated(list, routesOf(t, tt.beside))), "[]"); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if got := strings.Trim(fmt.Sprint(list), "[]"); got != tt.list {
				t.Errorf("the list was changed to %s", got)
			}
		})
	}
}

// in says whether an address goes through the tunnel, by the longest network of
// both lists, and by routes without no-routes.
func in(u *config.User, a netip.Addr) (longest, difference bool) {
	find := func(list []netip.Prefix) int {
		best := -1
		for _, p := range list {
			if p.Masked().Contains(a) {
				best = max(best, p.Bits())
			}
		}
		return best
	}
	r, n := find(u.Routes), find(u.NoRoutes)
	return r > n, r >= 0 && n < 0
}

// Whose way is which stays as it was, in either reading, for every address of a
// small space; and there is no shorter list of the kind that aggregation makes.
func TestAggregateChangesNothing(t *testing.T) {
	const seeds = 4000
	for seed := range uint64(seeds) {
		rnd := rand.New(rand.NewPCG(seed, 8))
		random := func(n int) (list []netip.Prefix) {
			for range rnd.IntN(n) {
				a := netip.AddrFrom4([4]byte{10, 0, 0, byte(rnd.IntN(256))})
				list = append(list, netip.PrefixFrom(a, 23+rnd.IntN(10)))
			}
			return list
		}
		was := config.User{Routes: random(40), NoRoutes: random(4)}
		now := was
		aggregate(&now)
		for i := range 512 {
			a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
			l1, d1 := in(&was, a)
			l2, d2 := in(&now, a)
			if l1 != l2 || d1 != d2 {
				t.Fatalf("seed %d: %v: longest %v → %v, difference %v → %v\n%v\n%v", seed, a, l1, l2, d1, d2, was, now)
			}
		}
		if len(was.NoRoutes) == 0 {
			for i, p := range now.Routes {
				for _, q := range now.Routes[:i] {
					if p.Overlaps(q) || p.Bits() == q.Bits() && shorter(p, p.Bits()-1) == shorter(q, q.Bits()-1) {
						t.Fatalf("seed %d: %v and %v could be one", seed, p, q)
					}
				}
			}
		}
	}
}

// Clients are told the short list; one that is too long for them is said when the
// configuration is read, of users' files by a check, and when a session is opened.
func TestManyRoutes(t *testing.T) {
	st := perUser(t)
	many := func(step int) string {
		var lines strings.Builder
		for i := range mostRoutes + 1 {
			fmt.Fprintf(&lines, "route = 10.5.%d.%d/32\n", i*step/256, i*step%256)
		}
		return lines.String()
	}
	st.write("u/anna", many(1)) // in a row: a few networks
	st.write("u/berta", many(2))
	r := boot(t, st)
	if _, conf := r.tunnelOf("anna", ""); fmt.Sprint(conf.Routes) !=
		"[10.5.0.0/255.255.255.128 10.5.0.128/255.255.255.192 10.5.0.192/255.255.255.248 10.5.0.200/255.255.255.255]" {
		t.Errorf("routes %v", conf.Routes)
	}
	if _, conf := r.tunnelOf("berta", ""); len(conf.Routes) != mostRoutes+1 {
		t.Errorf("%d routes", len(conf.Routes))
	}
	want := st.path("u/berta") + ": route: 201 networks"
	warnings, err := Check("ocserv.conf", st.text())
	if n := strings.Count(strings.Join(warnings, "\n"), "networks, put together"); err != nil || n != 1 || !strings.Contains(strings.Join(warnings, "\n"), want) {
		t.Errorf("%v\n%s", err, strings.Join(warnings, "\n"))
	}
	st.add(strings.Split(strings.TrimSpace(strings.ReplaceAll(many(2), "route", "no-route")), "\n")...)
	rep := newRig(t).configure(1, st.text())
	if text := strings.Join(rep.Warnings, "\n"); !strings.Contains(text, "ocserv.conf:14: no-route: 201 networks") {
		t.Errorf("warnings %q, error %q", text, rep.Error)
	}
}
