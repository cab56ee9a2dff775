package nat

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// crowd adds n mappings with client ports from first on, each needing what it
// needs; it returns what was asked for.
func crowd(t *testing.T, tab *Table[string], first, n int, now time.Time) (asked []int) {
	t.Helper()
	for i := range n {
		mustAdd(t, tab, udpKey(uint16(first+i)), webSrv, now)
		if more := tab.NeedPorts(now); more > 0 {
			asked = append(asked, more)
		}
	}
	return asked
}

func granted(tab *Table[string], n int, now time.Time) (gone []Key) {
	tab.Granted(n, now, func(m *Mapping[string]) { gone = append(gone, m.Key()) })
	return gone
}

// A table asks before it is in need, once, and no flow waits or goes meanwhile.
func TestPortsAreAskedInBlocks(t *testing.T) {
	tab := New[string](Limits{}, AddressDependent, epoch)
	tab.LimitPorts(32)
	if asked := crowd(t, tab, 1000, 16, epoch); len(asked) != 0 {
		t.Errorf("asked for %v with half of the ports left", asked)
	}
	if asked := crowd(t, tab, 2000, 40, epoch); len(asked) != 1 || asked[0] != 32 {
		t.Errorf("asked for %v, want 32 once", asked)
	}
	if gone := granted(tab, 32, epoch); len(gone) != 0 {
		t.Errorf("%v went with 64 ports for 56 mappings", gone)
	}
	if n := tab.NeedPorts(epoch); n != 64 {
		t.Errorf("asked for %d, want as many as are used, in blocks: 64", n)
	}
	granted(tab, 64, epoch)
	want := Stats{UDP: 56, Ports: 128, Created: 56}
	if got := tab.Stats(); got != want {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	tab = New[string](Limits{UDP: 40}, AddressDependent, epoch)
	tab.LimitPorts(32)
	if asked := crowd(t, tab, 1000, 30, epoch); len(asked) != 1 || asked[0] != 32 {
		t.Errorf("asked for %v, want the block with the 8 that may be used", asked)
	}
	granted(tab, 32, epoch)
	if asked := crowd(t, tab, 2000, 100, epoch); len(asked) != 0 {
		t.Errorf("asked for %v beyond Limits", asked)
	}
}

// Without ports a table is full: the mapping that can best be spared goes. It is
// asked again after a second, and then nothing goes on trust any more.
func TestPortsRunOut(t *testing.T) {
	tab := New[string](Limits{}, AddressDependent, epoch)
	tab.LimitPorts(16)
	crowd(t, tab, 1000, 20, epoch)
	if gone := granted(tab, 2, after(1)); len(gone) != 2 || gone[0] != udpKey(1000) || gone[1] != udpKey(1001) {
		t.Errorf("%v went, want the two that were used longest ago", gone)
	}
	if asked := crowd(t, tab, 2000, 3, after(1.9)); len(asked) != 0 || tab.Lookup(udpKey(1004)) != nil || tab.Len() != 18 {
		t.Errorf("asked for %v so soon; %d mappings", asked, tab.Len())
	}
	if asked := crowd(t, tab, 3000, 1, after(2.1)); len(asked) != 1 || tab.Len() != 18 {
		t.Errorf("asked for %v after a second; %d mappings", asked, tab.Len())
	}
	if crowd(t, tab, 3001, 1, after(2.1)); tab.Len() != 18 {
		t.Errorf("%d mappings while the answer is awaited, want 18", tab.Len())
	}
	want := Stats{UDP: 18, Ports: 18, Created: 25, Evicted: 7, OutOfPorts: 7}
	if got := tab.Stats(); got != want {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	granted(tab, 32, after(2.1))
	crowd(t, tab, 4000, 40, after(2.2))
	if got := tab.Stats(); got.UDP != 58 || got.Evicted != 7 {
		t.Errorf("with ports again: %+v", got)
	}
}

func TestNoPorts(t *testing.T) {
	tab := New[string](Limits{}, AddressDependent, epoch)
	tab.LimitPorts(0)
	tab.NeedPorts(epoch)
	granted(tab, 0, epoch)
	if _, _, err := tab.Add(udpKey(1), webSrv, "", epoch); !errors.Is(err, ErrPorts) {
		t.Errorf("a mapping without a port: %v", err)
	}
	mustAdd(t, tab, echoKey(1), webSrv, epoch) // a ping socket has none
	if got := tab.Stats(); got.OutOfPorts != 1 || got.UDP != 0 || got.Echo != 1 || got.Created != 1 {
		t.Errorf("%+v", got)
	}
}

func TestPortsAreGivenBack(t *testing.T) {
	tab := New[string](Limits{}, AddressDependent, epoch)
	tab.LimitPorts(32)
	crowd(t, tab, 1000, 100, epoch)
	granted(tab, tab.credit.asked, epoch)
	for tab.NeedPorts(epoch) > 0 {
		granted(tab, tab.credit.asked, epoch)
	}
	held := tab.Stats().Ports
	if n := expired(tab, after(120)); n != 100 {
		t.Fatalf("%d expired", n)
	}
	back := 0
	for s := 120.; s < 130; s++ {
		back += tab.SparePorts(after(s))
	}
	if back != 0 {
		t.Errorf("%d given back within ten seconds", back)
	}
	if back = tab.SparePorts(after(130)); held-back != PortBlock || tab.Stats().Ports != PortBlock {
		t.Errorf("%d of %d given back, want all but a block", back, held)
	}
	if n := tab.NeedPorts(after(130)) + tab.SparePorts(after(140)) + tab.SparePorts(after(150)); n != 0 {
		t.Errorf("%d asked for or given back by a table that has just what it wants", n)
	}
}

// A mapping that is taken over has its port with it: main moves those.
func TestPortsOfRestored(t *testing.T) {
	old := New[string](Limits{}, AddressDependent, epoch)
	crowd(t, old, 1000, 3, epoch)
	tab := New[string](Limits{}, AddressDependent, epoch)
	tab.LimitPorts(2)
	var kept int
	old.Carry(epoch, func(s Saved, m *Mapping[string]) {
		if _, ok := tab.Restore(s, m.Value, epoch); ok {
			kept++
		}
	})
	if kept != 2 {
		t.Errorf("%d restored with 2 ports", kept)
	}
}

type naivePorts struct {
	held, asked int
	refused     bool          // an answer was less than what was asked for, and none since was not
	patience    time.Duration // until it may be asked again
	spares      []int         // to give back, at each look since there was always something
	first       time.Duration // of these looks
}

// needed is how many ports to ask for.
func (n *naive) needed(now time.Duration) int {
	n.now = max(n.now, now)
	p, used := n.ports, n.count(UDP)
	if p == nil || p.asked > 0 || n.now < p.patience || p.held >= n.limits.UDP || p.held-used >= 16 {
		return 0
	}
	for want := min(max(32, used), n.limits.UDP-p.held); p.asked < want; {
		p.asked += 32
	}
	return p.asked
}

func (n *naive) granted(ports int, now time.Duration) (gone []Key) {
	n.now = max(n.now, now)
	p := n.ports
	if p.refused = ports < p.asked; p.refused {
		p.patience = n.now + time.Second
	}
	p.held, p.asked = p.held+ports, 0
	for p.refused && n.count(UDP) > p.held {
		gone = append(gone, n.evict(UDP).key)
		n.stats.OutOfPorts++
	}
	return gone
}

func (n *naive) spare(now time.Duration) (back int) {
	n.now = max(n.now, now)
	p, used := n.ports, n.count(UDP)
	if p == nil {
		return 0
	}
	keep := used + max(32, used/2)
	for p.held-back-32 >= (keep+31)/32*32 && p.asked == 0 {
		back += 32
	}
	if back == 0 {
		p.spares = nil
		return 0
	}
	if p.spares = append(p.spares, back); len(p.spares) == 1 {
		p.first = n.now
	}
	if n.now-p.first < 10*time.Second {
		return 0
	}
	back = slices.Min(p.spares)
	p.held, p.spares = p.held-back, nil
	return back
}

// ports asks for ports, gets some, or more than enough, or gives some back.
func (b *both) ports() {
	if b.nai.ports == nil {
		return
	}
	if got, want := b.tab.NeedPorts(b.now()), b.nai.needed(b.at); got != want {
		b.t.Fatalf("%d ports are needed, naive %d", got, want)
	}
	if n := b.nai.ports.asked; n > 0 && b.r.IntN(2) == 0 {
		n = []int{n, b.r.IntN(n), 0, n + b.r.IntN(200)}[b.r.IntN(4)]
		var gone []Key
		b.tab.Granted(n, b.now(), func(m *Mapping[int]) { gone = append(gone, m.Key()) })
		b.sameKeys("without a port", gone, b.nai.granted(n, b.at))
	}
	got, want := b.tab.SparePorts(b.now()), b.nai.spare(b.at)
	if got != want {
		b.t.Fatalf("%d ports are given back, naive %d", got, want)
	}
	b.back += got
}
