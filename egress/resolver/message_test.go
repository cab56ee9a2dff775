package resolver

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func TestResolverLocal(t *testing.T) {
	r := newRig(t, up1)
	r.SetAAAAFilter(true)
	m := mustParse(t, *r.ask(dnsQueryMsg(t, 3, "six.example.", dnsmessage.TypeAAAA, 4096)))
	if m.ID != 3 || m.RCode != dnsmessage.RCodeSuccess || !m.Response || len(m.Answers) != 0 || len(m.Questions) != 1 ||
		m.Questions[0].Name.String() != "six.example." {
		t.Errorf("filtered AAAA: %+v", m)
	}
	if len(m.Additionals) != 1 || m.Additionals[0].Header.Class != ourDNSUDP || !m.Additionals[0].Header.DNSSECAllowed() {
		t.Errorf("its OPT record: %+v", m.Additionals)
	}
	if m := mustParse(t, *r.ask(dnsQueryMsg(t, 3, "six.example.", dnsmessage.TypeAAAA, 0))); len(m.Additionals) != 0 {
		t.Errorf("an OPT record nobody asked for: %+v", m.Additionals)
	}
	if got := r.ask(dnsQueryMsg(t, 4, "four.example.", dnsmessage.TypeA, 0)); *got != nil || r.net.count(up1) != 1 {
		t.Error("an A query was not forwarded")
	}
	r.SetAAAAFilter(false)
	if got := r.ask(dnsQueryMsg(t, 5, "six.example.", dnsmessage.TypeAAAA, 0)); *got != nil || r.net.count(up1) != 2 {
		t.Error("an AAAA query was not forwarded")
	}

	query := dnsQueryMsg(t, 0x4242, "x.example.", dnsmessage.TypeA, 1232)
	opt := len(query) - 11 - 12
	for name, tt := range map[string]struct {
		msg  []byte
		want dnsmessage.RCode
	}{
		"update":            {edit(query, func(b []byte) { b[2] |= 5 << 3 }), dnsmessage.RCodeNotImplemented},
		"two questions":     {edit(query, func(b []byte) { b[5] = 2 }), dnsmessage.RCodeFormatError},
		"no question":       {edit(query, func(b []byte) { b[5] = 0 }), dnsmessage.RCodeFormatError},
		"compressed name":   {edit(query, func(b []byte) { b[12] = 0xc0 }), dnsmessage.RCodeFormatError},
		"cut question":      {query[:16], dnsmessage.RCodeFormatError},
		"cut record":        {query[:len(query)-1], dnsmessage.RCodeFormatError},
		"record missing":    {edit(query, func(b []byte) { b[11] = 9 }), dnsmessage.RCodeFormatError},
		"two OPT records":   {edit(append(query, query[opt:]...), func(b []byte) { b[11] = 2 }), dnsmessage.RCodeFormatError},
		"too long":          {append(slices.Clone(query), make([]byte, maxDNSQuery)...), dnsmessage.RCodeFormatError},
		"name far too long": {longName(), dnsmessage.RCodeFormatError},
	} {
		got := *r.ask(tt.msg)
		var p dnsmessage.Parser
		if h, err := p.Start(got); err != nil || h.RCode != tt.want || h.ID != dnsID(tt.msg) || !h.Response {
			t.Errorf("%s: %+v, %v; want %v", name, h, err, tt.want)
		}
	}
	for name, msg := range map[string][]byte{"short": query[:11], "an answer": answerTo(t, query, 0, 1), "nothing": {}} {
		if got := r.ask(msg); *got != nil {
			t.Errorf("%s was answered", name)
		}
	}
	if n := r.net.count(up1); n != 2 {
		t.Errorf("%d queries forwarded, want 2", n)
	}
}

func longName() []byte {
	b := []byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for range 5 {
		b = append(append(b, 63), strings.Repeat("x", 63)...)
	}
	return append(b, 0, 0, 1, 0, 1)
}

func TestResolverLimits(t *testing.T) {
	tests := []struct {
		name      string
		udpSize   int // 0: no EDNS
		transport int
		forwarded int // size in the OPT record sent on
		records   int // each of 16 bytes, compressed
		truncated bool
	}{
		{"no EDNS, fits", 0, 1400, 0, 20, false},
		{"no EDNS, too long", 0, 1400, 0, 40, true},
		{"EDNS, fits", 1232, 1400, 1232, 60, false},
		{"EDNS, too long", 1232, 1400, 1232, 90, true},
		{"the tunnel carries less", 4096, 1000, 1000, 50, false},
		{"the tunnel carries less, too long", 4096, 1000, 1000, 70, true},
		{"EDNS says less than all take", 100, 1400, 100, 20, false},
		{"the tunnel carries less than all take", 0, 400, 0, 30, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, up1)
			got := r.askLimit(dnsQueryMsg(t, 8, "limit.example.", dnsmessage.TypeA, tt.udpSize), tt.transport)
			s, sent := r.net.last(t, up1)
			q, err := parseDNSQuery(sent)
			if err != nil {
				t.Fatal(err)
			}
			size := 0
			if q.opt != 0 {
				size = int(binary.BigEndian.Uint16(sent[q.opt:]))
			}
			if size != tt.forwarded {
				t.Errorf("forwarded with size %d, want %d", size, tt.forwarded)
			}
			answer := answerTo(t, sent, dnsmessage.RCodeSuccess, tt.records)
			s.receive(bytes.Clone(answer))
			m := mustParse(t, *got)
			if m.Truncated != tt.truncated || m.ID != 8 || m.RCode != dnsmessage.RCodeSuccess {
				t.Errorf("%+v, want truncated %v", m.Header, tt.truncated)
			}
			if want := map[bool]int{true: 0, false: tt.records}[tt.truncated]; len(m.Answers) != want || len(m.Questions) != 1 {
				t.Errorf("%d answers, want %d", len(m.Answers), want)
			}
			if len(*got) > min(max(512, tt.udpSize), tt.transport) {
				t.Errorf("%d bytes", len(*got))
			}
		})
	}
	// What is signed is not touched.
	r := newRig(t, up1)
	signed := dnsQueryMsg(t, 1, "s.example.", dnsmessage.TypeA, 4096)
	signed[11] = 2
	signed = append(signed, 0, 0, typeTSIG, 0, 255, 0, 0, 0, 0, 0, 3, 'm', 'a', 'c')
	r.askLimit(signed, 1000)
	if _, sent := r.net.last(t, up1); !bytes.Equal(sent[2:], signed[2:]) {
		t.Error("a signed query was changed")
	}
}

// FuzzDNSQuery: what a client sends as DNS. Whatever is answered is a message
// with its id, and within the limit.
func FuzzDNSQuery(f *testing.F) {
	f.Add(dnsQueryMsg(f, 1, "www.example.com.", dnsmessage.TypeA, 0), []byte{}, uint16(1400))
	f.Add(dnsQueryMsg(f, 2, "www.example.com.", dnsmessage.TypeAAAA, 4096), []byte{}, uint16(500))
	query := dnsQueryMsg(f, 3, "x.example.", dnsmessage.TypeTXT, 1232)
	f.Add(query, answerTo(f, query, dnsmessage.RCodeSuccess, 90), uint16(1000))
	f.Add(longName(), []byte{}, uint16(0))
	f.Fuzz(func(t *testing.T, msg, answer []byte, limit uint16) {
		r := newRig(t, up1)
		r.SetAAAAFilter(len(answer)%2 == 0)
		limit = max(limit, minDNSUDP)
		var got []byte
		r.Query(msg, int(limit), func(b []byte) { got = bytes.Clone(b) })
		for _, s := range r.net.sockets {
			for _, sent := range s.sent {
				if len(sent) != len(msg) {
					t.Fatalf("forwarded %d bytes of %d", len(sent), len(msg))
				}
				s.receive(bytes.Clone(answer))
				if len(answer) >= 2 {
					b := bytes.Clone(answer)
					setDNSID(b, dnsID(sent))
					s.receive(b)
				}
			}
		}
		r.clock.advance(time.Minute)
		switch {
		case len(msg) < dnsHeaderLen || dnsFlags(msg)&dnsQR != 0:
			if got != nil {
				t.Fatalf("answered %x", got)
			}
		case got == nil:
			t.Fatal("not answered")
		case dnsID(got) != dnsID(msg) || dnsFlags(got)&dnsQR == 0 || len(got) > int(limit):
			t.Fatalf("answer %x, %d bytes of %d", got, len(got), limit)
		}
		if n := r.net.openSockets(); n != 0 || len(r.flight.byID) != 0 {
			t.Fatalf("%d sockets, %d ids left", n, len(r.flight.byID))
		}
	})
}
