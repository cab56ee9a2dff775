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

// withholds says whether an answer is not to be told.
func (r *Rules) withholds(q *dnsQuery, msg []byte) bool {
	if !r.Guard || q.qclass() != classIN {
		return false
	}
	if name := q.text(); !public(name) || inAny(name, r.GuardExcept) {
		return false
	}
	end, ok := questionEnd(msg)
	if !ok {
		return false
	}
	private := false
	eachRecord(msg, end, func(rec *record) bool {
		private = rec.private()
		return !private
	})
	return private
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

// private says whether a record names a private address.
func (rec *record) private() bool {
	switch {
	case rec.class != classIN:
	case rec.typ == typeA && len(rec.data) == 4:
		return egress.Private(netip.AddrFrom4([4]byte(rec.data)))
	case rec.typ == typeAAAA && len(rec.data) == 16:
		return egress.Private(netip.AddrFrom16([16]byte(rec.data)))
	case rec.typ == typeSVCB || rec.typ == typeHTTPS:
		return privateHint(rec.data)
	}
	return false
}

// Parameters of SVCB records that name addresses. RFC 9460 section 7.3.
const (
	ipv4Hint = 4
	ipv6Hint = 6
)

// privateHint looks at the addresses of a SVCB or HTTPS record. RFC 9460
// section 2.2: priority, name, parameters.
func privateHint(data []byte) bool {
	if len(data) < 3 {
		return false
	}
	at, ok := skipName(data, 2)
	for ok && at+4 <= len(data) {
		key, n := binary.BigEndian.Uint16(data[at:]), int(binary.BigEndian.Uint16(data[at+2:]))
		at += 4
		if at+n > len(data) {
			return false
		}
		size := map[uint16]int{ipv4Hint: 4, ipv6Hint: 16}[key]
		for value := data[at : at+n]; size != 0 && len(value) >= size; value = value[size:] {
			if a, _ := netip.AddrFromSlice(value[:size]); egress.Private(a) {
				return true
			}
		}
		at += n
	}
	return false
}
