package resolver

import (
	"net/netip"
	"time"

	"rocserv/egress"
)

// teach notes what the client is about to be told by an answer to its query.
func (q *dnsQuery) teach(n *egress.Names, answer []byte) {
	if t := q.qtype(); t != typeA && t != typeAAAA || q.qclass() != classIN {
		return
	}
	name, ok := q.name()
	if !ok {
		return
	}
	eachAddress(answer, func(a netip.Addr, ttl uint32) { n.Learn(name, a, time.Duration(ttl)*time.Second) })
}

// name is the name asked for, in lower case and without a dot at the end; not
// ok if it has bytes that no name of a host has, which would be another name
// in a rule or in a proxy's log.
func (q *dnsQuery) name() (string, bool) {
	wire := q.question()
	b := make([]byte, 0, len(wire))
	for at := 0; wire[at] != 0; at += 1 + int(wire[at]) {
		if at > 0 {
			b = append(b, '.')
		}
		for _, c := range wire[at+1 : at+1+int(wire[at])] {
			if c <= ' ' || c >= 0x7f || c == '.' || c == ':' || c == '/' || c == '@' || c == '[' || c == ']' {
				return "", false
			}
			b = append(b, lower(c))
		}
	}
	return string(b), len(b) > 0
}

// text is the name asked for as it is looked up among zones and lists: in lower
// case, without a dot at the end, whatever bytes it has.
func (q *dnsQuery) text() string {
	wire := q.question()
	b := make([]byte, 0, len(wire))
	for at := 0; wire[at] != 0; at += 1 + int(wire[at]) {
		if at > 0 {
			b = append(b, '.')
		}
		for _, c := range wire[at+1 : at+1+int(wire[at])] {
			b = append(b, lower(c))
		}
	}
	return string(b)
}
