package resolver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"rocserv/egress"
)

func framed(msgs ...[]byte) (b []byte) {
	for _, m := range msgs {
		b = binary.BigEndian.AppendUint16(b, uint16(len(m)))
		b = append(b, m...)
	}
	return b
}

// readMessage takes the next answer of a connection.
func readMessage(t testing.TB, s io.Reader) dnsmessage.Message {
	t.Helper()
	var n [2]byte
	if _, err := io.ReadFull(s, n[:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint16(n[:]))
	if _, err := io.ReadFull(s, b); err != nil {
		t.Fatal(err)
	}
	return mustParse(t, b)
}

func (r *resolverRig) stream(t testing.TB) *stream {
	t.Helper()
	s, err := r.DialTCP(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.(*stream)
}

// answerAll answers what was sent to up1 and not answered, the newest first.
func (r *resolverRig) answerAll(t testing.TB, n int) {
	t.Helper()
	for _, s := range r.net.sockets {
		sent := s.sent
		s.sent = nil
		for i := range sent {
			s.receive(answerTo(t, sent[len(sent)-1-i], dnsmessage.RCodeSuccess, n))
		}
	}
}

// However the bytes come, each query has its answer, in any order, by the same
// way as those by UDP; and the end comes after the last.
func TestStream(t *testing.T) {
	var queries [][]byte
	for i := range 20 {
		queries = append(queries, dnsQueryMsg(t, uint16(i), fmt.Sprintf("n%d.example.", i), dnsmessage.TypeA, 0))
	}
	all := framed(queries...)
	for _, size := range []int{1, 2, 3, 7, len(all) / 2, len(all)} {
		r := newRigOf(t, Config{Servers: plain(up1), Rules: Rules{Block: blockSet("n7.example")}})
		s := r.stream(t)
		for b := all; len(b) > 0; b = b[min(size, len(b)):] {
			if n, err := s.Write(b[:min(size, len(b))]); n != min(size, len(b)) || err != nil {
				t.Fatal(n, err)
			}
		}
		if err := s.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		r.answerAll(t, 30) // longer than UDP without EDNS takes
		seen := map[uint16]bool{}
		for range queries {
			m := readMessage(t, s)
			want, rcode := 30, dnsmessage.RCodeSuccess
			if m.ID == 7 {
				want, rcode = 0, dnsmessage.RCodeNameError
			}
			if seen[m.ID] || m.Truncated || len(m.Answers) != want || m.RCode != rcode || m.Questions[0].Name.String() != fmt.Sprintf("n%d.example.", m.ID) {
				t.Errorf("%+v with %d answers", m.Header, len(m.Answers))
			}
			seen[m.ID] = true
		}
		if n, err := s.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("after the last: %d, %v", n, err)
		}
	}
}

// What does not fit a datagram of the server is asked for by a connection to it,
// and so are all questions if the operator's way takes no datagrams.
func TestStreamOfLongAnswers(t *testing.T) {
	r := newRig(t, up1, up2)
	s := r.stream(t)
	s.Write(framed(dnsQueryMsg(t, 5, "long.example.", dnsmessage.TypeTXT, 4096)))
	short, sent := r.net.last(t, up1)
	if short.up.long {
		t.Fatal("asked by a connection at first")
	}
	if q, _ := parseDNSQuery(sent); binary.BigEndian.Uint16(sent[q.opt:]) != ourDNSUDP {
		t.Error("it may come in fragments")
	}
	short.receive(edit(answerTo(t, sent, dnsmessage.RCodeSuccess, 0), func(b []byte) { b[2] |= 2 }))
	long, sent := r.net.last(t, up1)
	if !long.up.long || r.net.count(up2) != 0 {
		t.Fatal("not asked by a connection to the same server")
	}
	long.receive(answerTo(t, sent, dnsmessage.RCodeSuccess, 3000))
	if m := readMessage(t, s); m.ID != 5 || len(m.Answers) != 3000 {
		t.Errorf("%+v, %d answers", m.Header, len(m.Answers))
	}
	// By a datagram the client is told to come again.
	got := r.ask(dnsQueryMsg(t, 6, "long.example.", dnsmessage.TypeTXT, 1232))
	sent = short.sent[len(short.sent)-1]
	short.receive(edit(answerTo(t, sent, dnsmessage.RCodeSuccess, 0), func(b []byte) { b[2] |= 2 }))
	if m := mustParse(t, *got); !m.Truncated || m.ID != 6 {
		t.Errorf("%+v", m.Header)
	}
	if n := len(r.flight.byID); n != 0 {
		t.Errorf("%d tries left", n)
	}
	only := newRigOf(t, Config{Servers: plain(up1), Dial: func(context.Context, string, uint16) (egress.Stream, error) { return nil, errClosed }})
	only.ask(dnsQueryMsg(t, 7, "a.example.", dnsmessage.TypeA, 0))
	if s, _ := only.net.last(t, up1); !s.up.long {
		t.Error("a datagram past the way")
	}
}

// Connections are few, end when nobody asks, and what is no DNS ends them.
func TestStreamBounds(t *testing.T) {
	r := newRig(t, up1)
	var open []*stream
	for range maxStreams {
		open = append(open, r.stream(t))
	}
	if _, err := r.DialTCP(t.Context()); egress.Classify(err) != egress.Refused {
		t.Errorf("one too many: %v", err)
	}
	open[0].Close()
	open[0] = r.stream(t)
	query := dnsQueryMsg(t, 1, "a.example.", dnsmessage.TypeA, 0)
	for name, b := range map[string][]byte{
		"nothing": {0, 0}, "too short": {0, 11}, "too long": {0xff, 0xff}, "an answer": framed(edit(query, func(b []byte) { b[2] |= 0x80 })),
	} {
		s := open[len(open)-1]
		open = open[:len(open)-1]
		if _, err := s.Write(b); !errors.Is(err, errFrame) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("%s: read %v", name, err)
		}
	}
	// Silence, and half a query, are idle; a question on its way is not.
	idle, half, asking, unread := open[0], open[1], open[2], open[3]
	half.Write(framed(query)[:9])
	unread.Write(framed(query))
	r.answerAll(t, 1)
	r.clock.advance(streamIdle - time.Second)
	asking.Write(framed(query))
	r.clock.advance(time.Second)
	for name, s := range map[string]*stream{"idle": idle, "half a query": half} {
		if n, err := s.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%s: %d, %v", name, n, err)
		}
		if _, err := s.Write([]byte{0}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: written after the end: %v", name, err)
		}
	}
	if _, err := unread.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("an answer that nobody reads: %v", err)
	}
	r.answerAll(t, 1)
	if m := readMessage(t, asking); m.ID != 1 {
		t.Errorf("%+v", m.Header)
	}
	// The resolver's end is theirs.
	r.Close()
	if _, err := asking.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := r.DialTCP(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// Who asks much and reads nothing is held up, and nobody else.
func TestStreamHoldsUp(t *testing.T) {
	r := newRig(t, up1)
	s := r.stream(t)
	var many [][]byte
	for i := range 3 * maxPipelined {
		many = append(many, dnsQueryMsg(t, uint16(i), fmt.Sprintf("n%d.example.", i), dnsmessage.TypeA, 0))
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := s.Write(framed(many...)); err != nil {
			t.Error(err)
		}
		s.CloseWrite()
	})
	waiting := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.asked
	}
	for waiting() < maxPipelined {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(10 * time.Millisecond)
	if n := waiting(); n != maxPipelined {
		t.Errorf("%d queries of one connection on their way", n)
	}
	if r.ask(dnsQueryMsg(t, 1, "other.example.", dnsmessage.TypeA, 0)); r.net.count(up1) != maxPipelined+1 {
		t.Error("others are held up")
	}
	answered := 0
	for answered < len(many) {
		r.mu.Lock()
		var todo [][]byte
		for _, k := range r.net.sockets {
			todo = append(todo, k.sent...)
			k.sent = nil
		}
		r.mu.Unlock()
		for _, m := range todo {
			r.mu.Lock()
			try := r.flight.byID[dnsID(m)]
			r.mu.Unlock()
			try.link.Receive([]egress.Message{{Payload: answerTo(t, m, dnsmessage.RCodeSuccess, 1)}})
		}
		for s.pending() > 0 {
			readMessage(t, s)
			answered++
		}
	}
	wg.Wait()
	// Close wakes who waits.
	s = r.stream(t)
	wg.Go(func() {
		if _, err := s.Write(framed(many...)); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	for {
		s.mu.Lock()
		n := s.asked
		s.mu.Unlock()
		if n == maxPipelined {
			break
		}
		time.Sleep(time.Millisecond)
	}
	s.Close()
	wg.Wait()
}

// Long answers that nobody reads end the connection before they are many, however
// many were asked for; the longest answer is not too many.
func TestStreamUnread(t *testing.T) {
	r := newRig(t, up1)
	s, reading := r.stream(t), r.stream(t)
	const records = 4094 // nearly all that an answer has room for
	var many [][]byte
	for i := range maxPipelined - 1 { // with one more, Write waits
		many = append(many, dnsQueryMsg(t, uint16(i), "a.example.", dnsmessage.TypeA, 0))
	}
	if _, err := s.Write(framed(many...)); err != nil {
		t.Fatal(err)
	}
	most, answers, size := 0, 0, 0
	for _, k := range r.net.sockets {
		for _, m := range k.sent {
			answer := answerTo(t, m, dnsmessage.RCodeSuccess, records)
			if size = len(answer); size < wholeAnswer-16 {
				t.Fatalf("an answer of %d bytes", size)
			}
			if k.receive(answer); s.pending() > 0 {
				most, answers = s.pending(), answers+1
			}
			if n := s.pending(); n > mostUnread {
				t.Fatalf("%d bytes are kept", n)
			}
		}
		k.sent = nil
	}
	if answers != mostUnread/(size+2) || most <= maxUnread {
		t.Errorf("%d answers, %d bytes, then the end", answers, most)
	}
	if n, err := s.Read(make([]byte, 1)); n != 0 || !errors.Is(err, errUnread) {
		t.Errorf("%d, %v", n, err)
	}
	if n := r.flight.queries; n != 0 {
		t.Errorf("%d queries left", n)
	}
	// Who reads has as many as it likes.
	for i := range 2 * mostUnread / size {
		reading.Write(framed(many[i]))
		r.answerAll(t, records)
		if m := readMessage(t, reading); len(m.Answers) != records {
			t.Fatalf("%d answers", len(m.Answers))
		}
	}
}

func (s *stream) pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.out)
}

// FuzzStream: whatever a client sends, and in whatever pieces, answers come as
// whole frames, no more of them than queries, and nothing is left behind.
func FuzzStream(f *testing.F) {
	query := dnsQueryMsg(f, 1, "www.example.com.", dnsmessage.TypeA, 1232)
	f.Add(framed(query, query), uint8(3))
	f.Add(framed(query)[:20], uint8(1))
	f.Add([]byte{0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, uint8(200))
	f.Add([]byte{0xff, 0xff, 1}, uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		b = b[:min(len(b), 2000)] // fewer queries than are held up
		r := newRig(t, up1)
		s := r.stream(t)
		for len(b) > 0 && s.pending() < maxUnread {
			s.mu.Lock()
			full := s.asked >= maxPipelined-1
			s.mu.Unlock()
			if full {
				break
			}
			n := min(len(b), int(size)+1)
			if _, err := s.Write(b[:n]); err != nil {
				break
			}
			b = b[n:]
		}
		s.CloseWrite()
		r.clock.advance(maxTries * tryTimeout)
		got, err := io.ReadAll(s)
		if err != nil && !errors.Is(err, errFrame) {
			t.Fatal(err)
		}
		for r := bytes.NewReader(got); r.Len() > 0; {
			if m := readFrame(t, r); len(m) < dnsHeaderLen || dnsFlags(m)&dnsQR == 0 {
				t.Fatalf("%x is no answer", m)
			}
		}
		r.clock.advance(time.Minute)
		if n := r.net.openSockets(); n != 0 || len(r.flight.byID) != 0 {
			t.Fatalf("%d sockets, %d ids left", n, len(r.flight.byID))
		}
	})
}

func readFrame(t testing.TB, r *bytes.Reader) []byte {
	var n [2]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint16(n[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	return b
}
