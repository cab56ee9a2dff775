package worker

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/faketime"

	"rocserv/egress"
	"rocserv/internal/ipc"
)

// An operator is told what the client's own policy and network do, of each
// address of a name.
func TestWhy(t *testing.T) {
	in := newInside(t, faketime.NewManualClock())
	defer in.close()
	s := in.s
	s.names = egress.NewNames(nil)
	rule := func(text string, allow bool, d *ipc.Destination) *ipc.EgressRule {
		return &ipc.EgressRule{Text: text, Allow: allow, Where: d}
	}
	cfg := &ipc.SessionConfig{Egress: &ipc.EgressPolicy{Internet: true, Rules: []*ipc.EgressRule{
		rule("deny *.bad.example", false, &ipc.Destination{Domains: []string{"*.bad.example"}}),
		rule("allow 10.0.0.5/32", true, &ipc.Destination{Nets: [][]byte{ipc.PutPrefix(netip.MustParsePrefix("10.0.0.5/32"))}}),
	}}}
	var err error
	if s.policy, err = policyOf(cfg, &ipc.HostInfo{}, s.names); err != nil {
		t.Fatal(err)
	}
	s.outside.Lookup = func(_ context.Context, name string) ([]netip.Addr, error) {
		if name == "none.example" {
			return nil, errors.New("no such name")
		}
		return []netip.Addr{netip.MustParseAddr("198.18.7.1"), netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("203.0.114.9")}, nil
	}
	ask := func(host string) (all []string) {
		a := s.why(&ipc.Why{Host: host, Port: 443, Proto: 6})
		if a.Error != "" {
			return []string{a.Error}
		}
		for _, x := range a.Addresses {
			text := ipc.Addr(x.Addr).String() + " denied=" + x.Denied + " rule=" + x.Rule
			for _, w := range x.Ways {
				text += " " + w.Name
			}
			all = append(all, text)
		}
		return all
	}
	for host, want := range map[string]string{
		"127.0.0.1":       "127.0.0.1 denied=loopback rule=",
		"::ffff:10.0.0.5": "10.0.0.5 denied= rule=allow 10.0.0.5/32 direct",
		"10.0.0.6":        "10.0.0.6 denied=private address rule=",
		"203.0.114.1":     "203.0.114.1 denied= rule= direct",
		"none.example":    "no such name",
		"www.example":     "198.18.7.1 denied=special-purpose address rule=\n10.0.0.5 denied= rule=allow 10.0.0.5/32 direct\n203.0.114.9 denied= rule= direct",
	} {
		if got := strings.Join(ask(host), "\n"); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", host, got, want)
		}
	}
	if got := strings.Join(ask("x.bad.example"), "\n"); strings.Count(got, "denied=egress-deny rule=deny *.bad.example") != 3 {
		t.Errorf("a name that is denied:\n%s", got)
	}
	s.outside.Lookup = nil
	if got := ask("www.example"); got[0] != "there is no resolver" {
		t.Errorf("%q", got)
	}
}

// With dial the connection is made by the client's network, and no more than
// that: nothing is dialled that is refused.
func TestWhyDials(t *testing.T) {
	in := newInside(t, faketime.NewManualClock())
	defer in.close()
	s := in.s
	s.names, s.policy = egress.NewNames(nil), in.net.policy
	a := s.why(&ipc.Why{Host: "127.0.0.1", Port: 80, Proto: 6, Dial: true})
	if x := a.Addresses[0]; x.Dialled || x.Denied != "loopback" {
		t.Errorf("%v", x)
	}
	a = s.why(&ipc.Why{Host: "203.0.114.1", Port: 80, Proto: 6, Dial: true})
	if x := a.Addresses[0]; !x.Dialled || x.Failure == "" {
		t.Errorf("nobody listens there: %v", x)
	}
	if a := s.why(&ipc.Why{Host: "203.0.114.1", Port: 80, Proto: 17, Dial: true}); a.Addresses[0].Dialled {
		t.Error("a datagram is no connection")
	}
}
