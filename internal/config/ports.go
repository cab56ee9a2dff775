package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

var errPorts = errors.New("cannot parse restrict-user-to-ports")

// parsePorts reads `tcp(443), udp(53), icmp()`: what is allowed, or with
// `!( ... )` around it what is denied.
func parsePorts(s string) (ports []Port, deny bool, err error) {
	s = strings.TrimSpace(s)
	if rest, ok := strings.CutPrefix(s, "!"); ok {
		deny = true
		rest = strings.TrimSpace(rest)
		if len(rest) < 2 || rest[0] != '(' || rest[len(rest)-1] != ')' {
			return nil, false, fmt.Errorf("%w: '!' is followed by a list in brackets", errPorts)
		}
		s = rest[1 : len(rest)-1]
	}
	for element := range strings.SplitSeq(s, ",") {
		port, err := parsePort(strings.TrimSpace(element))
		if err != nil {
			return nil, false, err
		}
		ports = append(ports, port)
	}
	return ports, deny, nil
}

func parsePort(s string) (Port, error) {
	proto, number, ok := strings.Cut(strings.TrimSuffix(s, ")"), "(")
	if !ok || !strings.HasSuffix(s, ")") {
		return Port{}, fmt.Errorf("%w: '%s' is not protocol(port)", errPorts, s)
	}
	p := Port{Proto: strings.ToLower(strings.TrimSpace(proto))}
	number = strings.TrimSpace(number)
	switch p.Proto {
	case "tcp", "udp", "sctp":
	case "icmp", "icmpv6", "esp":
		if number != "" {
			return Port{}, fmt.Errorf("%w: %s has no ports", errPorts, p.Proto)
		}
	default:
		return Port{}, fmt.Errorf("%w: unknown protocol '%s'", errPorts, proto)
	}
	if number == "" {
		return p, nil
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return Port{}, fmt.Errorf("%w: '%s' is not a port", errPorts, number)
	}
	p.Port = int(n)
	return p, nil
}

func (p Port) String() string {
	if p.Port == 0 {
		return p.Proto + "()"
	}
	return p.Proto + "(" + strconv.Itoa(p.Port) + ")"
}

func setPorts(p *parser, t *target, it item) {
	ports, deny, err := parsePorts(it.text)
	if err != nil {
		p.errorf(it.line, "%v", err)
		return
	}
	t.user.Ports, t.user.PortsDeny = ports, deny
}

func getPorts(t *target) []string {
	if len(t.user.Ports) == 0 {
		return nil
	}
	var elements []string
	for _, p := range t.user.Ports {
		elements = append(elements, p.String())
	}
	list := strings.Join(elements, ", ")
	if t.user.PortsDeny {
		list = "!(" + list + ")"
	}
	return []string{list}
}
