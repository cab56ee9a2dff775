package resolver

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const cacheSize = 64 << 10

func newCacheRig(t testing.TB) *resolverRig {
	return newRigOf(t, Config{Servers: plain(up1), Cache: cacheSize})
}

// records are those of an answer, section by section.
type records struct {
	rcode       dnsmessage.RCode
	answers     []dnsmessage.Resource
	authorities []dnsmessage.Resource
	additionals []dnsmessage.Resource
}

func (r records) to(t testing.TB, query []byte) []byte {
	t.Helper()
	m := mustParse(t, query)
	m.Response, m.RecursionAvailable, m.Authoritative, m.RCode = true, true, true, r.rcode
	m.Answers, m.Authorities, m.Additionals = r.answers, r.authorities, r.additionals
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func header(name string, ttl uint32) dnsmessage.ResourceHeader {
	return dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: ttl}
}

func addressRecord(name string, ttl uint32, a [4]byte) dnsmessage.Resource {
	return dnsmessage.Resource{Header: header(name, ttl), Body: &dnsmessage.AResource{A: a}}
}

func aliasRecord(name string, ttl uint32, to string) dnsmessage.Resource {
	return dnsmessage.Resource{Header: header(name, ttl), Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(to)}}
}

func soaRecord(ttl, minimum uint32) dnsmessage.Resource {
	return dnsmessage.Resource{Header: header("example.", ttl), Body: &dnsmessage.SOAResource{
		NS: dnsmessage.MustNewName("ns.example."), MBox: dnsmessage.MustNewName("root.example."), MinTTL: minimum}}
}

func optRecord(extended uint8) dnsmessage.Resource {
	h := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("."), Class: 1232, TTL: uint32(extended) << 24}
	return dnsmessage.Resource{Header: h, Body: &dnsmessage.OPTResource{Options: []dnsmessage.Option{{Code: 10, Data: []byte("serverscookie___")}}}}
}

// What a server has answered is given again as long as it has said, with less
// and less of it left; what it must not be kept is asked again.
func TestCacheTimes(t *testing.T) {
	a, other := [4]byte{192, 0, 2, 1}, [4]byte{192, 0, 2, 2}
	const name = "www.example."
	for what, tt := range map[string]struct {
		records
		want time.Duration
	}{
		"one":                   {records{answers: []dnsmessage.Resource{addressRecord(name, 60, a)}}, time.Minute},
		"the shortest counts":   {records{answers: []dnsmessage.Resource{addressRecord(name, 60, a), addressRecord(name, 20, other)}}, 20 * time.Second},
		"of an alias too":       {records{answers: []dnsmessage.Resource{aliasRecord(name, 10, "x.example."), addressRecord("x.example.", 60, a)}}, 10 * time.Second},
		"with an OPT record":    {records{answers: []dnsmessage.Resource{addressRecord(name, 60, a)}, additionals: []dnsmessage.Resource{optRecord(0)}}, time.Minute},
		"OPT before another":    {records{answers: []dnsmessage.Resource{addressRecord(name, 60, a)}, additionals: []dnsmessage.Resource{optRecord(0), addressRecord("x.example.", 60, a)}}, 0},
		"an extended code":      {records{answers: []dnsmessage.Resource{addressRecord(name, 60, a)}, additionals: []dnsmessage.Resource{optRecord(1)}}, 0},
		"no time":               {records{answers: []dnsmessage.Resource{addressRecord(name, 0, a)}}, 0},
		"a negative time":       {records{answers: []dnsmessage.Resource{addressRecord(name, 1<<31, a)}}, 0},
		"forever":               {records{answers: []dnsmessage.Resource{addressRecord(name, 1<<31-1, a)}}, maxTTL},
		"no such name":          {records{rcode: 3, authorities: []dnsmessage.Resource{soaRecord(60, 30)}}, 30 * time.Second},
		"no such name, its TTL": {records{rcode: 3, authorities: []dnsmessage.Resource{soaRecord(15, 30)}}, 15 * time.Second},
		"no such name, forever": {records{rcode: 3, authorities: []dnsmessage.Resource{soaRecord(1<<30, 1<<30)}}, maxNegativeTTL},
		"no such name, no SOA":  {records{rcode: 3}, 0},
		"no data":               {records{authorities: []dnsmessage.Resource{soaRecord(60, 30)}}, 30 * time.Second},
		"no data, no SOA":       {records{}, 0},
		"an alias to no data":   {records{answers: []dnsmessage.Resource{aliasRecord(name, 10, "x.example.")}, authorities: []dnsmessage.Resource{soaRecord(60, 30)}}, 10 * time.Second},
		"a failure":             {records{rcode: 2, authorities: []dnsmessage.Resource{soaRecord(60, 30)}}, 0},
	} {
		t.Run(what, func(t *testing.T) {
			r := newCacheRig(t)
			r.ask(withoutDO(dnsQueryMsg(t, 1, name, dnsmessage.TypeA, 1232)))
			s, sent := r.net.last(t, up1)
			s.receive(tt.to(t, sent))
			left := tt.want
			if tt.want > 0 {
				passed := tt.want - 5*time.Second
				r.clock.advance(passed)
				got := r.ask(dnsQueryMsg(t, 2, "WWW.example.", dnsmessage.TypeA, 0))
				if *got == nil {
					t.Fatal("asked again")
				}
				m := mustParse(t, *got)
				if m.ID != 2 || m.Authoritative || m.RCode != tt.rcode || len(m.Answers) != len(tt.answers) || m.Questions[0].Name.String() != "WWW.example." || len(m.Additionals) != 0 {
					t.Errorf("%+v", m)
				}
				for i, rec := range m.Answers {
					if want := tt.answers[i].Header.TTL - uint32(passed/time.Second); rec.Header.TTL != want {
						t.Errorf("TTL %d, want %d", rec.Header.TTL, want)
					}
				}
				if m := mustParse(t, *r.ask(withoutDO(dnsQueryMsg(t, 3, name, dnsmessage.TypeA, 1232)))); len(m.Additionals) != 1 || len(m.Additionals[0].Body.(*dnsmessage.OPTResource).Options) != 0 {
					t.Errorf("EDNS is not answered with EDNS, or with another's cookie: %+v", m.Additionals)
				}
				left = 5 * time.Second
			}
			r.clock.advance(left)
			before := r.net.count(up1)
			if r.ask(dnsQueryMsg(t, 4, name, dnsmessage.TypeA, 0)); r.net.count(up1) != before+1 {
				t.Error("it is answered longer than the server has said")
			}
		})
	}
}

// withoutDO is a query of dnsQueryMsg's, with EDNS, that wants no signatures.
func withoutDO(query []byte) []byte {
	return edit(query, func(b []byte) { b[len(b)-11-12+7] &^= 0x80 })
}

// Questions that are not the same have answers of their own, or none is kept.
func TestCacheKeys(t *testing.T) {
	base := dnsQueryMsg(t, 1, "www.example.", dnsmessage.TypeA, 1232)
	opt := len(base) - 11 - 12
	for what, tt := range map[string]struct {
		query        []byte
		shared, kept bool
	}{
		"the same":            {base, true, true},
		"other letters":       {dnsQueryMsg(t, 1, "wWw.EXAMPLE.", dnsmessage.TypeA, 1232), true, true},
		"another size":        {dnsQueryMsg(t, 1, "www.example.", dnsmessage.TypeA, 4096), true, true},
		"another type":        {dnsQueryMsg(t, 1, "www.example.", dnsmessage.TypeAAAA, 1232), false, true},
		"another name":        {dnsQueryMsg(t, 1, "vww.example.", dnsmessage.TypeA, 1232), false, true},
		"without EDNS and DO": {dnsQueryMsg(t, 1, "www.example.", dnsmessage.TypeA, 0), false, true},
		"checking disabled":   {edit(base, func(b []byte) { b[3] |= 0x10 }), false, true},
		"asking for AD":       {edit(base, func(b []byte) { b[3] |= 0x20 }), false, true},
		"not recursive":       {edit(base, func(b []byte) { b[2] &^= 1 }), false, false},
		"another class":       {edit(base, func(b []byte) { b[opt-1] = 3 }), false, false},
		"everything":          {dnsQueryMsg(t, 1, "www.example.", dnsmessage.TypeALL, 1232), false, false},
		"for a network":       {edit(base, func(b []byte) { b[opt+12] = 8 }), false, false}, // RFC 7871
		"another version":     {edit(base, func(b []byte) { b[opt+6] = 1 }), false, false},
	} {
		t.Run(what, func(t *testing.T) {
			r := newCacheRig(t)
			answer := func() {
				s, sent := r.net.last(t, up1)
				q, _ := parseDNSQuery(sent)
				m := answerTo(t, sent, dnsmessage.RCodeSuccess, 1)
				setAnswerType(m, q.qtype())
				s.receive(m)
			}
			r.ask(base)
			answer()
			r.ask(tt.query)
			if asked := r.net.count(up1) - 1; asked != map[bool]int{true: 0, false: 1}[tt.shared] {
				t.Fatalf("asked %d times", asked)
			}
			answer()
			before := r.net.count(up1)
			r.ask(tt.query)
			if again := r.net.count(up1) != before; again == tt.kept {
				t.Errorf("asked again: %v", again)
			}
		})
	}
}

// setAnswerType makes the first record, which answerTo has made, one of the type.
func setAnswerType(msg []byte, typ uint16) {
	end, _ := questionEnd(msg)
	at, _ := skipName(msg, end)
	msg[at], msg[at+1] = byte(typ>>8), byte(typ)
}

// However many names are asked for, what is kept is bounded, the oldest go
// first, and a change of servers forgets all.
func TestCacheBound(t *testing.T) {
	r := newCacheRig(t)
	ask := func(i int) bool {
		before := r.net.count(up1)
		got := r.ask(dnsQueryMsg(t, 1, fmt.Sprintf("n%d.example.", i), dnsmessage.TypeA, 0))
		if *got != nil {
			return true
		}
		if r.net.count(up1) != before+1 {
			t.Fatal("neither answered nor asked")
		}
		s, sent := r.net.last(t, up1)
		s.receive(answerTo(t, sent, dnsmessage.RCodeSuccess, 1))
		return false
	}
	for i := range 2000 {
		ask(i)
		if c := &r.cache; c.used > cacheSize || c.order.Len() != len(c.byKey) {
			t.Fatalf("%d bytes in %d entries, %d in the list", c.used, len(c.byKey), c.order.Len())
		}
		if !ask(0) {
			t.Fatalf("what is asked for all the time is forgotten (%d)", i)
		}
	}
	if ask(1) || !ask(1999) {
		t.Error("not the oldest are forgotten")
	}
	if n := len(r.cache.byKey); n < 100 || n > cacheSize/entryCost {
		t.Errorf("%d entries in %d bytes", n, cacheSize)
	}
	r.SetServers(plain(up2))
	if r.cache.used != 0 || len(r.cache.byKey) != 0 {
		t.Error("other servers, the same answers")
	}
	// Who takes less than was kept gets less.
	r = newCacheRig(t)
	r.askLimit(dnsQueryMsg(t, 1, "long.example.", dnsmessage.TypeA, 4096), 4096)
	s, sent := r.net.last(t, up1)
	s.receive(answerTo(t, sent, dnsmessage.RCodeSuccess, 60))
	if m := mustParse(t, *r.askLimit(dnsQueryMsg(t, 2, "long.example.", dnsmessage.TypeA, 600), 4096)); !m.Truncated || len(m.Answers) != 0 {
		t.Errorf("%+v", m.Header)
	}
}

// What a server says that is not asked any more is told, and not remembered: others
// are asked instead.
func TestCacheForgetsReplacedServers(t *testing.T) {
	r := newCacheRig(t)
	query := dnsQueryMsg(t, 1, "www.example.", dnsmessage.TypeA, 0)
	got := r.ask(query)
	s, sent := r.net.last(t, up1)
	r.SetServers(plain(up2))
	s.receive(answerTo(t, sent, dnsmessage.RCodeSuccess, 1))
	if *got == nil {
		t.Fatal("the late answer is not told")
	}
	if r.ask(query); r.net.count(up2) != 1 {
		t.Fatal("the new server is not asked")
	}
	s, sent = r.net.last(t, up2)
	s.receive(answerTo(t, sent, dnsmessage.RCodeSuccess, 2))
	got = r.ask(query)
	if *got == nil || len(mustParse(t, *got).Answers) != 2 {
		t.Error("what the new server says is not remembered")
	}
}

// FuzzCache: whatever a server answers, what is given again is as long, has the
// same records and this client's id, and never grows older than it may.
func FuzzCache(f *testing.F) {
	query := dnsQueryMsg(f, 1, "www.example.", dnsmessage.TypeA, 1232)
	f.Add(query, answerTo(f, query, dnsmessage.RCodeSuccess, 3), uint16(30))
	f.Add(query, records{rcode: 3, authorities: []dnsmessage.Resource{soaRecord(60, 30)}, additionals: []dnsmessage.Resource{optRecord(0)}}.to(f, query), uint16(7))
	f.Fuzz(func(t *testing.T, query, answer []byte, seconds uint16) {
		q, err := parseDNSQuery(query)
		if err != nil || !q.answers(answer) {
			return
		}
		c := newCache(cacheSize)
		now := time.Unix(1000, 0)
		c.put(&q, bytes.Clone(answer), now)
		if c.used > cacheSize {
			t.Fatalf("%d bytes", c.used)
		}
		got := c.get(&q, now.Add(time.Duration(seconds)*time.Second))
		if got == nil {
			return
		}
		end, ok := questionEnd(got)
		if !ok || dnsID(got) != dnsID(query) || dnsFlags(got)&dnsQR == 0 || !q.answers(got) || !eachRecord(got, end, func(*record) bool { return true }) {
			t.Fatalf("%x was kept as %x", answer, got)
		}
		for i := 1; i <= 2; i++ {
			if dnsCount(got, i) != dnsCount(answer, i) {
				t.Fatalf("%d records of section %d, of %d", dnsCount(got, i), i, dnsCount(answer, i))
			}
		}
		c.clear()
		if c.used != 0 || c.get(&q, now) != nil {
			t.Fatal("not forgotten")
		}
	})
}
