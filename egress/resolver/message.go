package resolver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
)

// DNS messages, RFC 1035 section 4.1: read as far as a forwarder must, and no
// further. What lies behind the question is the client's and the upstream's.

const (
	dnsHeaderLen = 12
	maxDNSName   = 255     // RFC 1035 section 2.3.4
	maxDNSQuery  = 4 << 10 // bytes; queries are far shorter
	minDNSUDP    = 512     // RFC 1035 section 2.3.4: what every client takes
	ourDNSUDP    = 1232    // what our own OPT records offer, as RFC 9715 recommends

	dnsQR     = 1 << 15 // flags
	dnsOpcode = 15 << 11
	dnsAA     = 1 << 10
	dnsTC     = 1 << 9
	dnsRD     = 1 << 8
	dnsRA     = 1 << 7
	dnsAD     = 1 << 5
	dnsCD     = 1 << 4
	dnsRcode  = 15

	rcodeSuccess  = 0
	rcodeFormat   = 1
	rcodeServFail = 2
	rcodeNXDomain = 3
	rcodeNotImpl  = 4
	rcodeRefused  = 5

	typeA     = 1
	typeSOA   = 6
	typeSIG   = 24
	typeAAAA  = 28
	typeOPT   = 41
	typeSVCB  = 64
	typeHTTPS = 65
	typeTSIG  = 250
	classIN   = 1
)

var (
	errClosed    = fmt.Errorf("resolver: %w", net.ErrClosed)
	errNotQuery  = errors.New("resolver: not a DNS query")
	errDNSFormat = errors.New("resolver: malformed DNS message")
	errDNSOpcode = errors.New("resolver: DNS operation not supported")
)

// dnsQuery is a client's query. Offsets are into msg.
type dnsQuery struct {
	msg         []byte
	questionEnd int // 0: there is no question that could be given back
	opt         int // where the size in the OPT record stands; 0: no EDNS
	signed      bool
}

// parseDNSQuery reads a query. With errDNSFormat and errDNSOpcode q is good
// enough for an answer; errNotQuery gets none, lest two servers answer each other.
func parseDNSQuery(msg []byte) (q dnsQuery, err error) {
	if len(msg) < dnsHeaderLen || dnsFlags(msg)&dnsQR != 0 {
		return q, errNotQuery
	}
	q.msg = msg
	if dnsFlags(msg)&dnsOpcode != 0 {
		return q, errDNSOpcode
	}
	end, ok := questionEnd(msg)
	if !ok || len(msg) > maxDNSQuery {
		return q, errDNSFormat
	}
	q.questionEnd = end
	if !q.records() {
		return q, errDNSFormat
	}
	return q, nil
}

func dnsFlags(msg []byte) uint16     { return binary.BigEndian.Uint16(msg[2:]) }
func dnsCount(msg []byte, i int) int { return int(binary.BigEndian.Uint16(msg[4+2*i:])) }
func dnsID(msg []byte) uint16        { return binary.BigEndian.Uint16(msg) }
func setDNSID(msg []byte, id uint16) { binary.BigEndian.PutUint16(msg, id) }
func (q *dnsQuery) question() []byte { return q.msg[dnsHeaderLen:q.questionEnd] }
func (q *dnsQuery) qtype() uint16    { return binary.BigEndian.Uint16(q.msg[q.questionEnd-4:]) }
func (q *dnsQuery) qclass() uint16   { return binary.BigEndian.Uint16(q.msg[q.questionEnd-2:]) }

// questionEnd finds the end of the only question of a message of at least a
// header. Its name cannot be compressed: nothing stands before it.
func questionEnd(msg []byte) (int, bool) {
	if dnsCount(msg, 0) != 1 {
		return 0, false
	}
	at := dnsHeaderLen
	for {
		if at >= len(msg) || msg[at] > 63 || at-dnsHeaderLen >= maxDNSName {
			return 0, false
		}
		n := int(msg[at])
		at += 1 + n
		if n == 0 {
			break
		}
	}
	return at + 4, at+4 <= len(msg)
}

// record is a resource record of a message. Offsets are into the message.
type record struct {
	section int // 1: answer, 2: authority, 3: additional
	start   int
	typ     uint16
	class   uint16
	ttl     int    // where it stands
	data    []byte // RDATA
}

// eachRecord calls f for the records behind the question until f says no. It
// says whether they fill the message exactly.
func eachRecord(msg []byte, questionEnd int, f func(*record) bool) bool {
	at := questionEnd
	for section := 1; section <= 3; section++ {
		for range dnsCount(msg, section) {
			r := record{section: section, start: at}
			var ok bool
			if at, ok = skipName(msg, at); !ok || at+10 > len(msg) {
				return false
			}
			r.typ, r.class, r.ttl = binary.BigEndian.Uint16(msg[at:]), binary.BigEndian.Uint16(msg[at+2:]), at+4
			end := at + 10 + int(binary.BigEndian.Uint16(msg[at+8:]))
			if end > len(msg) {
				return false
			}
			r.data = msg[at+10 : end]
			at = end
			if !f(&r) {
				return false
			}
		}
	}
	return at == len(msg)
}

// records walks the records behind the question and notes the OPT record (RFC
// 6891 section 6.1.1: at most one) and whether the message is signed.
func (q *dnsQuery) records() bool {
	at := q.questionEnd
	for range dnsCount(q.msg, 1) + dnsCount(q.msg, 2) + dnsCount(q.msg, 3) {
		var ok bool
		if at, ok = skipName(q.msg, at); !ok || at+10 > len(q.msg) {
			return false
		}
		switch binary.BigEndian.Uint16(q.msg[at:]) {
		case typeOPT:
			if q.opt != 0 {
				return false
			}
			q.opt = at + 2
		case typeTSIG, typeSIG:
			q.signed = true
		}
		at += 10 + int(binary.BigEndian.Uint16(q.msg[at+8:]))
		if at > len(q.msg) {
			return false
		}
	}
	return true
}

// skipName goes behind the name at at, which may end in a pointer (RFC 1035
// section 4.1.4); the pointer is not followed.
func skipName(msg []byte, at int) (int, bool) {
	for at < len(msg) {
		switch n := int(msg[at]); {
		case n == 0:
			return at + 1, true
		case n <= 63:
			at += 1 + n
		case n >= 0xc0:
			return at + 2, true
		default:
			return 0, false
		}
	}
	return 0, false
}

// limit is the longest answer the client takes by UDP, in bytes: what EDNS says
// (RFC 6891 section 6.2.3), else 512, and no more than its transport can carry.
func (q *dnsQuery) limit(transport int) int {
	n := minDNSUDP
	if q.opt != 0 {
		n = max(n, int(binary.BigEndian.Uint16(q.msg[q.opt:])))
	}
	return min(n, transport)
}

// capSize makes the upstream cut its answer to what can be carried, which it
// does better than we do. A signed query stays as it is.
func (q *dnsQuery) capSize(limit int) {
	if q.opt != 0 && !q.signed && int(binary.BigEndian.Uint16(q.msg[q.opt:])) > limit {
		binary.BigEndian.PutUint16(q.msg[q.opt:], uint16(limit))
	}
}

// answer makes an answer of our own, without records.
func (q *dnsQuery) answer(rcode uint16) []byte {
	b := make([]byte, dnsHeaderLen, dnsHeaderLen+maxDNSName+4+11)
	setDNSID(b, dnsID(q.msg))
	binary.BigEndian.PutUint16(b[2:], dnsQR|dnsFlags(q.msg)&(dnsOpcode|dnsRD)|dnsRA|rcode)
	if q.questionEnd != 0 {
		b[5] = 1
		b = append(b, q.question()...)
	}
	return q.appendOPT(b)
}

// truncated is what a client gets whose limit an answer exceeds: it comes again
// by TCP (RFC 2181 section 9).
func (q *dnsQuery) truncated(answer []byte) []byte {
	b := q.answer(dnsFlags(answer) & dnsRcode)
	binary.BigEndian.PutUint16(b[2:], dnsFlags(answer)|dnsTC)
	return b
}

// appendOPT answers EDNS with EDNS (RFC 6891 section 6.1.1): version 0, no
// options, the DO bit as it was (RFC 3225 section 3).
func (q *dnsQuery) appendOPT(b []byte) []byte {
	if q.opt == 0 {
		return b
	}
	binary.BigEndian.PutUint16(b[10:], uint16(dnsCount(b, 3)+1))
	do := q.msg[q.opt+4] & 0x80
	return append(b, 0, 0, typeOPT, ourDNSUDP>>8, ourDNSUDP&0xff, 0, 0, do, 0, 0, 0)
}

// answers says whether msg is an answer to the query: not by its id, which is
// the caller's to compare, but by its question (RFC 5452 section 9.1). Some
// upstreams give the name back in lower case.
func (q *dnsQuery) answers(msg []byte) bool {
	if len(msg) < dnsHeaderLen || dnsFlags(msg)&dnsQR == 0 || dnsFlags(msg)&dnsOpcode != 0 {
		return false
	}
	end, ok := questionEnd(msg)
	return ok && sameQuestion(msg[dnsHeaderLen:end], q.question())
}

// sameQuestion compares questions, the letters of the name without case (RFC
// 4343); a length byte cannot be taken for a letter, for it is at most 63.
func sameQuestion(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	name := len(a) - 4
	for i := range name {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return [4]byte(a[name:]) == [4]byte(b[name:])
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}
