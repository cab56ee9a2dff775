package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/gaissmai/bart"

	"rocserv/egress/match"
	"rocserv/internal/nat64"
)

// PolicyConfig is what the operator and the host say about destinations.
type PolicyConfig struct {
	// Internet is the profile "internet": private ranges are denied too. The
	// other profile, "lan", lets clients reach them.
	Internet bool

	// AllowUnsafe are the prefixes that egress-allow-unsafe names. The longest
	// prefix decides, see Policy.
	AllowUnsafe []netip.Prefix

	// NAT64 are translation prefixes of this network beside the well-known
	// ones; their lengths are those of RFC 6052 section 2.2.
	NAT64 []netip.Prefix

	// Rules are what egress-allow and egress-deny say, in order: the first that
	// holds decides. Who has none of them is judged by the profile.
	Rules []Rule

	// Access is what ocserv's restrictions leave; nil: no restriction.
	Access *Access

	// Names are the names of addresses, for rules with domains; nil: none known.
	Names *Names

	Host Host
}

// Rule is one line of egress-allow or egress-deny.
type Rule struct {
	match.Rule
	Allow bool
	Text  string // as the operator wrote it
}

// Host is what a confined worker cannot find out itself. It changes while the
// worker runs.
type Host struct {
	OwnAddrs  []netip.Addr     // of all interfaces
	OwnNets   []netip.Prefix   // of all interfaces, for their directed broadcast addresses; may be unknown
	Listeners []netip.AddrPort // where the server itself is reached, if not by an own address
	Denied    []netip.Prefix   // further addresses of the hard tier (cluster API)
	NAT64     []netip.Prefix   // translation prefixes that the network was found to have
}

// Policy judges destinations. It is safe for concurrent use; Check works on an
// immutable snapshot and takes no lock.
//
// An address is looked up among all prefixes that say something about it, and
// the longest one decides; of equal ones egress-allow-unsafe wins. So naming
// 169.254.0.0/16 opens link-local addresses but not the metadata services
// among them, naming a private network does not open the host's own address in
// it, and 0.0.0.0/0 opens nothing that has a line of its own in the tables.
// What is opened must be named as narrowly as it was closed.
//
// What the hard tier lets pass must pass the restrictions of Access, and then
// the Rules, which can open the private tier and close anything. They never
// open the hard tier.
type Policy struct {
	mu     sync.Mutex // serialises changes
	cfg    PolicyConfig
	list   *match.Table // of cfg.Rules; nil: none
	access *access      // nil: no restriction

	rules atomic.Pointer[rules]
}

// NewPolicy makes a policy, which keeps the slices of cfg. The error names a
// prefix that cannot be used.
func NewPolicy(cfg PolicyConfig) (*Policy, error) {
	for _, p := range slices.Concat(cfg.AllowUnsafe, cfg.Host.Denied, cfg.Host.OwnNets) {
		if !p.IsValid() {
			return nil, errors.New("egress: invalid prefix in the policy")
		}
	}
	for _, p := range cfg.NAT64 {
		if !nat64.Valid(p) {
			return nil, fmt.Errorf("egress: %v is no NAT64 prefix (RFC 6052 section 2.2)", p)
		}
	}
	p := &Policy{cfg: cfg}
	var err error
	if p.list, err = listOf(cfg.Rules); err != nil {
		return nil, fmt.Errorf("egress: %w", err)
	}
	if cfg.Access != nil {
		if p.access, err = newAccess(cfg.Access); err != nil {
			return nil, fmt.Errorf("egress: %w", err)
		}
	}
	p.rules.Store(p.newRules())
	return p, nil
}

// SetHost replaces what is known of the host; the slices are kept. Invalid
// prefixes are ignored.
func (p *Policy) SetHost(h Host) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cfg.Host = h
	p.rules.Store(p.newRules())
}

// SetOwnAddrs replaces the addresses of the host's interfaces only.
func (p *Policy) SetOwnAddrs(addrs []netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cfg.Host.OwnAddrs = addrs
	p.rules.Store(p.newRules())
}

// Check judges a destination: nil, or a Denied. It allocates nothing.
func (p *Policy) Check(proto Proto, dst netip.AddrPort) error {
	if d := p.rules.Load().check(proto, dst); d != 0 {
		return d
	}
	return nil
}

// Explain is Check, and says which of the Rules decided, -1: none of them.
func (p *Policy) Explain(proto Proto, dst netip.AddrPort) (rule int, err error) {
	r := p.rules.Load()
	d := r.check(proto, dst)
	rule = match.None
	if (d == 0 || d == DeniedRule) && r.list != nil {
		rule = r.list.Find(uint8(proto), dst.Addr().Unmap(), dst.Port(), r.namesOf(dst.Addr().Unmap()))
	}
	if d != 0 {
		return rule, d
	}
	return rule, nil
}

// Line is the text of one of the Rules.
func (p *Policy) Line(rule int) string {
	lines := p.rules.Load().lines
	if rule < 0 || rule >= len(lines) {
		return ""
	}
	return lines[rule].Text
}

// Restricts says whether there is anything that CheckPeer may refuse.
func (p *Policy) Restricts() bool { return p.access != nil || p.list != nil }

// CheckPeer judges another client of the server as a destination, for any
// protocol of IP. Whether there may be such traffic at all is not its matter, nor
// are the tiers: such an address is not on the host's networks. What remains are
// the Rules and Access.
func (p *Policy) CheckPeer(proto Proto, dst netip.AddrPort) error {
	r, a := p.rules.Load(), dst.Addr()
	if r.list != nil {
		if i := r.list.Find(uint8(proto), a, dst.Port(), r.namesOf(a)); i != match.None && !r.lines[i].Allow {
			return DeniedRule
		}
	}
	if r.access != nil {
		if d := r.access.check(proto, a, dst.Port()); d != 0 {
			return d
		}
	}
	return nil
}

// rules is a snapshot of a policy.
type rules struct {
	table     bart.Table[Denied] // value 0: opened by egress-allow-unsafe
	listeners map[netip.AddrPort]struct{}
	nat64     []netip.Prefix // longest first

	list   *match.Table
	lines  []Rule // what list was made of
	names  *Names // nil: no rule asks for any
	access *access
}

func listOf(lines []Rule) (*match.Table, error) {
	if len(lines) == 0 {
		return nil, nil
	}
	where := make([]match.Rule, len(lines))
	for i := range lines {
		where[i] = lines[i].Rule
	}
	return match.New(where)
}

func (p *Policy) newRules() *rules {
	cfg := &p.cfg
	r := &rules{
		listeners: make(map[netip.AddrPort]struct{}, len(cfg.Host.Listeners)),
		list:      p.list, lines: cfg.Rules, access: p.access,
	}
	if p.list != nil && p.list.Named() {
		r.names = cfg.Names
	}
	if cfg.Internet {
		r.insert(privateTier)
	}
	r.insert(hardTier)
	for _, p := range cfg.Host.OwnNets {
		r.insertBroadcast(p)
	}
	for _, a := range cfg.Host.OwnAddrs {
		r.insertOwn(a)
	}
	for _, p := range cfg.Host.Denied {
		r.insertPrefix(p, DeniedHost)
	}
	for _, l := range cfg.Host.Listeners {
		r.listeners[netip.AddrPortFrom(l.Addr().Unmap().WithZone(""), l.Port())] = struct{}{}
	}
	for _, p := range cfg.AllowUnsafe {
		r.insertPrefix(p, 0)
	}
	r.nat64 = slices.Clone(cfg.NAT64)
	for _, p := range cfg.Host.NAT64 {
		if nat64.Usable(p) && !slices.Contains(r.nat64, p) {
			r.nat64 = append(r.nat64, p)
		}
	}
	slices.SortFunc(r.nat64, func(a, b netip.Prefix) int { return b.Bits() - a.Bits() })
	return r
}

func (r *rules) insert(ranges []addrRange) {
	for _, x := range ranges {
		r.table.Insert(x.prefix, x.denied)
	}
}

// insertPrefix takes a prefix from outside; one of v4-mapped addresses means
// the IPv4 prefix, for that is what is judged.
func (r *rules) insertPrefix(p netip.Prefix, d Denied) {
	if !p.IsValid() {
		return
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	r.table.Insert(p.Masked(), d)
}

// insertOwn denies an address of the host. Its loopback and link-local
// addresses are left to the lines of their ranges: who opens 127.0.0.0/8 by
// name means 127.0.0.1 too.
func (r *rules) insertOwn(a netip.Addr) {
	a = a.Unmap().WithZone("")
	if !a.IsValid() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		return
	}
	r.table.Insert(netip.PrefixFrom(a, a.BitLen()), DeniedOwnAddress)
}

// insertBroadcast denies the directed broadcast addresses of an attached IPv4
// network: all ones, and all zeros, which old hosts take for it (RFC 1122
// section 3.3.6). Networks of one or two addresses have none (RFC 3021).
func (r *rules) insertBroadcast(p netip.Prefix) {
	if !p.IsValid() || !p.Addr().Is4() || p.Bits() > 30 || p.Bits() == 0 {
		return
	}
	first := p.Masked().Addr()
	last := first.As4()
	for i := p.Bits(); i < 32; i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	r.table.Insert(netip.PrefixFrom(first, 32), DeniedBroadcast)
	r.table.Insert(netip.PrefixFrom(netip.AddrFrom4(last), 32), DeniedBroadcast)
}

// check is the order of the rules.
func (r *rules) check(proto Proto, dst netip.AddrPort) Denied {
	switch proto {
	case TCP, UDP, ICMP, ICMPv6:
	default:
		return DeniedProtocol
	}
	a := dst.Addr()
	if !a.IsValid() {
		return DeniedInvalid
	}
	if a.Zone() != "" {
		// No packet carries a zone, and no client knows the host's interfaces.
		return DeniedZone
	}
	return r.judge(proto, a.Unmap(), dst.Port())
}

// judge looks at the address itself and at every IPv4 address it stands for.
func (r *rules) judge(proto Proto, a netip.Addr, port uint16) Denied {
	names := r.namesOf(a)
	if d := r.lookup(proto, a, port, names); d != 0 {
		return d
	}
	if a.Is6() {
		var buf [maxReadings]netip.Addr
		for _, v4 := range r.embedded(a, &buf) {
			if d := r.lookup(proto, v4, port, names); d != 0 {
				return d
			}
		}
	}
	if r.access != nil {
		return r.access.check(proto, a, port)
	}
	return 0
}

func (r *rules) namesOf(a netip.Addr) []string {
	if r.names == nil {
		return nil
	}
	return r.names.Of(a)
}

// lookup judges one address: the hard tier, the rules, and where none of them
// holds, the profile.
func (r *rules) lookup(proto Proto, a netip.Addr, port uint16, names []string) Denied {
	d, listed := r.table.Lookup(a)
	switch {
	case d != 0 && d.Hard():
		return d
	case !listed && len(r.listeners) > 0:
		if _, own := r.listeners[netip.AddrPortFrom(a, port)]; own {
			return DeniedListener
		}
	}
	if r.list == nil {
		return d
	}
	switch i := r.list.Find(uint8(proto), a, port, names); {
	case i == match.None:
		return d
	case r.lines[i].Allow:
		return 0
	}
	return DeniedRule
}
