package way

import (
	"net/netip"
	"slices"

	"rocserv/egress"
)

// Explanation is which way a destination takes, and why.
type Explanation struct {
	Line string // of egress-via; empty: none holds
	Name string // by which a proxy is asked; empty: by the address
	Ways []Health
}

// Health is a way of the list and how it is.
type Health struct {
	Name    string
	Carries bool // the protocol
	Up      bool
	Err     error // the last failure of one that is down
}

// Explain says it, without any consequence. The ways that would be tried come
// first, in their order. The policy is not asked.
func (w *Ways) Explain(p egress.Proto, dst netip.AddrPort) (e Explanation) {
	l, rule, name := w.route(p, dst)
	if rule >= 0 {
		e.Line = w.cfg.Rules[rule].Text
	}
	l.mu.Lock()
	try, late, _, _ := l.choose(p)
	l.mu.Unlock()
	order := append(try, late...)
	for _, m := range l.members {
		if !slices.Contains(order, m) {
			order = append(order, m)
		}
	}
	for _, m := range order {
		h := Health{Name: m.name, Carries: m.carries(p), Up: m.status().up}
		if !h.Up {
			h.Err = m.lastError()
		}
		e.Ways = append(e.Ways, h)
	}
	if slices.ContainsFunc(order, func(m *member) bool { _, proxy := m.carrier.(proxy); return proxy }) {
		e.Name = name
	}
	return e
}

// proxy is a carrier that is told names.
type proxy interface{ asksByName() }

func (*socks) asksByName() {}
func (*web) asksByName()   {}
