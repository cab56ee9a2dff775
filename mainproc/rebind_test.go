package mainproc

import (
	"net/netip"
	"testing"
	"time"
)

// dataRecord begins like a record of data.
func dataRecord(n byte) []byte {
	return []byte{23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, n, 0, 3, 'a', 'b', 'c'}
}

// inOneHost makes sessions' DTLS channels be at one address.
func (b *bench) inOneHost(a string, targets ...*fakeTarget) {
	var list []udpTarget
	for _, t := range targets {
		list = append(list, t)
	}
	b.offers.clients = func() map[netip.Addr][]udpTarget {
		return map[netip.Addr][]udpTarget{netip.MustParseAddr(a): append([]udpTarget(nil), list...)}
	}
}

func (f *fakeTarget) offered() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.offers)
}

// A record from a new port is offered to the sessions at that address, and what
// follows is given to the one that says it is there now.
func TestOffers(t *testing.T) {
	b := newBench(t, 3)
	const from = "127.0.0.2:4000"
	at := netip.MustParseAddrPort(from)
	one, two, other := b.targets[1], b.targets[2], b.targets[3]
	b.give(from, dataRecord(1)) // nobody is anywhere
	b.inOneHost("127.0.0.2", one, two)
	b.give(from, []byte("noise"))
	b.give(from, dataRecord(1)[:15])
	b.give("127.0.0.3:4000", dataRecord(1))
	if n := one.offered() + two.offered() + other.offered(); n != 0 || b.count.unknown.Load() != 4 {
		t.Fatalf("%d offers, %d unknown", n, b.count.unknown.Load())
	}
	b.now.Store(int64(time.Second))
	b.give(from, dataRecord(1))
	b.give(from, dataRecord(2)) // in the pause
	if one.offered() != 1 || two.offered() != 1 || other.offered() != 0 || one.offers[0] != at {
		t.Fatalf("offered %d, %d, %d times", one.offered(), two.offered(), other.offered())
	}
	b.moved(other, at) // was not asked
	b.moved(two, netip.MustParseAddrPort("127.0.0.2:4001"))
	b.give(from, dataRecord(3))
	if _, later := other.counts(); later != 0 {
		t.Fatal("what was not offered is given away")
	}
	b.moved(two, at)
	b.give(from, dataRecord(4))
	if _, later := two.counts(); later != 1 || one.offered() != 1 {
		t.Fatalf("%d datagrams followed", later)
	}
	b.now.Store(int64(time.Second + recentTime + 1)) // if it is still here, it has moved once more
	b.give(from, dataRecord(5))
	if two.offered() != 2 {
		t.Error("not offered again")
	}
}

// Spoofed sources cost little, and the sessions behind one address all get their turn.
func TestOffersAreBounded(t *testing.T) {
	const n = 10
	b := newBench(t, n)
	b.inOneHost("127.0.0.2", b.targets[1:]...)
	sum := func() (all int) {
		for _, f := range b.targets {
			all += f.offered()
		}
		return all
	}
	for port := range uint16(1000) {
		b.give(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 2}), 1000+port).String(), dataRecord(1))
	}
	if got := sum(); got != offersPerHost*maxOffers {
		t.Errorf("%d offers, want %d", got, offersPerHost*maxOffers)
	}
	for i, f := range b.targets[1:] {
		if got := f.offered(); got < offersPerHost*maxOffers/n-1 {
			t.Errorf("session %d was asked %d times", i+1, got)
		}
	}
	for i := range 3000 {
		host := netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)})
		b.give(netip.AddrPortFrom(host, 9).String(), dataRecord(1))
	}
	if b.offers.all != offersAll || len(b.offers.hosts) > offersAll || len(b.offers.out) > offersAll {
		t.Errorf("%d offers of %d hosts", b.offers.all, len(b.offers.hosts))
	}
	before := sum()
	b.now.Store(int64(offerWindow))
	b.give("127.0.0.2:1", dataRecord(1))
	if sum() != before+maxOffers {
		t.Error("no new window")
	}
}
