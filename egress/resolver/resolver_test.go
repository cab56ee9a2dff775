package resolver

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"rocserv/test/descriptors"
)

func TestResolverForwards(t *testing.T) {
	r := newRig(t, up1, up2)
	query := dnsQueryMsg(t, 0x1234, "www.Example.com.", dnsmessage.TypeA, 1232)
	got := r.ask(query)
	s, sent := r.net.last(t, up1)
	if !bytes.Equal(sent[2:], query[2:]) {
		t.Errorf("forwarded %x, want %x but for the id", sent, query)
	}
	answer := answerTo(t, sent, dnsmessage.RCodeSuccess, 2)
	for name, stray := range map[string][]byte{
		"too short":      answer[:11],
		"nothing":        nil,
		"a query":        sent,
		"other id":       edit(answer, func(b []byte) { b[0] ^= 0xff }),
		"other question": edit(answer, func(b []byte) { b[13] ^= 1 }),
		"other type":     edit(answer, func(b []byte) { b[12+17+1] ^= 2 }),
		"no question":    edit(answer, func(b []byte) { b[5] = 0 }),
		"two questions":  edit(answer, func(b []byte) { b[5] = 2 }),
		"other opcode":   edit(answer, func(b []byte) { b[2] |= 0x20 }),
		"cut question":   answer[:20],
	} {
		if s.receive(stray); *got != nil {
			t.Fatalf("%s was taken for the answer", name)
		}
	}
	// The right answer on the wrong socket.
	other := &fakeSocket{up: &link{r: r.Resolver, u: &upstream{}}}
	if other.receive(bytes.Clone(answer)); *got != nil {
		t.Fatal("an answer on another socket was taken")
	}
	if n := r.Stats().Strays; n != 11 {
		t.Errorf("%d strays counted, want 11", n)
	}
	// Upstreams may give the name back in lower case.
	s.receive(edit(answer, func(b []byte) { copy(b[12:], bytes.ToLower(b[12:12+17])) }))
	m := mustParse(t, *got)
	if m.ID != 0x1234 || len(m.Answers) != 2 || m.Questions[0].Name.String() != "www.example.com." {
		t.Errorf("answer %+v", m)
	}
	s.receive(answer)
	if want := (Stats{Queries: 1, Answered: 1, Strays: 12}); r.Stats() != want {
		t.Errorf("stats %+v, want %+v", r.Stats(), want)
	}
}

func TestResolverIDs(t *testing.T) {
	r := newRig(t, up1)
	seen := map[uint16]bool{}
	for i := range maxOutstanding {
		r.ask(dnsQueryMsg(t, 7, fmt.Sprintf("n%d.example.", i), dnsmessage.TypeA, 0))
		_, sent := r.net.last(t, up1)
		seen[dnsID(sent)] = true
	}
	if len(seen) != maxOutstanding {
		t.Errorf("%d different ids of %d queries on their way", len(seen), maxOutstanding)
	}
	sequence := 0
	for id := range seen {
		if seen[id+1] {
			sequence++
		}
	}
	if sequence > maxOutstanding/4 {
		t.Errorf("%d ids follow another one: not random", sequence)
	}
	// One more is refused, and only that.
	if m := mustParse(t, *r.ask(dnsQueryMsg(t, 9, "more.example.", dnsmessage.TypeA, 0))); m.RCode != dnsmessage.RCodeServerFailure || m.ID != 9 {
		t.Errorf("beyond the bound: %+v", m.Header)
	}
	if n := r.flight.queries; n != maxOutstanding {
		t.Errorf("%d queries outstanding", n)
	}
}

func TestResolverRetries(t *testing.T) {
	r := newRig(t, up1, up2)
	got := r.ask(dnsQueryMsg(t, 1, "a.example.", dnsmessage.TypeA, 0))
	s1, first := r.net.last(t, up1)
	r.clock.advance(tryTimeout - 1)
	if r.net.count(up2) != 0 {
		t.Fatal("asked the second upstream too early")
	}
	r.clock.advance(1)
	s2, second := r.net.last(t, up2)
	if dnsID(first) == dnsID(second) {
		t.Error("the second try has the first one's id")
	}
	// The first upstream was only slow.
	s1.receive(answerTo(t, first, dnsmessage.RCodeSuccess, 1))
	if m := mustParse(t, *got); m.ID != 1 || len(m.Answers) != 1 {
		t.Errorf("late answer: %+v", m)
	}
	s2.receive(answerTo(t, second, dnsmessage.RCodeSuccess, 1))
	if want := (Stats{Queries: 1, Answered: 1, Retries: 1, Strays: 1}); r.Stats() != want {
		t.Errorf("stats %+v, want %+v", r.Stats(), want)
	}

	// Nobody answers.
	got = r.ask(dnsQueryMsg(t, 2, "b.example.", dnsmessage.TypeA, 1232))
	s1, first = r.net.last(t, up1)
	r.clock.advance(maxTries*tryTimeout - 1)
	if *got != nil {
		t.Fatal("gave up too early")
	}
	if a, b := r.net.count(up1), r.net.count(up2); a != 3 || b != 2 {
		t.Errorf("upstreams were asked %d and %d times, want 3 and 2", a, b)
	}
	r.clock.advance(1)
	m := mustParse(t, *got)
	if m.ID != 2 || m.RCode != dnsmessage.RCodeServerFailure || !m.Response || !m.RecursionDesired || !m.RecursionAvailable ||
		len(m.Questions) != 1 || len(m.Additionals) != 1 {
		t.Errorf("after all tries: %+v", m)
	}
	s1.receive(answerTo(t, first, dnsmessage.RCodeSuccess, 1))
	if s := r.Stats(); s.Strays != 2 || s.Failed != 1 {
		t.Errorf("stats %+v", s)
	}
	if len(r.flight.byID) != 0 || r.flight.waiting.Len() != 0 || r.flight.queries != 0 {
		t.Errorf("left behind: %d ids, %d waiting, %d queries", len(r.flight.byID), r.flight.waiting.Len(), r.flight.queries)
	}
}

func TestResolverRcodes(t *testing.T) {
	for _, rcode := range []dnsmessage.RCode{dnsmessage.RCodeServerFailure, dnsmessage.RCodeRefused} {
		r := newRig(t, up1, up2)
		got := r.ask(dnsQueryMsg(t, 1, "a.example.", dnsmessage.TypeA, 0))
		s, sent := r.net.last(t, up1)
		s.receive(answerTo(t, sent, rcode, 0))
		if *got != nil {
			t.Fatalf("%v was passed on though there is another upstream", rcode)
		}
		s, sent = r.net.last(t, up2)
		s.receive(answerTo(t, sent, rcode, 0))
		if m := mustParse(t, *got); m.RCode != rcode || m.ID != 1 {
			t.Errorf("all upstreams said %v: %+v", rcode, m.Header)
		}
	}
	r := newRig(t, up1, up2)
	got := r.ask(dnsQueryMsg(t, 1, "a.example.", dnsmessage.TypeA, 0))
	s, sent := r.net.last(t, up1)
	s.receive(answerTo(t, sent, dnsmessage.RCodeNameError, 0))
	if m := mustParse(t, *got); m.RCode != dnsmessage.RCodeNameError {
		t.Errorf("NXDOMAIN: %+v", m.Header)
	}
}

// waiting is how many tries of one query wait, at most.
func (r *resolverRig) waiting() (most int) {
	n := map[*query]int{}
	for e := r.flight.waiting.Front(); e != nil; e = e.Next() {
		q := e.Value.(*try).q
		n[q]++
		most = max(most, n[q])
	}
	return most
}

// What comes late and is no use changes nothing for the server asked meanwhile,
// whose answer counts; it is not asked beside a third.
func TestResolverLateFailures(t *testing.T) {
	for name, spoil := range map[string]func([]byte){
		"SERVFAIL": func(b []byte) { b[3] |= rcodeServFail },
		"REFUSED":  func(b []byte) { b[3] |= rcodeRefused },
		"cut":      func(b []byte) { b[2] |= dnsTC >> 8 },
	} {
		for _, servers := range [][]netip.AddrPort{{up1, up2}, {up1, up2, up3}} {
			t.Run(fmt.Sprint(name, " of ", len(servers)), func(t *testing.T) {
				r := newRig(t, servers...)
				s := r.stream(t)
				s.Write(framed(dnsQueryMsg(t, 5, "a.example.", dnsmessage.TypeA, 1232)))
				s1, first := r.net.last(t, up1)
				r.clock.advance(tryTimeout)
				s2, second := r.net.last(t, up2)
				s1.receive(edit(answerTo(t, first, dnsmessage.RCodeSuccess, 0), spoil))
				if n := r.waiting(); n != 1 || len(r.flight.byID) != 1 || r.net.count(up1)+r.net.count(up2)+r.net.count(up3) != 2 || s.pending() != 0 {
					t.Errorf("%d tries wait, of %d; %d bytes are told", n, len(r.flight.byID), s.pending())
				}
				s2.receive(answerTo(t, second, dnsmessage.RCodeSuccess, 1))
				if m := readMessage(t, s); m.ID != 5 || m.RCode != 0 || len(m.Answers) != 1 {
					t.Errorf("%+v", m)
				}
				if len(r.flight.byID) != 0 || r.flight.waiting.Len() != 0 || r.flight.queries != 0 {
					t.Error("something is left")
				}
			})
		}
	}
	// Nobody else knows either: it ends, in time.
	r := newRig(t, up1, up2)
	got := r.ask(dnsQueryMsg(t, 1, "a.example.", dnsmessage.TypeA, 0))
	s1, first := r.net.last(t, up1)
	r.clock.advance(tryTimeout)
	s1.receive(answerTo(t, first, dnsmessage.RCodeServerFailure, 0))
	r.clock.advance((maxTries - 1) * tryTimeout)
	if m := mustParse(t, *got); m.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("%+v", m.Header)
	}
}

// A server that was replaced is not asked again, not even for the rest of its
// own answer: nobody would close the connection.
func TestResolverCutByReplacedServer(t *testing.T) {
	r := newRig(t, up1)
	s := r.stream(t)
	s.Write(framed(dnsQueryMsg(t, 5, "a.example.", dnsmessage.TypeA, 1232)))
	old, sent := r.net.last(t, up1)
	r.SetServers(plain(up2))
	old.receive(edit(answerTo(t, sent, dnsmessage.RCodeSuccess, 0), func(b []byte) { b[2] |= dnsTC >> 8 }))
	fresh, sent := r.net.last(t, up2)
	if !fresh.up.long || r.net.count(up1) != 1 {
		t.Fatal("the new server is not asked, by a connection")
	}
	fresh.receive(answerTo(t, sent, dnsmessage.RCodeSuccess, 1))
	if m := readMessage(t, s); m.ID != 5 || len(m.Answers) != 1 {
		t.Errorf("%+v", m)
	}
	s.Close()
	r.clock.advance(time.Minute + longIdle)
	if n := r.net.openSockets(); n != 0 || !old.closed {
		t.Errorf("%d sockets left", n)
	}
}

// TestResolverPrefers: an upstream that does not answer is passed over for a while.
func TestResolverPrefers(t *testing.T) {
	r := newRig(t, up1, up2)
	for i := range missesToRest {
		got := r.ask(dnsQueryMsg(t, uint16(i), "a.example.", dnsmessage.TypeA, 0))
		r.clock.advance(tryTimeout)
		s, sent := r.net.last(t, up2)
		s.receive(answerTo(t, sent, dnsmessage.RCodeSuccess, 1))
		if *got == nil {
			t.Fatal("no answer")
		}
	}
	before := r.net.count(up1)
	r.ask(dnsQueryMsg(t, 9, "b.example.", dnsmessage.TypeA, 0))
	if r.net.count(up1) != before {
		t.Error("the silent upstream is still asked first")
	}
	s, sent := r.net.last(t, up2)
	s.receive(answerTo(t, sent, dnsmessage.RCodeSuccess, 1))
	r.clock.advance(restTime)
	r.ask(dnsQueryMsg(t, 10, "c.example.", dnsmessage.TypeA, 0))
	if r.net.count(up1) != before+1 {
		t.Error("the first upstream is not tried again")
	}
}

func TestResolverUnreachable(t *testing.T) {
	// Nobody listens: told by ICMP, all its queries move on at once.
	r := newRig(t, up1, up2)
	a := r.ask(dnsQueryMsg(t, 1, "a.example.", dnsmessage.TypeA, 0))
	b := r.ask(dnsQueryMsg(t, 2, "b.example.", dnsmessage.TypeA, 0))
	s1, _ := r.net.last(t, up1)
	s1.up.failed(syscall.ECONNREFUSED)
	if r.net.count(up2) != 2 {
		t.Fatalf("%d queries moved on, want 2", r.net.count(up2))
	}
	if preferred(r.servers.rest, r.clock.now) != 1 {
		t.Error("the refusing upstream is still preferred")
	}
	s2, _ := r.net.last(t, up2)
	s2.up.failed(syscall.ECONNREFUSED)
	s1.up.failed(syscall.ECONNREFUSED)
	for _, got := range []*[]byte{a, b} {
		if m := mustParse(t, *got); m.RCode != dnsmessage.RCodeServerFailure {
			t.Errorf("%+v", m.Header)
		}
	}
	// A socket that does not send is as good as no answer, only sooner.
	r = newRig(t, up1, up2)
	r.net.sendErr[up1] = syscall.ENETUNREACH
	r.ask(dnsQueryMsg(t, 1, "a.example.", dnsmessage.TypeA, 0))
	if r.net.count(up2) != 1 {
		t.Error("the second upstream was not asked at once")
	}
	r.net.sendErr[up2] = syscall.ENETUNREACH
	if m := mustParse(t, *r.ask(dnsQueryMsg(t, 5, "a.example.", dnsmessage.TypeA, 0))); m.RCode != dnsmessage.RCodeServerFailure || m.ID != 5 {
		t.Errorf("nothing can be sent: %+v", m.Header)
	}
	// No descriptor left.
	r = newRig(t, up1)
	r.net.openErr = syscall.EMFILE
	if m := mustParse(t, *r.ask(dnsQueryMsg(t, 6, "a.example.", dnsmessage.TypeA, 0))); m.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("no socket: %+v", m.Header)
	}
	// No upstream.
	r = newRig(t)
	if m := mustParse(t, *r.ask(dnsQueryMsg(t, 7, "a.example.", dnsmessage.TypeA, 0))); m.RCode != dnsmessage.RCodeServerFailure || m.ID != 7 {
		t.Errorf("no upstream: %+v", m.Header)
	}
}

// TestResolverSockets: a few for many queries, none when nobody asks.
func TestResolverSockets(t *testing.T) {
	r := newRig(t, up1)
	answer := func() {
		s, sent := r.net.last(t, up1)
		s.receive(answerTo(t, sent, dnsmessage.RCodeSuccess, 1))
	}
	for i := range 10 * socketUses {
		got := r.ask(dnsQueryMsg(t, uint16(i), "a.example.", dnsmessage.TypeA, 0))
		answer()
		if *got == nil {
			t.Fatal("no answer")
		}
		if n := r.net.openSockets(); n > 1 {
			t.Fatalf("%d sockets for queries one after the other", n)
		}
	}
	if n := len(r.net.sockets); n != 10 {
		t.Errorf("%d ports in turn, want 10", n)
	}
	// A socket that is old is not used again.
	r.clock.advance(socketLife - 1)
	r.ask(dnsQueryMsg(t, 1, "b.example.", dnsmessage.TypeA, 0))
	answer()
	r.clock.advance(2)
	r.ask(dnsQueryMsg(t, 1, "b.example.", dnsmessage.TypeA, 0))
	answer()
	if n := len(r.net.sockets); n < 11 || n > 12 {
		t.Errorf("%d sockets", n)
	}
	r.clock.advance(2*socketLife + 1)
	if n := r.net.openSockets(); n != 0 || r.sockets != 0 {
		t.Errorf("%d sockets open (%d counted) though nobody asks", n, r.sockets)
	}
	for _, timer := range r.clock.timers {
		if !timer.at.IsZero() {
			t.Error("the timer runs though nothing is open")
		}
	}
	// Nobody answers, and many ask.
	for range 40 {
		for range 200 {
			r.ask(dnsQueryMsg(t, 1, "c.example.", dnsmessage.TypeA, 0))
		}
		r.clock.advance(tryTimeout / 2)
		if n := r.net.openSockets(); n > maxSockets || n != r.sockets {
			t.Fatalf("%d sockets open (%d counted), want at most %d", n, r.sockets, maxSockets)
		}
	}
}

func TestResolverSetUpstreams(t *testing.T) {
	r := newRig(t, up1, up2)
	old := r.ask(dnsQueryMsg(t, 1, "a.example.", dnsmessage.TypeA, 0))
	s, sent := r.net.last(t, up1)
	r.SetServers(plain(up1, up2))
	if s.up.retired {
		t.Error("the same list closes sockets")
	}
	r.SetServers(plain(up3))
	r.ask(dnsQueryMsg(t, 2, "b.example.", dnsmessage.TypeA, 0))
	if r.net.count(up3) != 1 {
		t.Error("the new upstream is not asked")
	}
	if s.closed {
		t.Error("a socket was closed that an answer may come to")
	}
	s.receive(answerTo(t, sent, dnsmessage.RCodeSuccess, 1))
	if *old == nil || !s.closed {
		t.Errorf("answered %v, socket closed %v; want both", *old != nil, s.closed)
	}
	r.SetServers(nil)
	r.clock.advance(time.Minute)
	if n := r.net.openSockets(); n != 0 {
		t.Errorf("%d sockets open without upstreams", n)
	}
	many := make([]netip.AddrPort, 20)
	for i := range many {
		many[i] = netip.AddrPortFrom(up1.Addr(), uint16(i+1))
	}
	r.SetServers(plain(many...))
	if n := len(r.servers.rest); n != maxServers {
		t.Errorf("%d upstreams taken", n)
	}
}

func TestResolverClose(t *testing.T) {
	r := newRig(t, up1, up2)
	got := r.ask(dnsQueryMsg(t, 1, "a.example.", dnsmessage.TypeA, 0))
	r.SetServers(plain(up2))
	r.ask(dnsQueryMsg(t, 2, "b.example.", dnsmessage.TypeA, 0))
	s, sent := r.net.last(t, up1)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if n := r.net.openSockets(); n != 0 {
		t.Errorf("%d sockets open after Close", n)
	}
	s.receive(answerTo(t, sent, dnsmessage.RCodeSuccess, 1))
	s.up.failed(syscall.ECONNREFUSED)
	r.tick()
	if late := r.ask(sent); *got != nil || *late != nil {
		t.Error("answered after Close")
	}
	r.SetServers(plain(up3))
	if err := r.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
}

// TestResolverReal: five thousand queries over real sockets, the first upstream
// dead: a handful of descriptors, every query answered, nothing left.
func TestResolverReal(t *testing.T) {
	server := dnsServer(t)
	dead := closedPort(t)
	before := descriptors.Open(t)
	files := len(before)
	d := newDirect(t)
	r := New(d, Config{Servers: plain(dead, server)})
	const queries, window = 5000, 50
	slots := make(chan struct{}, window)
	var wg sync.WaitGroup
	for i := range queries {
		slots <- struct{}{}
		wg.Add(1)
		id := uint16(i)
		r.Query(dnsQueryMsg(t, id, fmt.Sprintf("n%d.example.", i), dnsmessage.TypeA, 1232), 1400, func(answer []byte) {
			var m dnsmessage.Message
			if err := m.Unpack(answer); err != nil || m.ID != id || m.RCode != dnsmessage.RCodeSuccess || m.Questions[0].Name.String() != fmt.Sprintf("n%d.example.", id) {
				t.Errorf("query %d: %+v, %v", id, m.Header, err)
			}
			<-slots
			wg.Done()
		})
		if i%500 == 499 {
			// The poller has two (its epoll instance), each upstream its share.
			if n := descriptors.Count(t) - files; n > maxSockets+2+2 {
				t.Fatalf("%d descriptors after %d queries", n, i+1)
			}
		}
	}
	wg.Wait()
	if s := r.Stats(); s.Answered != queries || s.Failed != 0 {
		t.Errorf("stats %+v", s)
	}
	r.Close()
	d.Close()
	descriptors.NoneLeft(t, before)
}

func BenchmarkResolver(b *testing.B) {
	r := newRig(b, up1)
	msg := dnsQueryMsg(b, 1, "www.example.com.", dnsmessage.TypeA, 1232)
	answer := answerTo(b, msg, dnsmessage.RCodeSuccess, 2)
	b.ReportAllocs()
	for b.Loop() {
		r.Query(msg, 1400, func([]byte) {})
		for id := range r.flight.byID {
			setDNSID(answer, id)
		}
		s := r.net.sockets[len(r.net.sockets)-1]
		s.receive(answer)
		s.sent = s.sent[:0]
	}
}

// TestResolverConcurrent: everything at once, for the race detector; it ends
// while queries are on their way.
func TestResolverConcurrent(t *testing.T) {
	server, other := dnsServer(t), dnsServer(t)
	before := descriptors.Open(t)
	d := newDirect(t)
	r := New(d, Config{Servers: plain(server)})
	var answered atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for i := range 200 {
				r.Query(dnsQueryMsg(t, uint16(i), "a.example.", dnsmessage.TypeA, 0), 1400, func([]byte) { answered.Add(1) })
				runtime.Gosched()
			}
		})
	}
	wg.Go(func() {
		for i := range 100 {
			r.SetServers([][]Server{plain(server), plain(other, server), plain(other)}[i%3])
			r.SetAAAAFilter(i%2 == 0)
			r.tick()
			runtime.Gosched()
		}
	})
	wg.Wait()
	r.Close()
	if q := r.Stats(); q.Queries != 600 || answered.Load() > 600 {
		t.Errorf("%+v, %d answers", q, answered.Load())
	}
	d.Close()
	descriptors.NoneLeft(t, before)
}
