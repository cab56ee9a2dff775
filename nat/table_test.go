package nat

import (
	"errors"
	"net/netip"
	"testing"
	"time"
	"unsafe"
)

var (
	epoch  = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	client = netip.MustParseAddr("10.9.0.2")
	dnsSrv = netip.MustParseAddrPort("192.0.2.53:53")
	webSrv = netip.MustParseAddrPort("192.0.2.80:443")
	other  = netip.MustParseAddrPort("198.51.100.9:443")
)

func udpKey(port uint16) Key    { return Key{UDP, netip.AddrPortFrom(client, port)} }
func echoKey(id uint16) Key     { return Key{Echo, netip.AddrPortFrom(client, id)} }
func after(s float64) time.Time { return epoch.Add(time.Duration(s * float64(time.Second))) }

func mustAdd(t *testing.T, tab *Table[string], k Key, peer netip.AddrPort, now time.Time) *Mapping[string] {
	t.Helper()
	m, _, err := tab.Add(k, peer, k.Client.String(), now)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// expired is how many mappings end at a time.
func expired(tab *Table[string], now time.Time) (n int) {
	tab.Expire(now, func(*Mapping[string]) { n++ })
	return n
}

// RFC 4787 REQ-1, RFC 5508 REQ-1a: one mapping, whatever the destination.
func TestEndpointIndependentMapping(t *testing.T) {
	tab := New[string](Limits{}, AddressDependent, epoch)
	for _, k := range []Key{udpKey(5000), echoKey(5000)} {
		m := mustAdd(t, tab, k, webSrv, epoch)
		for _, to := range []netip.AddrPort{other, dnsSrv, netip.MustParseAddrPort("192.0.2.80:80")} {
			if got := tab.Lookup(k); got != m {
				t.Fatalf("%v: another mapping", k)
			}
			tab.Outbound(m, to, epoch)
			if !tab.Inbound(m, to.Addr(), epoch) {
				t.Errorf("%v: no answer from %v", k, to)
			}
		}
	}
	if tab.Len() != 2 {
		t.Errorf("%d mappings", tab.Len())
	}
}

// The times of RFC 4787 REQ-5 and RFC 5508 REQ-2.
func TestTimeouts(t *testing.T) {
	tests := []struct {
		name   string
		key    Key
		to     netip.AddrPort
		answer bool
		want   float64 // seconds
	}{
		{"one-way", udpKey(1), webSrv, false, 120},
		{"two-way", udpKey(1), webSrv, true, 300},
		{"query", udpKey(1), dnsSrv, false, 17},
		{"query answered", udpKey(1), dnsSrv, true, 2},
		{"ntp", udpKey(1), netip.MustParseAddrPort("192.0.2.1:123"), false, 17},
		{"stun is not well-known", udpKey(1), netip.MustParseAddrPort("192.0.2.1:3478"), false, 120},
		{"echo", echoKey(1), netip.AddrPortFrom(webSrv.Addr(), 0), false, 60},
		{"echo answered", echoKey(1), netip.AddrPortFrom(webSrv.Addr(), 0), true, 60},
	}
	for _, tt := range tests {
		tab := New[string](Limits{}, AddressDependent, epoch)
		m := mustAdd(t, tab, tt.key, tt.to, epoch)
		if tt.answer && !tab.Inbound(m, tt.to.Addr(), epoch) {
			t.Errorf("%s: answer filtered", tt.name)
		}
		if expired(tab, after(tt.want-0.001)) != 0 {
			t.Errorf("%s: gone before %v s", tt.name, tt.want)
		}
		if expired(tab, after(tt.want)) != 1 || tab.Len() != 0 || tab.Lookup(tt.key) != nil {
			t.Errorf("%s: not gone after %v s", tt.name, tt.want)
		}
	}
}

// RFC 4787 REQ-6.
func TestOutboundRefreshes(t *testing.T) {
	tab := New[string](Limits{}, AddressDependent, epoch)
	m := mustAdd(t, tab, udpKey(1), webSrv, epoch)
	for s := 100.0; s < 1000; s += 100 {
		tab.Outbound(m, webSrv, after(s))
		if expired(tab, after(s+99)) != 0 {
			t.Fatalf("gone at %v", s+99)
		}
	}
}

// Nobody outside keeps a mapping alive.
func TestInboundRefreshesOnce(t *testing.T) {
	tab := New[string](Limits{}, AddressDependent, epoch)
	m := mustAdd(t, tab, udpKey(1), webSrv, epoch)
	for s := 100.0; s < 390; s += 10 {
		if !tab.Inbound(m, webSrv.Addr(), after(s)) {
			t.Fatal("filtered")
		}
	}
	if expired(tab, after(399)) != 0 || expired(tab, after(400)) != 1 {
		t.Error("not gone 300 s after the first answer")
	}
}

// RFC 4787 REQ-5a: a resolver's socket lives as long as its queries, and what
// also goes elsewhere is an ordinary flow for good.
func TestOneShot(t *testing.T) {
	tab := New[string](Limits{}, AddressDependent, epoch)
	m := mustAdd(t, tab, udpKey(1), dnsSrv, epoch) // A
	tab.Outbound(m, dnsSrv, epoch)                 // and AAAA
	tab.Inbound(m, dnsSrv.Addr(), after(1))
	if expired(tab, after(16)) != 0 {
		t.Fatal("gone with a query outstanding")
	}
	tab.Inbound(m, dnsSrv.Addr(), after(16))
	if expired(tab, after(17.9)) != 0 {
		t.Fatal("gone before the second of grace was over")
	}
	tab.Outbound(m, dnsSrv, after(17.9))
	if expired(tab, after(34)) != 0 {
		t.Fatal("a new query did not start the time anew")
	}
	tab.Outbound(m, webSrv, after(34))
	tab.Outbound(m, dnsSrv, after(34))
	tab.Inbound(m, dnsSrv.Addr(), after(34))
	if expired(tab, after(333)) != 0 || expired(tab, after(334)) != 1 {
		t.Error("a flow to elsewhere is not treated as two-way")
	}
}

// A tunnel that hides behind port 53 is a conversation after a while.
func TestNotOneShot(t *testing.T) {
	tab := New[string](Limits{}, AddressDependent, epoch)
	m := mustAdd(t, tab, udpKey(1), dnsSrv, epoch)
	for range maxAsked {
		tab.Inbound(m, dnsSrv.Addr(), epoch)
		tab.Outbound(m, dnsSrv, epoch)
	}
	tab.Inbound(m, dnsSrv.Addr(), epoch)
	if expired(tab, after(299)) != 0 || expired(tab, after(300)) != 1 {
		t.Error("not treated as two-way")
	}
}

// Many queries, each from a port of its own, hold few sockets at a time.
func TestResolverWithRandomPorts(t *testing.T) {
	tab := New[string](Limits{NewPerSecond: 1000}, AddressDependent, epoch)
	most := 0
	for i := range 5000 {
		now := after(float64(i) / 500)
		m := mustAdd(t, tab, udpKey(uint16(i+1)), dnsSrv, now)
		tab.Inbound(m, dnsSrv.Addr(), now)
		if i%500 == 0 {
			expired(tab, now)
		}
		most = max(most, tab.Len())
	}
	if most != 512 || tab.Stats().Evicted == 0 {
		t.Errorf("%d mappings at a time, %+v", most, tab.Stats())
	}
	if expired(tab, after(12)); tab.Len() != 0 {
		t.Errorf("%d left two seconds after", tab.Len())
	}
}

func TestFiltering(t *testing.T) {
	tab := New[string](Limits{}, AddressDependent, epoch)
	m := mustAdd(t, tab, udpKey(1), webSrv, epoch)
	many := mustAdd(t, tab, udpKey(2), webSrv, epoch)
	for i := range byte(100) {
		tab.Outbound(many, netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, i}), 9), epoch)
	}
	tests := []struct {
		m    *Mapping[string]
		from string
		want bool
	}{
		{m, "192.0.2.80", true},
		{m, "192.0.2.81", false},
		{m, "203.0.113.7", false}, // another mapping's
		{m, "::ffff:192.0.2.80", false},
		{many, "203.0.113.0", true},
		{many, "203.0.113.99", true},
		{many, "203.0.113.100", false},
	}
	filtered := uint64(0)
	for _, tt := range tests {
		if got := tab.Inbound(tt.m, netip.MustParseAddr(tt.from), epoch); got != tt.want {
			t.Errorf("%s: %v", tt.from, got)
		}
		if !tt.want {
			filtered++
		}
	}
	if got := tab.Stats().Filtered; got != filtered {
		t.Errorf("%d filtered, want %d", got, filtered)
	}
	lone := New[string](Limits{}, AddressDependent, epoch)
	m = mustAdd(t, lone, udpKey(1), webSrv, epoch)
	lone.Inbound(m, other.Addr(), after(119))
	if expired(lone, after(120)) != 1 {
		t.Error("what was filtered refreshed the mapping")
	}
}

func TestFullCone(t *testing.T) {
	tab := New[string](Limits{}, EndpointIndependent, epoch)
	m := mustAdd(t, tab, udpKey(1), webSrv, epoch)
	for i := range byte(9) {
		tab.Outbound(m, netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, i}), 9), epoch)
	}
	if !tab.Inbound(m, other.Addr(), epoch) || tab.Stats().Filtered != 0 {
		t.Error("filtered")
	}
	if tab.peers.young != nil || m.peers[0].IsValid() {
		t.Error("remembers addresses nobody asks for")
	}
}

// Addresses that are still sent to survive any number of others.
func TestPeersForgotten(t *testing.T) {
	tab := New[string](Limits{Peers: 40}, AddressDependent, epoch)
	m := mustAdd(t, tab, udpKey(1), webSrv, epoch)
	tab.Outbound(m, dnsSrv, epoch)
	friend := netip.MustParseAddrPort("203.0.113.1:9")
	tab.Outbound(m, friend, epoch)
	for i := range 1000 {
		tab.Outbound(m, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 9), epoch)
		if i%10 == 0 {
			tab.Outbound(m, friend, epoch)
		}
		if n := len(tab.peers.young) + len(tab.peers.old); n > 40 {
			t.Fatalf("%d addresses remembered", n)
		}
	}
	if !tab.Inbound(m, friend.Addr(), epoch) || !tab.Inbound(m, webSrv.Addr(), epoch) {
		t.Error("a friend was forgotten")
	}
	if tab.Inbound(m, netip.MustParseAddr("10.1.0.0"), epoch) || tab.Stats().Forgotten == 0 {
		t.Error("the oldest was not forgotten")
	}
}

// An address that is not sent to any more is forgotten though the mapping lives, and memory with it.
func TestPeersAge(t *testing.T) {
	tab := New[string](Limits{}, AddressDependent, epoch)
	m := mustAdd(t, tab, udpKey(1), webSrv, epoch)
	tab.Outbound(m, dnsSrv, epoch)
	tab.Outbound(m, other, epoch)
	for s := 1.0; s <= 600; s++ {
		tab.Outbound(m, webSrv, after(s))
		expired(tab, after(s))
		if s == 599 && !tab.Inbound(m, other.Addr(), after(s)) {
			t.Error("forgotten too early")
		}
	}
	if tab.Inbound(m, other.Addr(), after(600)) || len(tab.peers.old) != 0 || tab.peers.young != nil {
		t.Error("remembered for ever")
	}
}

// What has least time left makes room.
func TestEviction(t *testing.T) {
	tab := New[string](Limits{UDP: 3, Echo: 1}, AddressDependent, epoch)
	talk := mustAdd(t, tab, udpKey(1), webSrv, epoch)
	tab.Inbound(talk, webSrv.Addr(), epoch)
	mustAdd(t, tab, udpKey(2), webSrv, after(1))
	mustAdd(t, tab, echoKey(9), webSrv, after(1)) // does not count here
	ask := mustAdd(t, tab, udpKey(3), dnsSrv, after(2))
	for i, want := range []uint16{3, 2, 4, 5} { // the query, then one-way flows in order, never the conversation
		_, evicted, err := tab.Add(udpKey(uint16(4+i)), webSrv, "", after(float64(3+i)))
		if err != nil || evicted == nil || evicted.Key() != udpKey(want) {
			t.Fatalf("%d: %v evicted, %v; want %d", i, evicted, err, want)
		}
	}
	if ask.Value != "10.9.0.2:3" || tab.Lookup(udpKey(3)) != nil {
		t.Error("an evicted mapping is still found")
	}
	// 250 s later the conversation has less time left than a fresh flow.
	mustAdd(t, tab, udpKey(50), webSrv, after(250))
	tab.Outbound(tab.Lookup(udpKey(7)), webSrv, after(250))
	if m := tab.Evict(UDP); m != talk {
		t.Errorf("%v evicted, want the idle conversation", m.Key())
	}
	if _, evicted, _ := tab.Add(echoKey(10), webSrv, "", after(250)); evicted == nil || evicted.Key() != echoKey(9) {
		t.Errorf("%v evicted for an echo", evicted)
	}
	if s := tab.Stats(); s.UDP != 2 || s.Echo != 1 || s.Evicted != 7 {
		t.Errorf("%+v", s)
	}
	if New[string](Limits{}, 0, epoch).Evict(UDP) != nil {
		t.Error("an empty table evicts")
	}
}

// Queries that wait for their answers do not push each other out of a table
// that is full of conversations.
func TestEvictionSparesFreshQueries(t *testing.T) {
	tab := New[string](Limits{UDP: 8}, AddressDependent, epoch)
	for port := range uint16(8) {
		m := mustAdd(t, tab, udpKey(1+port), webSrv, epoch)
		tab.Inbound(m, webSrv.Addr(), epoch)
	}
	a := mustAdd(t, tab, udpKey(100), dnsSrv, after(10))
	b := mustAdd(t, tab, udpKey(101), dnsSrv, after(10.2))
	c := mustAdd(t, tab, udpKey(102), dnsSrv, after(10.4))
	if tab.Lookup(a.Key()) != a || tab.Lookup(b.Key()) != b || tab.Lookup(udpKey(3)) != nil {
		t.Error("a query was evicted before a conversation idle for ten seconds")
	}
	tab.Inbound(c, dnsSrv.Addr(), after(10.4))
	if m := tab.Evict(UDP); m != c {
		t.Errorf("%v evicted, want the answered query", m.Key())
	}
	if m := tab.Evict(UDP); m.class != twoWay {
		t.Errorf("%v evicted before it could be answered", m.Key())
	}
}

// A scan does not push out conversations.
func TestEvictionOfScan(t *testing.T) {
	tab := New[string](Limits{}, AddressDependent, epoch)
	var talks []*Mapping[string]
	for port := range uint16(250) {
		m := mustAdd(t, tab, udpKey(1+port), webSrv, epoch)
		tab.Inbound(m, webSrv.Addr(), epoch)
		talks = append(talks, m)
	}
	for i := range 5000 {
		mustAdd(t, tab, udpKey(uint16(1000+i)), netip.AddrPortFrom(other.Addr(), uint16(i)|1024), after(1+float64(i)/500))
	}
	for _, m := range talks {
		if tab.Lookup(m.Key()) != m {
			t.Fatalf("%v was pushed out", m.Key())
		}
	}
}

// ICMP has mappings of its own.
func TestEcho(t *testing.T) {
	tab := New[string](Limits{}, AddressDependent, epoch)
	u := mustAdd(t, tab, udpKey(7), webSrv, epoch)
	e := mustAdd(t, tab, echoKey(7), netip.AddrPortFrom(webSrv.Addr(), 0), epoch)
	if u == e || tab.Lookup(echoKey(7)) != e || tab.Lookup(udpKey(7)) != u {
		t.Error("port and identifier share a mapping")
	}
	if !tab.Inbound(e, webSrv.Addr(), epoch) || tab.Inbound(e, other.Addr(), epoch) {
		t.Error("echo replies are not filtered by address")
	}
}

func TestRate(t *testing.T) {
	tab := New[string](Limits{NewPerSecond: 10}, AddressDependent, epoch)
	add := func(port uint16, now time.Time) error {
		_, _, err := tab.Add(udpKey(port), webSrv, "", now)
		return err
	}
	for i := range uint16(10) {
		if err := add(1+i, epoch); err != nil {
			t.Fatalf("mapping %d: %v", i, err)
		}
	}
	if err := add(11, epoch); !errors.Is(err, ErrRate) || tab.Lookup(udpKey(11)) != nil {
		t.Errorf("the eleventh at once: %v", err)
	}
	if err := add(11, after(0.1)); err != nil {
		t.Errorf("a tenth of a second later: %v", err)
	}
	if err := add(12, after(0.1)); !errors.Is(err, ErrRate) {
		t.Errorf("and another: %v", err)
	}
	if got := tab.Stats().RateLimited; got != 2 {
		t.Errorf("%d counted", got)
	}
}

// A clock that goes back does not disturb the order of anything.
func TestTimeGoesBack(t *testing.T) {
	tab := New[string](Limits{}, AddressDependent, epoch)
	mustAdd(t, tab, udpKey(1), webSrv, after(50))
	mustAdd(t, tab, udpKey(2), webSrv, after(20))
	if expired(tab, after(169)) != 0 || expired(tab, after(170)) != 2 {
		t.Error("expired out of order")
	}
	if expired(tab, epoch) != 0 {
		t.Error("something expired twice")
	}
}

func TestRemove(t *testing.T) {
	tab := New[string](Limits{}, AddressDependent, epoch)
	m := mustAdd(t, tab, udpKey(1), webSrv, epoch)
	mustAdd(t, tab, udpKey(2), webSrv, epoch)
	mustAdd(t, tab, echoKey(2), webSrv, epoch)
	tab.Remove(m)
	if tab.Lookup(udpKey(1)) != nil || tab.Len() != 2 {
		t.Error("still there")
	}
	mustPanic(t, "a second Remove", func() { tab.Remove(m) })
	mustPanic(t, "a second mapping for a key", func() { tab.Add(udpKey(2), webSrv, "", epoch) })
	var values []string
	tab.Clear(func(m *Mapping[string]) { values = append(values, m.Value) })
	if len(values) != 2 || tab.Len() != 0 || tab.Stats().UDP != 0 || tab.Stats().Echo != 0 {
		t.Errorf("Clear: %v, %+v", values, tab.Stats())
	}
}

func mustPanic(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s did not panic", what)
		}
	}()
	f()
}

func TestDoesNotAllocate(t *testing.T) {
	tab := New[string](Limits{}, AddressDependent, epoch)
	for i := range uint16(100) {
		mustAdd(t, tab, udpKey(i+1), webSrv, epoch)
	}
	m := tab.Lookup(udpKey(50))
	for i := range byte(100) {
		tab.Outbound(m, netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, i}), 9), epoch)
	}
	far := netip.MustParseAddrPort("203.0.113.77:9")
	if n := testing.AllocsPerRun(100, func() {
		m := tab.Lookup(udpKey(50))
		tab.Outbound(m, far, epoch)
		tab.Inbound(m, far.Addr(), epoch)
		tab.Outbound(tab.Lookup(udpKey(51)), webSrv, epoch)
		tab.Expire(epoch, nil)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestMappingIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Mapping[*int]{}); n > 160 {
		t.Errorf("a mapping takes %d bytes", n)
	}
}

func BenchmarkUp(b *testing.B) {
	tab := New[string](Limits{}, AddressDependent, epoch)
	for i := range uint16(500) {
		tab.Add(udpKey(i+1), webSrv, "", epoch)
	}
	i := uint16(0)
	b.ReportAllocs()
	for b.Loop() {
		i = (i + 1) % 500
		tab.Outbound(tab.Lookup(udpKey(i+1)), webSrv, epoch)
	}
}

func BenchmarkInbound(b *testing.B) {
	tab := New[string](Limits{}, AddressDependent, epoch)
	m, _, _ := tab.Add(udpKey(1), webSrv, "", epoch)
	b.ReportAllocs()
	for b.Loop() {
		tab.Inbound(m, webSrv.Addr(), epoch)
	}
}

func BenchmarkAdd(b *testing.B) {
	tab := New[string](Limits{NewPerSecond: 1e9}, AddressDependent, epoch)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		k := Key{UDP, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 24), byte(i >> 16), byte(i >> 8)}), uint16(i)&255)}
		if _, _, err := tab.Add(k, webSrv, "", epoch); err != nil {
			b.Fatal(err)
		}
	}
}

// TestReported: errors pass that are about what was sent, refresh nothing and
// end nothing. RFC 4787 REQ-12, RFC 5508 REQ-6.
func TestReported(t *testing.T) {
	for _, filtering := range []Filtering{AddressDependent, EndpointIndependent} {
		tab := New[int](Limits{}, filtering, epoch)
		m, _, err := tab.Add(Key{UDP, netip.MustParseAddrPort("10.0.0.2:4000")}, netip.MustParseAddrPort("192.0.2.1:9"), 1, epoch)
		if err != nil {
			t.Fatal(err)
		}
		if !tab.Reported(m, netip.MustParseAddr("192.0.2.1")) {
			t.Error("an error about what was sent does not pass")
		}
		if tab.Reported(m, netip.Addr{}) {
			t.Error("an error about nothing passes")
		}
		if pass := tab.Reported(m, netip.MustParseAddr("192.0.2.2")); pass != (filtering == EndpointIndependent) {
			t.Errorf("an error about another destination: %v", pass)
		}
		if m.class != oneWay || m.refreshed != 0 || tab.Len() != 1 {
			t.Errorf("an error changed the mapping: class %d, refreshed %v", m.class, m.refreshed)
		}
	}
}
