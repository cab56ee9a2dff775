package lease

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// oracle is the table as one would write it without a thought for time: a list
// of prefixes, and every address tried.
type oracle map[string][]netip.Prefix

func (o oracle) overlaps(p netip.Prefix) bool {
	for _, list := range o {
		for _, q := range list {
			if p.Overlaps(q) {
				return true
			}
		}
	}
	return false
}

// subnets lists what a network has to give, free or not.
func subnets(net netip.Prefix, bits int) []netip.Prefix {
	var list []netip.Prefix
	gateway := gatewayOf(net)
	for a := net.Masked().Addr(); net.Contains(a); {
		s := netip.PrefixFrom(a, bits)
		end := lastOf(s)
		switch hosts := a.BitLen() - net.Bits(); {
		case bits < a.BitLen():
			if !s.Contains(gateway) || bits == net.Bits() {
				list = append(list, s)
			}
		case a == gateway:
		case hosts > 1 && (a == net.Masked().Addr() || a.Is4() && a == lastOf(net)):
		default:
			list = append(list, s)
		}
		if a = end.Next(); !a.IsValid() {
			break
		}
	}
	return list
}

func gatewayOf(net netip.Prefix) netip.Addr {
	b := net.Masked().Addr().AsSlice()
	b[len(b)-1] |= 1
	a, _ := netip.AddrFromSlice(b)
	return a
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// free says whether the oracle still has something for the request.
func (o oracle) free(net netip.Prefix, bits int) bool {
	for _, s := range subnets(net, bits) {
		if !o.overlaps(s) {
			return true
		}
	}
	return false
}

var (
	nets4 = []netip.Prefix{prefix("10.0.0.0/28"), prefix("10.0.0.0/29"), prefix("10.0.0.8/30"), prefix("10.0.0.12/31"), prefix("10.0.0.14/32"), prefix("10.0.0.64/27")}
	nets6 = []netip.Prefix{prefix("fd00::/122"), prefix("fd00::10/124"), prefix("fd00::20/123"), prefix("fd00::3c/126"), prefix("fd00::3f/128")}
)

// request makes a request of three bytes.
func request(b [3]byte) Request {
	r := Request{
		Net4: nets4[int(b[0])%len(nets4)], Net6: nets6[int(b[1])%len(nets6)],
		Want4: b[2]&1 != 0, Want6: b[2]&2 != 0, Predictable: b[2]&4 != 0, Seed: string(b[:]),
	}
	r.SubnetBits6 = min(r.Net6.Bits()+int(b[2]>>4)%4, 128)
	if b[2]&8 == 0 {
		return r
	}
	r.SubnetBits6 = 128
	r.Explicit4 = netip.AddrFrom4([4]byte{10, 0, 0, b[1] % 32})
	r.Explicit6 = netip.AddrFrom16([16]byte{0: 0xfd, 15: b[0] % 64})
	return r
}

// take checks one Take against the oracle.
func (o oracle) take(t *testing.T, tab *Table, owner string, r Request) {
	t.Helper()
	_, had := o[owner]
	l, err := tab.Take(owner, r)
	switch {
	case had && err != nil:
		t.Fatalf("%s has a lease and got %v", owner, err)
	case had:
		return
	case err == nil:
		o.grant(t, owner, r, l)
	case errors.Is(err, ErrExhausted):
		none4 := r.Want4 && !r.Explicit4.IsValid() && !o.free(r.Net4, 32)
		none6 := r.Want6 && !r.Explicit6.IsValid() && !o.free(r.Net6, r.SubnetBits6)
		if !none4 && !none6 {
			t.Fatalf("exhausted with addresses left: %+v", r)
		}
	case errors.Is(err, ErrConflict):
		if !r.Explicit4.IsValid() || !(r.Want4 && o.overlaps(netip.PrefixFrom(r.Explicit4, 32))) &&
			!(r.Want6 && o.overlaps(netip.PrefixFrom(r.Explicit6, 128))) {
			t.Fatalf("no conflict: %+v", r)
		}
	case errors.Is(err, ErrNetwork):
		if !r.Explicit4.IsValid() {
			t.Fatalf("%v of %+v", err, r)
		}
	case !errors.Is(err, ErrNone) || r.Want4 || r.Want6:
		t.Fatalf("%v of %+v", err, r)
	}
}

// grant checks a new lease and enters it.
func (o oracle) grant(t *testing.T, owner string, r Request, l Lease) {
	t.Helper()
	check := func(a, gateway netip.Addr, net netip.Prefix, bits int) {
		t.Helper()
		s := netip.PrefixFrom(a, bits).Masked()
		switch {
		case !net.Contains(a):
			t.Fatalf("%v is not of %v", a, net)
		case gateway != gatewayOf(net):
			t.Fatalf("gateway %v of %v", gateway, net)
		case a == gateway:
			t.Fatalf("%v is the server's", a)
		case o.overlaps(s):
			t.Fatalf("%v is taken", s)
		}
		for _, p := range subnets(net, bits) {
			if p == s {
				return
			}
		}
		t.Fatalf("%v is not to be given: %+v", s, r)
	}
	if r.Want4 != l.IPv4.IsValid() || r.Want6 != l.IPv6.IsValid() {
		t.Fatalf("families: %+v for %+v", l, r)
	}
	if r.Want4 {
		check(l.IPv4, l.Gateway4, r.Net4, 32)
	}
	if r.Want6 {
		check(l.IPv6, l.Gateway6, r.Net6, r.SubnetBits6)
	}
	if r.Want4 {
		o[owner] = append(o[owner], netip.PrefixFrom(l.IPv4, 32))
	}
	if r.Want6 {
		o[owner] = append(o[owner], netip.PrefixFrom(l.IPv6, l.Bits6).Masked())
	}
}

// play runs operations of four bytes each on a table and on the oracle.
func play(t *testing.T, ops []byte) {
	tab, o := New(pseudo(uint64(len(ops)))), oracle{}
	for ; len(ops) >= 4; ops = ops[4:] {
		owner := fmt.Sprint(ops[0] % 48)
		if ops[0] >= 192 {
			tab.Free(owner)
			delete(o, owner)
			continue
		}
		o.take(t, tab, owner, request([3]byte(ops[1:4])))
	}
	if tab.Len() != len(o) {
		t.Fatalf("%d leases, %d in the oracle", tab.Len(), len(o))
	}
	// What is known of overlaps goes with the leases.
	for owner := range o {
		tab.Free(owner)
	}
	if len(tab.used.owners) != 0 || len(tab.used.inside) != 0 {
		t.Fatalf("empty table holds %v, %v", tab.used.owners, tab.used.inside)
	}
}

func TestAgainstOracle(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 30
	}
	for i := range rounds {
		src := rand.NewPCG(1, uint64(i))
		ops := make([]byte, 0, 1200)
		for len(ops) < 1200 {
			ops = binary.BigEndian.AppendUint64(ops, src.Uint64())
		}
		play(t, ops)
	}
}

func FuzzTable(f *testing.F) {
	f.Add([]byte{1, 0, 0, 3, 2, 0, 0, 3, 200, 0, 0, 0, 1, 1, 1, 0x13})
	f.Add([]byte{1, 0, 0, 0x0b, 2, 4, 4, 0x0b})
	f.Fuzz(func(t *testing.T, ops []byte) { play(t, ops[:min(len(ops), 800)]) })
}
