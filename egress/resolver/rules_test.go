package resolver

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"rocserv/egress"
	"rocserv/internal/blocklist"
)

func blockSet(names ...string) blocklist.Set {
	b := new(blocklist.Builder)
	for _, n := range names {
		b.Add(n)
	}
	return b.Set()
}

func TestBlock(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		want := map[bool]dnsmessage.RCode{false: dnsmessage.RCodeNameError, true: dnsmessage.RCodeRefused}[refuse]
		r := newRigOf(t, Config{Servers: plain(up1), Rules: Rules{Block: blockSet("ads.example", "zip"), Refuse: refuse}})
		for i, name := range []string{"ads.example.", "x.Y.ADS.example.", "zip.", "a.zip."} {
			for _, typ := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA, 65} {
				m := mustParse(t, *r.ask(dnsQueryMsg(t, uint16(i), name, typ, 1232)))
				if m.RCode != want || m.ID != uint16(i) || len(m.Answers) != 0 || len(m.Questions) != 1 {
					t.Errorf("%s: %+v", name, m)
				}
			}
		}
		for _, name := range []string{"ads.example.net.", "loads.example.", "example.", "."} {
			before := r.net.count(up1)
			if r.ask(dnsQueryMsg(t, 1, name, dnsmessage.TypeA, 0)); r.net.count(up1) != before+1 {
				t.Errorf("%s was not forwarded", name)
			}
		}
		if s := r.Stats(); s.Blocked != 12 || s.Queries != 16 {
			t.Errorf("%+v", s)
		}
	}
}

// svcbRecord is an HTTPS record with hints, for a client that asked for it.
func svcbRecord(hints ...string) dnsmessage.Resource {
	data := []byte{0, 1, 0} // priority 1, the name itself
	for _, h := range hints {
		a := netip.MustParseAddr(h)
		key := uint16(ipv4Hint)
		if a.Is6() {
			key = ipv6Hint
		}
		data = binary.BigEndian.AppendUint16(data, key)
		data = binary.BigEndian.AppendUint16(data, uint16(len(a.AsSlice())))
		data = append(data, a.AsSlice()...)
	}
	return dnsmessage.Resource{Header: header("www.example.", 60), Body: &dnsmessage.UnknownResource{Type: typeHTTPS, Data: data}}
}

func record6(a string) dnsmessage.Resource {
	return dnsmessage.Resource{Header: header("www.example.", 60), Body: &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(a).As16()}}
}

func record4(a string) dnsmessage.Resource {
	return addressRecord("www.example.", 60, netip.MustParseAddr(a).As4())
}

// A public name leads to public addresses or to none.
func TestGuard(t *testing.T) {
	type answers []dnsmessage.Resource
	const name = "www.example."
	for what, tt := range map[string]struct {
		name    string
		answers answers
		want    bool // it is told
	}{
		"public":                   {name, answers{record4("8.8.8.8"), record6("2606:4700::1"), svcbRecord("8.8.8.8", "2606:4700::1")}, true},
		"documentation":            {name, answers{record4("192.0.2.1"), record6("2001:db8::1")}, true},
		"RFC 1918":                 {name, answers{record4("10.0.0.1")}, false},
		"one of several":           {name, answers{record4("8.8.8.8"), record4("192.168.1.1")}, false},
		"loopback":                 {name, answers{record4("127.0.0.1")}, false},
		"link-local":               {name, answers{record4("169.254.169.254")}, false},
		"shared":                   {name, answers{record4("100.64.0.1")}, false},
		"nothing":                  {name, answers{record4("0.0.0.0")}, false},
		"loopback 6":               {name, answers{record6("::1")}, false},
		"unique local":             {name, answers{record6("fd00::1")}, false},
		"mapped":                   {name, answers{record6("::ffff:10.0.0.1")}, false},
		"by NAT64":                 {name, answers{record6("64:ff9b::10.0.0.1")}, false},
		"by NAT64 to the public":   {name, answers{record6("64:ff9b::8.8.8.8")}, true},
		"by 6to4":                  {name, answers{record6("2002:a00:1::1")}, false},
		"a hint":                   {name, answers{svcbRecord("8.8.8.8", "10.0.0.1")}, false},
		"a hint 6":                 {name, answers{svcbRecord("fd00::1")}, false},
		"by an alias":              {name, answers{aliasRecord(name, 60, "inside.corp.example."), addressRecord("inside.corp.example.", 60, [4]byte{10, 0, 0, 1})}, false},
		"a zone with a server":     {"www.corp.example.", answers{record4("10.0.0.1")}, true},
		"the zone itself":          {"CORP.example.", answers{record4("10.0.0.1")}, true},
		"like the zone":            {"www.notcorp.example.", answers{record4("10.0.0.1")}, false},
		"one label":                {"printer.", answers{record4("10.0.0.1")}, true},
		"nobody's top domain":      {"nas.home.arpa.", answers{record4("10.0.0.1")}, true},
		"nobody's top domain, too": {"db.internal.", answers{record4("10.0.0.1")}, true},
	} {
		t.Run(what, func(t *testing.T) {
			r := newRigOf(t, Config{Servers: plain(up1), Cache: cacheSize, Rules: Rules{Guard: true, GuardExcept: []string{"corp.example"}}})
			for range 2 { // from memory, too
				got := r.ask(dnsQueryMsg(t, 5, tt.name, dnsmessage.TypeA, 1232))
				if *got == nil {
					s, sent := r.net.last(t, up1)
					s.receive(records{answers: tt.answers}.to(t, sent))
				}
				m := mustParse(t, *got)
				if told := len(m.Answers) == len(tt.answers); told != tt.want || !told && (len(m.Answers) != 0 || m.RCode != dnsmessage.RCodeSuccess) || m.ID != 5 {
					t.Errorf("told %v: %+v", told, m)
				}
			}
			if n := r.Stats().Withheld; (n == 0) != tt.want {
				t.Errorf("%d withheld", n)
			}
		})
	}
	// What the configuration names is its own affair.
	r := newRigOf(t, Config{Servers: plain(up1), Rules: Rules{Guard: true, Block: blockSet("example")}})
	done := make(chan struct{})
	go func() {
		defer close(done)
		if a, err := r.Lookup(t.Context(), "proxy.example"); err != nil || len(a) != 2 {
			t.Errorf("%v, %v", a, err)
		}
	}()
	for answered := 0; answered < 2; {
		r.mu.Lock()
		var pending [][]byte
		var at []*fakeSocket
		for _, s := range r.net.sockets {
			for _, m := range s.sent {
				pending, at = append(pending, m), append(at, s)
			}
			s.sent = nil
		}
		r.mu.Unlock()
		for i, m := range pending {
			at[i].receive(answerTo(t, m, dnsmessage.RCodeSuccess, 1))
			answered++
		}
	}
	<-done
}

// rawAnswer is an answer to an A query with a record as it stands here.
func rawAnswer(t testing.TB, query []byte, flags uint16, typ, class uint16, length int, data []byte) []byte {
	t.Helper()
	q, err := parseDNSQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	b := append([]byte{}, query[:q.questionEnd]...)
	binary.BigEndian.PutUint16(b[2:], dnsQR|flags)
	copy(b[6:], []byte{0, 1, 0, 0, 0, 0})
	b = append(b, 0xc0, dnsHeaderLen)
	b = binary.BigEndian.AppendUint16(b, typ)
	b = binary.BigEndian.AppendUint16(b, class)
	b = binary.BigEndian.AppendUint32(b, 60)
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	return append(b, data...)
}

// An answer is told only if the guard reads of it what a client may.
func TestGuardOfBrokenAnswers(t *testing.T) {
	six := netip.MustParseAddr("fd00::1").AsSlice()
	for what, tt := range map[string]struct {
		typ, class uint16
		length     int
		data       []byte
		told       bool
	}{
		"whole":                        {typeA, classIN, 4, []byte{8, 8, 8, 8}, true},
		"bytes behind it":              {typeA, classIN, 4, []byte{8, 8, 8, 8, 9}, true},
		"longer than the message":      {typeA, classIN, 5, []byte{10, 0, 0, 1}, false},
		"A of five bytes":              {typeA, classIN, 5, []byte{10, 0, 0, 1, 0}, false},
		"A of two, with two behind it": {typeA, classIN, 2, []byte{10, 0, 0, 1}, false},
		"A of sixteen":                 {typeA, classIN, 16, make([]byte, 16), false},
		"AAAA of four":                 {typeAAAA, classIN, 4, []byte{8, 8, 8, 8}, false},
		"AAAA of seventeen":            {typeAAAA, classIN, 17, append(six, 0), false},
		"another class":                {typeA, 3, 4, []byte{10, 0, 0, 1}, false},
		"HTTPS without a name":         {typeHTTPS, classIN, 2, []byte{0, 1}, false},
		"HTTPS that ends early":        {typeHTTPS, classIN, 8, []byte{0, 1, 0, 0, ipv4Hint, 0, 4, 10}, false},
		"HTTPS with half a hint":       {typeHTTPS, classIN, 9, []byte{0, 1, 0, 0, ipv4Hint, 0, 2, 10, 0}, false},
		"HTTPS with a byte too many":   {typeHTTPS, classIN, 4, []byte{0, 1, 0, 10}, false},
	} {
		for flags, how := range map[uint16]string{0: "", dnsTC: ", cut"} {
			r := newRigOf(t, Config{Servers: plain(up1), Rules: Rules{Guard: true}})
			got := r.ask(dnsQueryMsg(t, 5, "www.example.", dnsmessage.TypeA, 1232))
			s, sent := r.net.last(t, up1)
			s.receive(rawAnswer(t, sent, flags, tt.typ, tt.class, tt.length, tt.data))
			var p dnsmessage.Parser
			h, err := p.Start(*got)
			if err != nil {
				t.Fatal(err)
			}
			records := dnsCount(*got, 1)
			switch withheld := r.Stats().Withheld; {
			case flags == dnsTC:
				if !h.Truncated || records != 0 || withheld != 0 {
					t.Errorf("%s%s: %+v with %d records, %d withheld", what, how, h, records, withheld)
				}
			case h.Truncated || records != map[bool]int{true: 1}[tt.told] || (withheld == 0) != tt.told:
				t.Errorf("%s: %+v with %d records, %d withheld", what, h, records, withheld)
			}
		}
	}
	// Where the guard does not apply, what is cut comes as it is.
	r := newRigOf(t, Config{Servers: plain(up1), Rules: Rules{Guard: true, GuardExcept: []string{"example"}}})
	got := r.ask(dnsQueryMsg(t, 5, "www.example.", dnsmessage.TypeA, 1232))
	s, sent := r.net.last(t, up1)
	s.receive(rawAnswer(t, sent, dnsTC, typeA, classIN, 4, []byte{10, 0, 0, 1}))
	if dnsCount(*got, 1) != 1 {
		t.Errorf("an exempt name has %d records", dnsCount(*got, 1))
	}
}

// FuzzGuard: an answer's records are read to their end and not beyond.
func FuzzGuard(f *testing.F) {
	query := dnsQueryMsg(f, 1, "www.example.", dnsmessage.TypeA, 1232)
	f.Add(records{answers: []dnsmessage.Resource{svcbRecord("8.8.8.8", "fd00::1")}}.to(f, query))
	f.Add(records{answers: []dnsmessage.Resource{record4("10.0.0.1")}}.to(f, query))
	f.Fuzz(func(t *testing.T, msg []byte) {
		q, err := parseDNSQuery(query)
		if err != nil || !q.answers(msg) {
			return
		}
		if rules := (Rules{Guard: true}); !rules.guards(&q) {
			t.Fatal("the guard does not apply")
		}
		if leads(msg) {
			return
		}
		// What is told and can be read has no private address in it.
		for _, section := range mustParseOrNothing(msg) {
			switch b := section.Body.(type) {
			case *dnsmessage.AResource:
				if egress.Private(netip.AddrFrom4(b.A)) {
					t.Fatalf("%v is told", b.A)
				}
			case *dnsmessage.AAAAResource:
				if egress.Private(netip.AddrFrom16(b.AAAA)) {
					t.Fatalf("%v is told", b.AAAA)
				}
			}
		}
	})
}

func mustParseOrNothing(msg []byte) []dnsmessage.Resource {
	var m dnsmessage.Message
	if m.Unpack(msg) != nil {
		return nil
	}
	return append(append(m.Answers, m.Authorities...), m.Additionals...)
}

// Names of a zone are asked of its servers and of no others, whatever happens.
func TestZones(t *testing.T) {
	r := newRigOf(t, Config{Servers: plain(up1), Cache: cacheSize, Zones: []Zone{
		{Names: []string{"corp.example", "10.in-addr.arpa"}, Servers: plain(up2)},
		{Names: []string{"lab.corp.example"}, Servers: plain(up3)},
	}})
	for name, want := range map[string]netip.AddrPort{
		"www.example.": up1, "example.": up1, ".": up1, "notcorp.example.": up1,
		"corp.example.": up2, "A.Corp.Example.": up2, "1.0.0.10.in-addr.arpa.": up2,
		"lab.corp.example.": up3, "x.y.lab.corp.example.": up3, "1.0.0.11.in-addr.arpa.": up1,
	} {
		before := map[netip.AddrPort]int{up1: r.net.count(up1), up2: r.net.count(up2), up3: r.net.count(up3)}
		got := r.ask(dnsQueryMsg(t, 1, name, dnsmessage.TypeA, 0))
		r.clock.advance(maxTries * tryTimeout) // nobody answers
		for a, n := range before {
			if asked := r.net.count(a) - n; asked != map[bool]int{true: maxTries, false: 0}[a == want] {
				t.Errorf("%s: %v was asked %d times", name, a, asked)
			}
		}
		if m := mustParse(t, *got); m.RCode != dnsmessage.RCodeServerFailure {
			t.Errorf("%s: %+v", name, m.Header)
		}
	}
	r.clock.advance(3 * socketLife)
	if n := r.net.openSockets(); n != 0 {
		t.Errorf("%d sockets left", n)
	}
}
