package mainproc

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"rocserv/internal/control"
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

// Spoofed sources cost little, those where nobody is nothing, and the sessions
// behind one address all get their turn.
func TestOffersAreBounded(t *testing.T) {
	const n = 10
	b := newBench(t, n)
	var homes []udpTarget
	for _, f := range b.targets[1:] {
		homes = append(homes, f)
	}
	known := map[netip.Addr][]udpTarget{netip.MustParseAddr("127.0.0.2"): homes}
	b.offers.clients = func() map[netip.Addr][]udpTarget { return known }
	sum := func() (all int) {
		for _, f := range b.targets {
			all += f.offered()
		}
		return all
	}
	host := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}) }
	for i := range 3 * offersAll { // of nobody's address
		b.give(netip.AddrPortFrom(host(i), 9).String(), dataRecord(1))
	}
	if b.offers.all != 0 || len(b.offers.hosts) != 0 || b.count.unknown.Load() != 3*offersAll {
		t.Errorf("%d offers of %d hosts where nobody is", b.offers.all, len(b.offers.hosts))
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
		known[host(i)] = homes
	}
	for i := range 3000 {
		b.give(netip.AddrPortFrom(host(i), 9).String(), dataRecord(1))
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

// A worker hears of what comes from where main gave it a socket for, however often
// it says that its channel is elsewhere; and so after an upgrade.
func TestOffersOfALiar(t *testing.T) {
	r, ctl := controlled(t)
	honest, liar := r.dial(), r.dial()
	app, err := hex.DecodeString(value(honest.open(testSID(sidGood, 1, 0, false, 1)), "app"))
	must(err)
	liar.open(testSID(sidGood, 2, 0, false, 1))
	first := r.udpDial()
	first.Write(hello(app, 1, 'A'))
	if got := honest.line(); !strings.HasPrefix(got, "UDP_FD ") {
		t.Fatal(got)
	}
	psk := strings.Repeat("ab", 32)
	for n := 1; n <= 2; n++ {
		honest.ask("info %s %v", psk, first.LocalAddr())
		liar.ask("info %s %v", psk, first.LocalAddr())
		// Sessions are listed once in a while; from another port each time.
		stop, offered := make(chan struct{}), make(chan string)
		go func() { offered <- honest.line() }()
		c := r.udpDial()
		go func() {
			for ; ; time.Sleep(offerPause) {
				select {
				case <-stop:
					return
				default:
					c.Write(dataRecord(1))
				}
			}
		}()
		got := <-offered
		close(stop)
		if !strings.HasPrefix(got, "UDP_OFFER ") {
			t.Fatal(got)
		}
		// What the liar was told before this question is in its answer's way.
		ask[control.Why](t, ctl, control.CmdWhy, control.WhyArgs{User: "user2", Host: "www.example"})
		if got := liar.ask("hello"); !strings.HasPrefix(got, "hi ") {
			t.Fatalf("the liar was told %q", got)
		}
		if n == 2 {
			break
		}
		ctl = r.upgrade(ctl, n)
		for _, p := range []*peer{honest, liar} {
			for got = p.line(); strings.HasPrefix(got, "UDP_OFFER "); got = p.line() {
			}
			if got != "secmod" {
				t.Fatalf("told %q", got)
			}
		}
	}
	r.stop()
}

// A handshake that comes to nothing, and those that others begin, leave the
// channel where it is.
func TestSockets(t *testing.T) {
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) }
	var s, next sockets
	s.claim(addr(1))
	if s.channel().IsValid() {
		t.Error("a channel without a socket")
	}
	s.give(addr(1))
	s.claim(addr(1))
	for i := range 10 * maxSockets {
		s.give(addr(2 + i))
	}
	s.claim(addr(1)) // again, for its MTU is another
	next.take(s.save())
	for i, s := range []*sockets{&s, &next} {
		if s.channel() != addr(1) || len(s.given) != maxSockets {
			t.Errorf("%d: at %v, %d addresses kept", i, s.channel(), len(s.given))
		}
		s.claim(addr(1 + 10*maxSockets))
		if s.channel() != addr(1+10*maxSockets) {
			t.Errorf("%d: not where the newest socket is", i)
		}
		s.claim(netip.Addr{})
		s.claim(addr(1))
		if s.channel().IsValid() {
			t.Errorf("%d: at %v", i, s.channel())
		}
	}
}
