package config

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

const maxForwards = 64

// Forward is one line of gateway-forward: a TCP port of the gateway address
// that stands for a service of the operator's.
type Forward struct {
	Port int
	Host string // name or address
	To   int
}

func setClientDNS(p *parser, t *target, it item) {
	switch it.text {
	case "allow", "intercept", "deny":
		t.user.ClientDNS = it.text
	default:
		p.errorf(it.line, "'client-dns' is allow, intercept or deny, not '%.64s'", it.text)
	}
}

func getClientDNS(t *target) []string {
	return []string{t.user.ClientDNS}
}

func setForward(p *parser, t *target, it item) {
	f, err := parseForward(it.text)
	if err != nil {
		p.errorf(it.line, "gateway-forward: %v", err)
		return
	}
	for _, other := range t.user.Forwards {
		if other.Port == f.Port {
			p.errorf(it.line, "gateway-forward: tcp:%d has a line already", f.Port)
			return
		}
	}
	if len(t.user.Forwards) == maxForwards {
		p.errorf(it.line, "gateway-forward: more than %d", maxForwards)
		return
	}
	t.user.Forwards = append(t.user.Forwards, f)
}

func getForwards(t *target) []string { return stringsOf(t.user.Forwards) }

// parseForward reads `tcp:PORT -> HOST:PORT`.
func parseForward(s string) (f Forward, err error) {
	from, to, arrow := strings.Cut(s, "->")
	number, tcp := strings.CutPrefix(strings.TrimSpace(from), "tcp:")
	if !arrow || !tcp {
		return f, fmt.Errorf("'%.64s' is not tcp:PORT -> HOST:PORT", s)
	}
	if f.Port, err = portNumber(number); err != nil || f.Port == 0 {
		return f, fmt.Errorf("'%.64s' is no port", number)
	}
	if f.Port == dnsPort {
		return f, errors.New("port 53 is the resolver's")
	}
	var port string
	if f.Host, port, err = net.SplitHostPort(strings.TrimSpace(to)); err != nil || f.Host == "" || strings.ContainsAny(f.Host, " \t%") {
		return f, fmt.Errorf("'%.64s' is not HOST:PORT", strings.TrimSpace(to))
	}
	if f.To, err = portNumber(port); err != nil || f.To == 0 {
		return f, fmt.Errorf("'%.64s' is no port", port)
	}
	return f, nil
}

// String is the line as gateway-forward has it.
func (f Forward) String() string {
	return "tcp:" + strconv.Itoa(f.Port) + " -> " + net.JoinHostPort(f.Host, strconv.Itoa(f.To))
}
