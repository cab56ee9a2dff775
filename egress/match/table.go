package match

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"
)

// The protocols that rules tell apart, as numbers of IP.
const (
	// Nothing is the protocol of no packet: a rule for it never holds.
	Nothing = 0

	ICMP   = 1
	TCP    = 6
	UDP    = 17
	ICMPv6 = 58
)

// None is what Find returns when no rule holds.
const None = -1

// Rule says where something holds. Without networks and domains it holds
// everywhere, without ports for everything.
type Rule struct {
	Nets    []netip.Prefix
	Domains []string // in lower case, without a dot at the end
	Ports   []Ports
}

// Ports are ports of a protocol. Those of ICMP are 0 to 0.
type Ports struct {
	Proto       uint8
	First, Last uint16
}

// Table is a list of rules, ready to be asked.
type Table struct {
	nets    bart.Table[*node]
	domains map[string]*node // the name and what is below it
	below   map[string]*node // only what is below it
	any     *node
	named   bool // some rule has a domain
}

// node holds what the rules say of one network or domain.
type node struct {
	around *node // of the next wider network
	spans  [protos][]span
}

// span is a range of ports and the first rule that has it. Spans of a node and
// protocol are disjoint and in order.
type span struct {
	first, last uint16
	rule        int32
}

// New makes a table. The error names the rule that cannot be.
func New(rules []Rule) (*Table, error) {
	t := &Table{domains: map[string]*node{}, below: map[string]*node{}}
	for i, r := range rules {
		if err := t.add(&r, i); err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
	}
	t.link()
	return t, nil
}

func (t *Table) add(r *Rule, i int) error {
	var nodes []*node
	for _, p := range r.Nets {
		n, err := t.ofNet(p)
		if err != nil {
			return err
		}
		nodes = append(nodes, n)
	}
	for _, d := range r.Domains {
		n, err := t.ofDomain(d)
		if err != nil {
			return err
		}
		nodes = append(nodes, n)
	}
	if len(nodes) == 0 {
		if t.any == nil {
			t.any = new(node)
		}
		nodes = append(nodes, t.any)
	}
	for _, n := range nodes {
		if err := n.addAll(r.Ports, int32(i)); err != nil {
			return err
		}
	}
	return nil
}

func (t *Table) ofNet(p netip.Prefix) (*node, error) {
	if !p.IsValid() {
		return nil, fmt.Errorf("invalid network")
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	p = p.Masked()
	n, ok := t.nets.Get(p)
	if !ok {
		n = new(node)
		t.nets.Insert(p, n)
	}
	return n, nil
}

func (t *Table) ofDomain(d string) (*node, error) {
	t.named = true
	in := t.domains
	if rest, ok := strings.CutPrefix(d, "*."); ok {
		in, d = t.below, rest
	}
	if d == "" || strings.HasPrefix(d, ".") || strings.HasSuffix(d, ".") || d != strings.ToLower(d) {
		return nil, fmt.Errorf("'%s' is no domain", d)
	}
	n := in[d]
	if n == nil {
		n = new(node)
		in[d] = n
	}
	return n, nil
}

// addAll notes that rule i has these ports of a node; none: everything.
func (n *node) addAll(ports []Ports, i int32) error {
	if len(ports) == 0 {
		for p := range n.spans {
			n.spans[p] = paint(n.spans[p], span{0, 65535, i})
		}
		return nil
	}
	for _, p := range ports {
		at := protoIndex(p.Proto)
		if at < 0 || p.First > p.Last {
			return fmt.Errorf("no ports of a protocol: %d %d-%d", p.Proto, p.First, p.Last)
		}
		n.spans[at] = paint(n.spans[at], span{p.First, p.Last, i})
	}
	return nil
}

// paint gives s what is left of it between the spans there are, which are of
// earlier rules.
func paint(spans []span, s span) []span {
	at, _ := slices.BinarySearchFunc(spans, s.first, func(x span, port uint16) int { return int(x.last) - int(port) })
	first := int(s.first)
	for first <= int(s.last) {
		last := int(s.last)
		if at < len(spans) {
			last = min(last, int(spans[at].first)-1)
		}
		if first <= last {
			spans = slices.Insert(spans, at, span{uint16(first), uint16(last), s.rule})
			at++
		}
		if at == len(spans) {
			break
		}
		first = int(spans[at].last) + 1
		at++
	}
	return spans
}

// link tells each network's node of the one around it.
func (t *Table) link() {
	for p, n := range t.nets.All() {
		if p.Bits() == 0 {
			continue
		}
		// The longest network that contains the next wider one.
		if _, around, ok := t.nets.LookupPrefixLPM(netip.PrefixFrom(p.Addr(), p.Bits()-1).Masked()); ok {
			n.around = around
		}
	}
}

const protos = 5

func protoIndex(proto uint8) int {
	switch proto {
	case TCP:
		return 0
	case UDP:
		return 1
	case ICMP:
		return 2
	case ICMPv6:
		return 3
	case Nothing:
		return 4
	}
	return None
}

// Named says whether names matter: some rule has a domain.
func (t *Table) Named() bool { return t.named }

// Find returns the number of the first rule that holds for a destination, or
// None. names are those of the address, as rules have them.
func (t *Table) Find(proto uint8, a netip.Addr, port uint16, names []string) int {
	p := protoIndex(proto)
	if p < 0 {
		return None
	}
	best := t.any.first(p, port, maxRule)
	n, _ := t.nets.Lookup(a)
	for ; n != nil; n = n.around {
		best = n.first(p, port, best)
	}
	for _, name := range names {
		best = t.firstOf(name, p, port, best)
	}
	if best == maxRule {
		return None
	}
	return int(best)
}

const maxRule = int32(1<<31 - 1)

// firstOf is the first rule of a name and the domains that it is in.
func (t *Table) firstOf(name string, p int, port uint16, best int32) int32 {
	best = t.domains[name].first(p, port, best)
	for {
		_, parent, ok := strings.Cut(name, ".")
		if !ok {
			return best
		}
		best = t.domains[parent].first(p, port, best)
		best = t.below[parent].first(p, port, best)
		name = parent
	}
}

// first is the lower one of best and the rule that has the port.
func (n *node) first(p int, port uint16, best int32) int32 {
	if n == nil {
		return best
	}
	spans := n.spans[p]
	for lo, hi := 0, len(spans); lo < hi; {
		mid := int(uint(lo+hi) >> 1)
		switch s := &spans[mid]; {
		case port < s.first:
			hi = mid
		case port > s.last:
			lo = mid + 1
		default:
			return min(best, s.rule)
		}
	}
	return best
}
