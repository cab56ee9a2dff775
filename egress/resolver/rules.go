package resolver

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"rocserv/egress"
	"rocserv/internal/blocklist"
)

// Rules are what the operator wants to be answered otherwise.
type Rules struct {
	Block  blocklist.Set // names that are not there
	Refuse bool          // or are refused

	// Guard withholds answers by which a public name would lead into a private
	// network, where the client is and the name's owner is not (DNS rebinding).
	Guard       bool
	GuardExcept []string // domains that may, in lower case
}

// Why a client is told less than there is.
var (
	errBlocked  = errors.New("blocked by resolver-block")
	errWithheld = errors.New("withheld by resolver-guard")
	errNoIPv6   = errors.New("no IPv4 address, and no way out for IPv6")
)

// ruled notes for who wants to know that a rule decides.
func (q *query) ruled(rule error) {
	if q.rule != nil {
		*q.rule = rule
	}
}

func (r *Rules) blocks(q *dnsQuery) bool { return len(r.Block) > 0 && r.Block.Has(q.text()) }

func (r *Rules) blockCode() uint16 {
	if r.Refuse {
		return rcodeRefused
	}
	return rcodeNXDomain
}

// guards says whether the answer to a query is looked at.
func (r *Rules) guards(q *dnsQuery) bool {
	if !r.Guard || q.qclass() != classIN {
		return false
	}
	name := q.text()
	return public(name) && !inAny(name, r.GuardExcept)
}

// leads says whether an answer leads into a private network, or may: clients
// read on where a record's length is wrong, and would find another address.
func leads(msg []byte) bool {
	end, ok := questionEnd(msg)
	if !ok {
		return true
	}
	left := dnsCount(msg, 1) + dnsCount(msg, 2) + dnsCount(msg, 3)
	eachRecord(msg, end, func(rec *record) bool {
		if rec.leads() {
			return false
		}
		left--
		return true
	})
	return left != 0
}

// ownNames are domains that no registry gives to anybody, so that what they
// name is inside: RFC 6761 section 6.3, RFC 6762, RFC 8375, and ICANN's
// reservation of .internal (2024).
var ownNames = []string{"localhost", "local", "home.arpa", "internal"}

// public says whether a name is of the public tree: one label is a host's own.
func public(name string) bool {
	labels := 0
	for range suffixes(name) {
		labels++
	}
	return labels > 1 && !inAny(name, ownNames)
}

// leads says whether a record names a private address, or has not the form of its
// type. The class is not looked at, because not every client does.
func (rec *record) leads() bool {
	switch rec.typ {
	case typeA, typeAAAA:
		a, _ := netip.AddrFromSlice(rec.data)
		return a.Is4() != (rec.typ == typeA) || !a.IsValid() || egress.Private(a)
	case typeSVCB, typeHTTPS:
		return hintLeads(rec.data)
	}
	return false
}

// Parameters of SVCB records that name addresses. RFC 9460 section 7.3.
const (
	ipv4Hint = 4
	ipv6Hint = 6
)

// hintLeads is leads for a SVCB or HTTPS record. RFC 9460 section 2.2: priority,
// name, parameters.
func hintLeads(data []byte) bool {
	if len(data) < 3 {
		return true
	}
	at, ok := skipName(data, 2)
	for ok && at+4 <= len(data) {
		key, n := binary.BigEndian.Uint16(data[at:]), int(binary.BigEndian.Uint16(data[at+2:]))
		at += 4
		if at+n > len(data) {
			return true
		}
		size := map[uint16]int{ipv4Hint: 4, ipv6Hint: 16}[key]
		value := data[at : at+n]
		for ; size != 0 && len(value) >= size; value = value[size:] {
			if a, _ := netip.AddrFromSlice(value[:size]); egress.Private(a) {
				return true
			}
		}
		if size != 0 && len(value) != 0 {
			return true
		}
		at += n
	}
	return !ok || at != len(data)
}
