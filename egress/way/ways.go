package way

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"rocserv/egress"
	"rocserv/egress/match"
	"rocserv/egress/resolver"
)

// Config is what Ways is made of.
type Config struct {
	Direct *egress.Direct // the host's own sockets, whose policy is Policy
	Policy *egress.Policy
	Names  *egress.Names
	// Lookup resolves the names of proxies.
	Lookup resolver.Lookup

	Ways  []Definition // beside "direct" and "blackhole", which are there
	Rules []Rule       // the first that holds decides; where none does: direct

	Now func() time.Time // nil: time.Now
	Log *slog.Logger
}

// Rule is a line of egress-via.
type Rule struct {
	match.Rule
	Ways []string // by name, in order
	Text string
}

// Ways is the Network of one client whose traffic takes several ways.
type Ways struct {
	cfg     Config
	members map[string]*member
	table   *match.Table
	lists   []*list // of the rules
	rest    *list   // of what no rule holds for
}

var _ egress.Network = (*Ways)(nil)

// New makes the ways. Nothing is opened before there is traffic.
func New(cfg Config) (*Ways, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	w := &Ways{cfg: cfg, members: map[string]*member{}}
	w.add("direct", direct{cfg.Direct, cfg.Lookup})
	w.add("blackhole", blackhole{})
	for _, d := range cfg.Ways {
		c, err := w.carrier(d)
		if err != nil {
			return nil, fmt.Errorf("way %s: %w", d.Name, err)
		}
		w.add(d.Name, c)
	}
	w.rest = &list{members: []*member{w.members["direct"]}}
	where := make([]match.Rule, len(cfg.Rules))
	for i, r := range cfg.Rules {
		l, err := w.list(r.Ways)
		if err != nil {
			return nil, fmt.Errorf("rule '%s': %w", r.Text, err)
		}
		w.lists, where[i] = append(w.lists, l), r.Rule
	}
	var err error
	w.table, err = match.New(where)
	return w, err
}

func (w *Ways) list(names []string) (*list, error) {
	l := &list{}
	for _, name := range names {
		m := w.members[name]
		if m == nil {
			return nil, fmt.Errorf("no way '%s'", name)
		}
		l.members = append(l.members, m)
	}
	if len(l.members) == 0 {
		return nil, errors.New("it names no way")
	}
	return l, nil
}

// Via is how to connect by some ways, in order, to what the configuration names,
// by a name or an address: the policy is for what clients name.
func (w *Ways) Via(names []string) (resolver.Dial, error) {
	l, err := w.list(names)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, host string, port uint16) (egress.Stream, error) {
		t := target{name: host, addr: netip.AddrPortFrom(netip.IPv4Unspecified(), port), configured: true}
		if a, err := netip.ParseAddr(host); err == nil {
			t.name, t.addr = "", netip.AddrPortFrom(a, port)
		}
		return l.dial(ctx, t)
	}, nil
}

func (w *Ways) add(name string, c carrier) {
	w.members[name] = &member{name: name, carrier: c, now: w.cfg.Now, log: w.cfg.Log}
}

func (w *Ways) carrier(d Definition) (carrier, error) {
	s := server{Definition: d, net: w.cfg.Direct.Bound(d.Binding), lookup: w.cfg.Lookup}
	switch d.Kind {
	case Direct:
		return direct{s.net, w.cfg.Lookup}, nil
	case Blackhole:
		return blackhole{}, nil
	case SOCKS5:
		return &socks{server: s, policy: w.cfg.Policy, now: w.cfg.Now, log: w.cfg.Log}, nil
	case HTTP, HTTPS:
		if s.TLS.ServerName == "" {
			s.TLS.ServerName = s.Host
		}
		if s.TLS.Protocols == nil {
			s.TLS.Protocols = []string{"h2", "http/1.1"}
		}
		return &web{server: s}, nil
	}
	return nil, fmt.Errorf("no kind '%s'", d.Kind)
}

// Close ends what proxies have of this client but for its streams.
func (w *Ways) Close() {
	for _, m := range w.members {
		m.close()
	}
}

// route is where a destination goes: the list, its rule or match.None, and the
// name that a proxy is told.
func (w *Ways) route(p egress.Proto, dst netip.AddrPort) (l *list, rule int, name string) {
	a := dst.Addr().Unmap()
	var names []string
	if w.cfg.Names != nil {
		if names = w.cfg.Names.Of(a); len(names) > 0 {
			name = names[0]
		}
	}
	rule = w.table.Find(uint8(p), a, dst.Port(), names)
	if rule == match.None {
		return w.rest, rule, name
	}
	return w.lists[rule], rule, name
}

// Check implements egress.Network.
func (w *Ways) Check(p egress.Proto, dst netip.AddrPort) error {
	if err := w.cfg.Policy.Check(p, dst); err != nil {
		return err
	}
	if l, _, _ := w.route(p, dst); !l.carries(p) {
		return errCannot
	}
	return nil
}

// DialTCP implements egress.Network.
func (w *Ways) DialTCP(ctx context.Context, _, dst netip.AddrPort) (egress.Stream, error) {
	if err := w.cfg.Policy.Check(egress.TCP, dst); err != nil {
		return nil, err
	}
	l, _, name := w.route(egress.TCP, dst)
	return l.dial(ctx, target{addr: dst, name: name})
}

// OpenUDP implements egress.Network.
func (w *Ways) OpenUDP(v6 bool, r egress.Receiver) (egress.PacketSocket, error) {
	return &socket{ways: w, proto: egress.UDP, v6: v6, r: r}, nil
}

// OpenPing implements egress.Network.
func (w *Ways) OpenPing(v6 bool, r egress.Receiver) (egress.PacketSocket, error) {
	p := egress.ICMP
	if v6 {
		p = egress.ICMPv6
	}
	return &socket{ways: w, proto: p, v6: v6, r: r}, nil
}
