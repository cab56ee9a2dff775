package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// EgressRule is one line of egress-allow or egress-deny.
type EgressRule struct {
	Allow  bool
	Net    netip.Prefix // invalid: Domain, or everywhere
	Domain string       // in lower case; "*.NAME": only what is below NAME
	Ports  []PortRange  // empty: everything
}

// PortRange is ports of a protocol: tcp udp icmp icmpv6.
type PortRange struct {
	Proto       string
	First, Last int // 0 to 65535: all
}

func setEgressProfile(p *parser, t *target, it item) {
	switch it.text {
	case "lan":
		t.user.EgressInternet = false
	case "internet":
		t.user.EgressInternet = true
	default:
		p.errorf(it.line, "'egress-profile' is lan or internet, not '%s'", it.text)
	}
}

func getEgressProfile(t *target) []string {
	if t.user.EgressInternet {
		return []string{"internet"}
	}
	return []string{"lan"}
}

// setEgressAllow, setEgressDeny and setEgressRule add to one list, because the
// order of all lines decides.
func setEgressAllow(p *parser, t *target, it item) { p.egressRule(t, it, true, it.text) }

func setEgressDeny(p *parser, t *target, it item) { p.egressRule(t, it, false, it.text) }

func setEgressRule(p *parser, t *target, it item) {
	word, rest, _ := strings.Cut(it.text, " ")
	switch word {
	case "allow", "deny":
		p.egressRule(t, it, word == "allow", rest)
	default:
		p.errorf(it.line, "'egress-rule' begins with allow or deny, not '%.64s'", word)
	}
}

func (p *parser) egressRule(t *target, it item, allow bool, s string) {
	r, err := parseEgressRule(s)
	if err != nil {
		p.errorf(it.line, "%s: %v", it.key, err)
		return
	}
	r.Allow = allow
	t.user.EgressRules = append(t.user.EgressRules, r)
}

func getEgressRules(t *target) []string { return stringsOf(t.user.EgressRules) }

// parseEgressRule reads `TARGET [PORTS]`.
func parseEgressRule(s string) (r EgressRule, err error) {
	where, ports := strings.TrimSpace(s), ""
	if i := strings.IndexAny(where, " \t"); i >= 0 {
		where, ports = where[:i], where[i+1:]
	}
	if r.Net, r.Domain, err = parseDestination(where); err != nil {
		return r, err
	}
	r.Ports, err = parsePortRanges(ports)
	return r, err
}

// parseDestination reads a network, an address, a domain, or any.
func parseDestination(s string) (netip.Prefix, string, error) {
	none := netip.Prefix{}
	if strings.EqualFold(s, "any") {
		return none, "", nil
	}
	if p, err := parsePrefix(s); err == nil {
		return p, "", nil
	}
	rest, below := strings.CutPrefix(s, "*.")
	name, err := CanonicalName(rest)
	if err != nil || !isDomain(name) {
		return none, "", fmt.Errorf("'%.64s' is no network, no address and no domain", s)
	}
	if below {
		name = "*." + name
	}
	return none, name, nil
}

// isDomain tells a domain from what was meant as an address or as ports.
func isDomain(s string) bool {
	numbers := true
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
			numbers = numbers && c >= '0' && c <= '9'
		}
	}
	return !numbers && len(s) <= 253
}

// parsePortRanges reads `tcp(443), udp(8000-8080), icmp()`; nothing is everything.
func parsePortRanges(s string) (list []PortRange, err error) {
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	for element := range strings.SplitSeq(s, ",") {
		r, err := parsePortRange(strings.TrimSpace(element))
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}

func parsePortRange(s string) (PortRange, error) {
	proto, numbers, ok := strings.Cut(strings.TrimSuffix(s, ")"), "(")
	r := PortRange{Proto: strings.ToLower(strings.TrimSpace(proto)), Last: 65535}
	if !ok || !strings.HasSuffix(s, ")") {
		return r, fmt.Errorf("'%.64s' is not protocol(port), protocol(first-last) or protocol()", s)
	}
	numbers = strings.TrimSpace(numbers)
	switch r.Proto {
	case "tcp", "udp":
	case "icmp", "icmpv6":
		if numbers != "" {
			return r, fmt.Errorf("%s has no ports", r.Proto)
		}
	default:
		return r, fmt.Errorf("'%.64s' is no protocol that can leave: tcp, udp, icmp or icmpv6", proto)
	}
	if numbers == "" {
		return r, nil
	}
	first, last, isRange := strings.Cut(numbers, "-")
	if !isRange {
		last = first
	}
	var err1, err2 error
	r.First, err1 = portNumber(first)
	r.Last, err2 = portNumber(last)
	if err1 != nil || err2 != nil || r.First > r.Last {
		return r, fmt.Errorf("'%.64s' is neither a port nor a range of ports", numbers)
	}
	return r, nil
}

func portNumber(s string) (int, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 16)
	return int(n), err
}

// String is the rule as egress-rule has it.
func (r EgressRule) String() string {
	s := "deny "
	if r.Allow {
		s = "allow "
	}
	return s + destinationText(r.Net, r.Domain) + portsText(r.Ports)
}

func destinationText(net netip.Prefix, domain string) string {
	switch {
	case net.IsValid():
		return net.String()
	case domain != "":
		return domain
	}
	return "any"
}

func portsText(list []PortRange) string {
	var b strings.Builder
	for i, r := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(" " + r.String())
	}
	return b.String()
}

func (r PortRange) String() string {
	switch {
	case r.First == 0 && r.Last == 65535:
		return r.Proto + "()"
	case r.First == r.Last:
		return r.Proto + "(" + strconv.Itoa(r.First) + ")"
	}
	return fmt.Sprintf("%s(%d-%d)", r.Proto, r.First, r.Last)
}
