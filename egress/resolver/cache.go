package resolver

import (
	"container/list"
	"encoding/binary"
	"math"
	"time"
)

const (
	entryCost = 256 // bytes of an entry beside its message: the structs, and their places in the map and the list

	maxTTL         = 24 * time.Hour // RFC 8767 section 4 caps at days to weeks
	maxNegativeTTL = 3 * time.Hour  // RFC 2308 section 5
)

// cache is what servers have answered this client, for as long as they have
// said (RFC 2181 section 8), errors about names included (RFC 2308).
type cache struct {
	most  int // bytes; 0: nothing is kept
	used  int
	byKey map[string]*list.Element // of *entry
	order list.List                // the one used last is in front
}

// entry is an answer without its OPT record, which is between neighbours (RFC
// 6891 section 6.2.1).
type entry struct {
	key   string
	msg   []byte
	ttls  []uint16 // where the TTLs stand
	born  time.Time
	until time.Time
}

func (e *entry) size() int { return entryCost + len(e.key) + len(e.msg) + 2*len(e.ttls) }

func newCache(most int) cache { return cache{most: most, byKey: map[string]*list.Element{}} }

// get is a fresh message that answers q; nil: ask.
func (c *cache) get(q *dnsQuery, now time.Time) []byte {
	var buf [maxDNSName + 8]byte
	key, ok := q.key(buf[:0])
	if !ok || c.most == 0 {
		return nil
	}
	elem := c.byKey[string(key)]
	if elem == nil {
		return nil
	}
	e := elem.Value.(*entry)
	if !now.Before(e.until) {
		c.remove(elem)
		return nil
	}
	c.order.MoveToFront(elem)
	return e.answer(q, now)
}

// answer is the message with its TTLs counted down, for whoever asks now.
func (e *entry) answer(q *dnsQuery, now time.Time) []byte {
	b := make([]byte, len(e.msg), len(e.msg)+11)
	copy(b, e.msg)
	setDNSID(b, dnsID(q.msg))
	binary.BigEndian.PutUint16(b[2:], dnsFlags(b)&^dnsAA)
	copy(b[dnsHeaderLen:], q.question()) // the letters as they were asked
	age := uint32(now.Sub(e.born) / time.Second)
	for _, at := range e.ttls {
		ttl := binary.BigEndian.Uint32(b[at:])
		binary.BigEndian.PutUint32(b[at:], ttl-min(age, ttl))
	}
	return q.appendOPT(b)
}

// put remembers the answer to q, if it is one that may be.
func (c *cache) put(q *dnsQuery, msg []byte, now time.Time) {
	if c.most == 0 {
		return
	}
	var buf [maxDNSName + 8]byte
	key, ok := q.key(buf[:0])
	if !ok {
		return
	}
	e, ttl := remembered(msg, q.qtype())
	if ttl <= 0 {
		return
	}
	e.key, e.born, e.until = string(key), now, now.Add(ttl)
	if e.size() > c.most {
		return
	}
	if old := c.byKey[e.key]; old != nil {
		c.remove(old)
	}
	for c.used+e.size() > c.most {
		c.remove(c.order.Back())
	}
	c.used += e.size()
	c.byKey[e.key] = c.order.PushFront(e)
}

func (c *cache) remove(elem *list.Element) {
	e := c.order.Remove(elem).(*entry)
	delete(c.byKey, e.key)
	c.used -= e.size()
}

func (c *cache) clear() {
	clear(c.byKey)
	c.order.Init()
	c.used = 0
}

// key is what must be the same for an answer to be the same: the question, and
// what the client says of DNSSEC. Not ok is a query whose answer is for it only.
func (q *dnsQuery) key(b []byte) ([]byte, bool) {
	const (
		want = dnsRD | dnsAD | dnsCD
		meta = 128 // RFC 6895 section 3.1: types that are no data
	)
	flags := dnsFlags(q.msg)
	extra := 0
	if q.opt != 0 {
		extra = 1
	}
	switch {
	case flags&dnsRD == 0, q.signed, q.qclass() != classIN, q.qtype() == typeOPT,
		q.qtype() >= meta && q.qtype() <= 255, dnsCount(q.msg, 1) != 0, dnsCount(q.msg, 2) != 0, dnsCount(q.msg, 3) != extra:
		return nil, false
	}
	do := byte(0)
	if q.opt != 0 {
		if q.msg[q.opt+2] != 0 || q.msg[q.opt+3] != 0 || !q.plainOptions() {
			return nil, false
		}
		do = q.msg[q.opt+4] & 0x80
	}
	for _, c := range q.question() {
		b = append(b, lower(c))
	}
	// The letters of the type and the class are no letters.
	copy(b[len(b)-4:], q.question()[len(q.question())-4:])
	return append(b, byte(flags&want>>4), do), true
}

// plainOptions says whether the EDNS options have no influence on the answer:
// cookies (RFC 7873), keepalive (RFC 7828) and padding (RFC 7830).
func (q *dnsQuery) plainOptions() bool {
	at := q.opt + 8
	end := at + int(binary.BigEndian.Uint16(q.msg[q.opt+6:]))
	for at < end {
		if at+4 > end {
			return false
		}
		switch binary.BigEndian.Uint16(q.msg[at:]) {
		case 10, 11, 12:
		default:
			return false
		}
		at += 4 + int(binary.BigEndian.Uint16(q.msg[at+2:]))
	}
	return at == end
}

// remembered is an answer as it is kept, and for how long: 0 is not at all.
func remembered(msg []byte, qtype uint16) (*entry, time.Duration) {
	rcode := dnsFlags(msg) & dnsRcode
	end, ok := questionEnd(msg)
	if !ok || dnsFlags(msg)&dnsTC != 0 || rcode != rcodeSuccess && rcode != rcodeNXDomain {
		return nil, 0
	}
	var (
		e        entry
		ttl      = uint32(math.MaxInt32)
		negative = uint32(0) // how long nothing is said to be there
		found    bool
		opt      int
	)
	whole := eachRecord(msg, end, func(r *record) bool {
		if r.typ == typeOPT { // must be the last, to be cut off
			opt = r.start
			return r.section == 3 && msg[r.ttl] == 0 // no extended RCODE
		}
		if opt != 0 || r.typ == typeTSIG || r.typ == typeSIG {
			return false
		}
		n := binary.BigEndian.Uint32(msg[r.ttl:])
		if n > math.MaxInt32 { // RFC 2181 section 8
			n = 0
		}
		ttl = min(ttl, n)
		e.ttls = append(e.ttls, uint16(r.ttl))
		found = found || r.section == 1 && r.typ == qtype
		if r.section == 2 && r.typ == typeSOA && len(r.data) >= 22 { // RFC 2308 section 5
			negative = min(n, binary.BigEndian.Uint32(r.data[len(r.data)-4:]))
		}
		return true
	})
	if !whole {
		return nil, 0
	}
	e.msg = append(e.msg, msg...)
	if opt != 0 {
		e.msg = e.msg[:opt]
		binary.BigEndian.PutUint16(e.msg[10:], uint16(dnsCount(e.msg, 3)-1))
	}
	if !found || rcode == rcodeNXDomain {
		ttl = min(ttl, negative)
		return &e, min(time.Duration(ttl)*time.Second, maxNegativeTTL)
	}
	return &e, min(time.Duration(ttl)*time.Second, maxTTL)
}
