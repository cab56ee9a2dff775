package lease

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	mathrand "math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/iotest"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

// pseudo is a random source that is the same in every run.
func pseudo(seed uint64) io.Reader {
	return mathrand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1})
}

func both(n4, n6 string, bits6 int) Request {
	return Request{Net4: prefix(n4), Net6: prefix(n6), SubnetBits6: bits6, Want4: true, Want6: true}
}

func TestTakeSameAgain(t *testing.T) {
	tab := New(rand.Reader)
	r := both("10.9.0.0/24", "fd00:9::/48", 64)
	l, err := tab.Take("a", r)
	if err != nil {
		t.Fatal(err)
	}
	again, err := tab.Take("a", Request{}) // whatever is asked
	if err != nil || again != l {
		t.Fatalf("again: %+v, %v; first %+v", again, err, l)
	}
	if l.Gateway4 != addr("10.9.0.1") || l.Bits4 != 24 {
		t.Errorf("IPv4: gateway %v/%d", l.Gateway4, l.Bits4)
	}
	if l.Gateway6 != addr("fd00:9::1") || l.Bits6 != 64 {
		t.Errorf("IPv6: gateway %v/%d", l.Gateway6, l.Bits6)
	}
	if !r.Net4.Contains(l.IPv4) || !r.Net6.Contains(l.IPv6) {
		t.Errorf("%v, %v are not of the networks", l.IPv4, l.IPv6)
	}
	for _, a := range []netip.Addr{l.IPv4, l.IPv6} {
		if owner, ok := tab.Owner(a); !ok || owner != "a" {
			t.Errorf("Owner(%v) = %q, %v", a, owner, ok)
		}
	}
	tab.Free("a")
	tab.Free("a")
	tab.Free("nobody")
	if _, ok := tab.Owner(l.IPv4); ok || tab.Len() != 0 {
		t.Errorf("after Free: owner %v, %d leases", ok, tab.Len())
	}
	if _, ok := tab.Owner(netip.Addr{}); ok {
		t.Error("the zero address has an owner")
	}
}

func TestTakeFamilies(t *testing.T) {
	r := both("10.9.0.0/24", "fd00:9::/64", 0)
	tests := []struct {
		name         string
		change       func(*Request)
		want4, want6 bool
		err          error
	}{
		{"both", func(*Request) {}, true, true, nil},
		{"4 wanted", func(r *Request) { r.Want6 = false }, true, false, nil},
		{"6 wanted", func(r *Request) { r.Want4 = false }, false, true, nil},
		{"no network 6", func(r *Request) { r.Net6 = netip.Prefix{} }, true, false, nil},
		{"no network 4", func(r *Request) { r.Net4 = netip.Prefix{} }, false, true, nil},
		{"nothing wanted", func(r *Request) { r.Want4, r.Want6 = false, false }, false, false, ErrNone},
		{"no networks", func(r *Request) { r.Net4, r.Net6 = netip.Prefix{}, netip.Prefix{} }, false, false, ErrNone},
		{"swapped", func(r *Request) { r.Net4, r.Net6 = r.Net6, r.Net4 }, false, false, ErrRequest},
		{"4 for 6", func(r *Request) { r.Net6, r.SubnetBits6 = r.Net4, 32 }, false, false, ErrRequest},
		{"6 for 4", func(r *Request) { r.Net4 = prefix("fd00::/16") }, false, false, ErrRequest},
		{"mapped", func(r *Request) { r.Net6 = prefix("::ffff:10.0.0.0/104") }, false, false, ErrRequest},
		{"subnet larger than net", func(r *Request) { r.SubnetBits6 = 63 }, false, false, ErrRequest},
		{"subnet 129", func(r *Request) { r.SubnetBits6 = 129 }, false, false, ErrRequest},
		{"explicit without net", func(r *Request) { r.Net4, r.Explicit4 = netip.Prefix{}, addr("10.9.0.4") }, false, false, ErrNetwork},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := r
			tt.change(&r)
			tab := New(rand.Reader)
			l, err := tab.Take("a", r)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if l.IPv4.IsValid() != tt.want4 || l.IPv6.IsValid() != tt.want6 {
				t.Errorf("got %+v", l)
			}
			if err != nil && tab.Len() != 0 {
				t.Error("a failed Take left a lease")
			}
		})
	}
}

// A request that gets one family and not the other leaves nothing behind.
func TestTakeAllOrNothing(t *testing.T) {
	tab := New(rand.Reader)
	r := both("10.9.0.0/24", "fd00::1/128", 128) // the server has the only address
	if _, err := tab.Take("a", r); !errors.Is(err, ErrExhausted) {
		t.Fatalf("error %v", err)
	}
	if tab.Len() != 0 || len(tab.used.owners) != 0 {
		t.Errorf("%d leases, %v", tab.Len(), tab.used.owners)
	}
}

func TestTakePredictable(t *testing.T) {
	r := both("10.9.0.0/16", "fd00:9::/48", 64)
	r.Predictable, r.Seed = true, "alice"
	l1, err1 := New(iotest.ErrReader(io.ErrClosedPipe)).Take("1", r) // no random number is needed
	l2, err2 := New(pseudo(1)).Take("2", r)
	if err1 != nil || err2 != nil || l1 != l2 {
		t.Errorf("%+v, %v; %+v, %v", l1, err1, l2, err2)
	}
	// Part of the interface: an upgrade of the server must not move everybody.
	want := Lease{
		IPv4: addr("10.9.99.169"), Gateway4: addr("10.9.0.1"), Bits4: 16,
		IPv6: addr("fd00:9:0:af:93af:71db:186d:6e90"), Gateway6: addr("fd00:9::1"), Bits6: 64,
	}
	if l1 != want {
		t.Errorf("alice has %+v, want %+v", l1, want)
	}
	r.Seed = "bob"
	if l, err := New(rand.Reader).Take("3", r); err != nil || l == l1 {
		t.Errorf("bob: %+v, %v", l, err)
	}
	// The second session of the same user gets another address, the same in every table.
	tab1, tab2 := New(rand.Reader), New(rand.Reader)
	for _, tab := range []*Table{tab1, tab2} {
		if _, err := tab.Take("first", r); err != nil {
			t.Fatal(err)
		}
	}
	l1, err1 = tab1.Take("second", r)
	l2, err2 = tab2.Take("second", r)
	if err1 != nil || err2 != nil || l1 != l2 {
		t.Errorf("second: %+v, %v; %+v, %v", l1, err1, l2, err2)
	}
}

func TestTakeRandomSourceFails(t *testing.T) {
	tab := New(iotest.ErrReader(io.ErrClosedPipe))
	if _, err := tab.Take("a", both("10.9.0.0/24", "fd00::/64", 0)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error %v", err)
	}
}

// Every address of a network can be had, and not one more.
func TestExhaustion(t *testing.T) {
	tests := []struct {
		net  string
		bits int // of a subnet, IPv6
		want int
	}{
		{"10.0.0.0/24", 0, 256 - 3},
		{"10.0.0.0/29", 0, 8 - 3},
		{"10.0.0.0/30", 0, 1},
		{"10.0.0.0/31", 0, 1}, // RFC 3021
		{"10.0.0.2/32", 0, 1},
		{"10.0.0.1/32", 0, 0}, // the server's own
		{"10.0.255.0/22", 0, 1024 - 3},
		{"fd00::/120", 128, 256 - 2},
		{"fd00::/126", 128, 2},
		{"fd00::/127", 128, 1 - 0},
		{"fd00::/128", 128, 1},
		{"fd00::1/128", 128, 0},
		{"fd00::/56", 64, 255}, // not the server's subnet
		{"fd00::/64", 64, 1},   // unless it is the only one
		{"fd00::/120", 124, 15},
		{"fd00::/126", 127, 1},
		{"fd00::/127", 127, 1},
		{"fd00::/60", 62, 3},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s,%d", tt.net, tt.bits), func(t *testing.T) {
			tab := New(pseudo(uint64(tt.want)))
			r := requestOf(tt.net, tt.bits)
			seen := map[netip.Addr]bool{}
			for i := range tt.want {
				l, err := tab.Take(fmt.Sprint(i), r)
				if err != nil {
					t.Fatalf("after %d of %d: %v", i, tt.want, err)
				}
				a := l.IPv4
				if !a.IsValid() {
					a = l.IPv6
				}
				if seen[a] || a == l.Gateway4 || a == l.Gateway6 {
					t.Fatalf("%v given again, or the server's", a)
				}
				seen[a] = true
			}
			if l, err := tab.Take("one more", r); !errors.Is(err, ErrExhausted) {
				t.Fatalf("one more: %+v, %v", l, err)
			}
			if tt.want == 0 {
				return
			}
			tab.Free("0")
			if _, err := tab.Take("one more", r); err != nil {
				t.Fatalf("after one is free: %v", err)
			}
		})
	}
}

func requestOf(net string, bits int) Request {
	p := prefix(net)
	if p.Addr().Is4() {
		return Request{Net4: p, Want4: true}
	}
	return Request{Net6: p, SubnetBits6: bits, Want6: true}
}

func TestExplicit(t *testing.T) {
	tests := []struct {
		net, explicit string
		bits          int
		err           error
	}{
		{"10.9.0.0/24", "10.9.0.7", 0, nil},
		{"10.9.0.0/24", "10.9.0.1", 0, ErrNetwork},   // the server
		{"10.9.0.0/24", "10.9.0.0", 0, ErrNetwork},   // the network
		{"10.9.0.0/24", "10.9.0.255", 0, ErrNetwork}, // broadcast
		{"10.9.0.0/24", "10.9.1.7", 0, ErrNetwork},   // outside
		{"10.9.0.0/24", "10.9.0.99", 0, ErrConflict}, // taken below
		{"10.9.0.0/24", "fd00::7", 0, ErrNetwork},    // other family
		{"10.9.9.0/31", "10.9.9.0", 0, nil},          // RFC 3021
		{"fd00::/64", "fd00::7", 128, nil},
		{"fd00::/64", "fd00::1", 128, ErrNetwork},
		{"fd00::/64", "fd00::", 128, ErrNetwork},
		{"fd00::/64", "fd00::ffff:ffff:ffff:ffff", 128, nil}, // no broadcast here
		{"fd00::/64", "fd01::7", 128, ErrNetwork},
		{"fd00::/64", "10.9.0.7", 128, ErrNetwork},
		{"fd00::/48", "fd00:0:0:5::9", 64, ErrConflict}, // the subnet is taken below
		{"fd00::/48", "fd00:0:0:6::9", 64, nil},
	}
	for _, tt := range tests {
		t.Run(tt.explicit+" of "+tt.net, func(t *testing.T) {
			tab := New(rand.Reader)
			other := Lease{IPv4: addr("10.9.0.99"), Bits4: 24, IPv6: addr("fd00:0:0:5::1"), Bits6: 128}
			if err := tab.Restore("other", other); err != nil {
				t.Fatal(err)
			}
			r := requestOf(tt.net, tt.bits)
			r.Explicit4, r.Explicit6 = addr(tt.explicit), addr(tt.explicit)
			l, err := tab.Take("a", r)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err != nil {
				return
			}
			if l.IPv4 != r.Explicit4 && l.IPv6 != r.Explicit6 {
				t.Errorf("got %+v", l)
			}
			// It is in the table now.
			if _, err := tab.Take("b", r); !errors.Is(err, ErrConflict) {
				t.Errorf("second user of the address: %v", err)
			}
		})
	}
}

// A user with a network of its own inside the pool of all.
func TestPoolsDoNotCollide(t *testing.T) {
	tab := New(pseudo(1))
	small, large := requestOf("10.0.0.0/29", 0), requestOf("10.0.0.0/28", 0)
	seen := map[netip.Addr]string{}
	take := func(owner string, r Request) error {
		l, err := tab.Take(owner, r)
		if other, ok := seen[l.IPv4]; ok && err == nil {
			t.Fatalf("%v given to %s and %s", l.IPv4, other, owner)
		}
		seen[l.IPv4] = owner
		return err
	}
	n := 0
	for ; ; n++ {
		r := large
		if n%2 == 0 {
			r = small
		}
		if err := take(fmt.Sprint(n), r); err != nil {
			if !errors.Is(err, ErrExhausted) {
				t.Fatal(err)
			}
			break
		}
	}
	for ; take(fmt.Sprint("l", n), large) == nil; n++ {
	}
	// .0 and .1 are the network and the server, .15 is broadcast; .7 is it for
	// one of the two, so the other may have it.
	if tab.Len() != 13 {
		t.Errorf("%d leases of 13", tab.Len())
	}
}

// Subnets of several sizes from overlapping networks.
func TestSubnetsOfSeveralSizes(t *testing.T) {
	tab := New(pseudo(7))
	sizes := []Request{requestOf("fd00::/56", 60), requestOf("fd00::/56", 64), requestOf("fd00::/60", 128), requestOf("fd00::/52", 56)}
	var leases []Lease
	for i := range 300 {
		l, err := tab.Take(fmt.Sprint(i), sizes[i%len(sizes)])
		if errors.Is(err, ErrExhausted) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		p := netip.PrefixFrom(l.IPv6, l.Bits6)
		for _, other := range leases {
			if q := netip.PrefixFrom(other.IPv6, other.Bits6); p.Overlaps(q) {
				t.Fatalf("%v overlaps %v", p, q)
			}
		}
		leases = append(leases, l)
	}
	if len(leases) < 100 {
		t.Errorf("only %d leases", len(leases))
	}
}

func TestRestore(t *testing.T) {
	tab := New(rand.Reader)
	l, err := tab.Take("a", both("10.9.0.0/24", "fd00:9::/48", 64))
	if err != nil {
		t.Fatal(err)
	}
	later := New(rand.Reader)
	for range 2 { // twice is once
		if err := later.Restore("a", l); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := later.Take("a", Request{}); err != nil || got != l {
		t.Errorf("%+v, %v", got, err)
	}
	bad := []struct {
		owner string
		l     Lease
		err   error
	}{
		{"b", l, ErrConflict},
		{"b", Lease{IPv6: l.IPv6.Next(), Bits6: 128}, ErrConflict}, // inside
		{"b", Lease{IPv6: l.IPv6, Bits6: 48}, ErrConflict},         // around
		{"a", Lease{IPv4: addr("10.9.0.200")}, ErrConflict},        // another one
		{"b", Lease{}, ErrNone},
		{"b", Lease{IPv4: addr("fd00::5")}, ErrRequest},
		{"b", Lease{IPv6: addr("10.0.0.1"), Bits6: 128}, ErrRequest},
		{"b", Lease{IPv6: addr("fe80::1%eth0"), Bits6: 128}, ErrRequest},
		{"b", Lease{IPv6: addr("fd01::"), Bits6: 129}, ErrRequest},
	}
	for _, tt := range bad {
		if err := later.Restore(tt.owner, tt.l); !errors.Is(err, tt.err) {
			t.Errorf("Restore(%s, %+v): %v, want %v", tt.owner, tt.l, err, tt.err)
		}
	}
	if later.Len() != 1 {
		t.Errorf("%d leases", later.Len())
	}
	if err := later.Restore("b", Lease{IPv4: addr("10.9.0.1")}); err != nil {
		t.Errorf("an address nobody has: %v", err)
	}
}

func TestConcurrentUse(t *testing.T) {
	tab := New(rand.Reader)
	r := requestOf("10.0.0.0/24", 0)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				owner := fmt.Sprint(g, i%20)
				l, err := tab.Take(owner, r)
				if err != nil {
					t.Errorf("Take: %v", err)
					return
				}
				if got, ok := tab.Owner(l.IPv4); !ok || got != owner {
					t.Errorf("%v belongs to %q, %v", l.IPv4, got, ok)
				}
				if i%3 == 0 {
					tab.Free(owner)
				}
			}
		})
	}
	wg.Wait()
}

func TestU128(t *testing.T) {
	max := u128{math.MaxUint64, math.MaxUint64}
	if mask128(128) != max || mask128(0) != (u128{}) || mask128(64) != (u128{math.MaxUint64, 0}) ||
		mask128(65) != (u128{math.MaxUint64, 1 << 63}) || mask128(63) != (u128{math.MaxUint64 &^ 1, 0}) {
		t.Error("mask128")
	}
	if (u128{0, math.MaxUint64}).inc() != (u128{1, 0}) || max.inc() != (u128{}) {
		t.Error("inc")
	}
	for _, s := range []string{"10.1.2.3", "0.0.0.0", "255.255.255.255", "fd00::1", "::", "::ffff:0:1"} {
		a := addr(s)
		if got := number(a).addr(a.Is4()); got != a {
			t.Errorf("%v became %v", a, got)
		}
	}
}

// The network of the largest IPv6 address: no step goes beyond it.
func TestEndOfAddressSpace(t *testing.T) {
	tab := New(pseudo(3))
	r := requestOf("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0/124", 128)
	n := 0
	for ; ; n++ {
		if _, err := tab.Take(fmt.Sprint(n), r); err != nil {
			if !errors.Is(err, ErrExhausted) {
				t.Fatal(err)
			}
			break
		}
	}
	if n != 14 {
		t.Errorf("%d addresses of 14", n)
	}
}
