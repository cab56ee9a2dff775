package occtl

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"rocserv/internal/control"
)

// whyPatience is longer than the server takes to connect.
const whyPatience = 30 * time.Second

const whyUsage = "why USER DESTINATION[:PORT] [--dial] [--udp | --icmp]"

// why says what becomes of a user's traffic to a destination.
func (s *session) why(arg string) int {
	a, err := whyArgs(strings.Fields(arg))
	if err != nil {
		fmt.Fprintf(s.Err, "%v\nusage: %s\n", err, whyUsage)
		return statusFailed
	}
	var w control.Why
	if err := s.callWithin(whyPatience, control.CmdWhy, a, &w); err != nil {
		if s.fail(err); is(err, control.NotFound) {
			return statusNotFound
		}
		return statusFailed
	}
	if s.json {
		b, err := json.MarshalIndent(w, "", "  ")
		if err != nil {
			return s.fail(err)
		}
		fmt.Fprintf(s.Out, "%s\n", b)
		return statusOK
	}
	s.writeWhy(&w)
	return statusOK
}

// whyArgs reads USER DESTINATION[:PORT] and options, which may stand anywhere.
func whyArgs(words []string) (a control.WhyArgs, err error) {
	var plain []string
	for _, w := range words {
		switch w {
		case "--dial":
			a.Dial = true
		case "--udp", "--icmp":
			a.Proto = w[2:]
		case "--json", "-j":
			return a, fmt.Errorf("'%s' stands before the command", w)
		default:
			if strings.HasPrefix(w, "-") {
				return a, fmt.Errorf("unknown option '%s'", clean(w))
			}
			plain = append(plain, w)
		}
	}
	if len(plain) != 2 {
		return a, fmt.Errorf("a user and a destination are named")
	}
	a.User, a.Host = plain[0], strings.Trim(plain[1], "[]")
	if _, err := netip.ParseAddr(a.Host); err != nil { // an IPv6 address has colons, too
		if host, port, err := net.SplitHostPort(plain[1]); err == nil {
			a.Host = host
			if a.Port, err = strconv.Atoi(port); err != nil || a.Port < 1 || a.Port > 65535 {
				return a, fmt.Errorf("'%s' is no port", clean(port))
			}
		}
	}
	if a.Port == 0 && a.Proto == "" {
		a.Port = 443
	}
	return a, nil
}

func (s *session) writeWhy(w *control.Why) {
	to := clean(w.Host)
	if w.Port != 0 {
		to = net.JoinHostPort(to, strconv.Itoa(w.Port))
	}
	fmt.Fprintf(s.Out, "%s %s, for user '%s' (ID %d)\n", w.Proto, to, clean(w.User), w.ID)
	for i := range w.Addresses {
		s.writeWhyAddress(&w.Addresses[i])
	}
}

func (s *session) writeWhyAddress(a *control.WhyAddress) {
	verdict := "allowed"
	if !a.Allowed {
		verdict = "refused: " + a.Denied
	}
	by := "egress-profile"
	if a.Rule != "" {
		by = "line '" + a.Rule + "'"
	}
	if !a.Allowed && a.Rule == "" {
		by = "" // the reason says it
	}
	s.whyLine(1, "Address", a.Address)
	s.whyLine(2, "Verdict", verdict)
	s.whyLine(2, "By", by)
	if len(a.Ways) == 0 {
		return
	}
	via := "no line of egress-via"
	if a.Line != "" {
		via = "egress-via = " + a.Line
	}
	s.whyLine(2, "Ways", via)
	for _, w := range a.Ways {
		state := "up"
		switch {
		case !w.Carries:
			state = "does not carry this"
		case !w.Up:
			state = "down: " + w.Error
		}
		s.whyLine(3, w.Name, state)
	}
	if a.Name != "" {
		s.whyLine(2, "Asked as", a.Name)
	}
	if d := a.Dial; d != nil {
		result := "works"
		if !d.Works {
			result = "fails: " + d.Error
		}
		s.whyLine(2, "Connection", fmt.Sprintf("%s (%.1f ms)", result, 1000*d.Seconds))
	}
}

func (s *session) whyLine(depth int, name, value string) {
	if value != "" {
		fmt.Fprintf(s.Out, "%s%s: %s\n", strings.Repeat("\t", depth), clean(name), clean(value))
	}
}
