package secmod

import (
	"encoding/json"
	"net/netip"
	"time"

	"rocserv/internal/config"
	"rocserv/internal/ipc"
)

// grant is what the method's server said of a session at its login. It is kept
// with the session, and takes effect whenever that is opened.
type grant struct {
	IPv4           netip.Addr     `json:",omitzero"`
	IPv6           netip.Addr     `json:",omitzero"`
	Routes         []netip.Prefix `json:",omitempty"`
	DNS            []netip.Addr   `json:",omitempty"`
	SessionTimeout time.Duration  `json:",omitempty"`
	IdleTimeout    time.Duration  `json:",omitempty"`
	Interim        time.Duration  `json:",omitempty"`
	RxPerSec       uint64         `json:",omitempty"`
	TxPerSec       uint64         `json:",omitempty"`
}

func grantOf(m *ipc.Grant) *grant {
	if m == nil {
		return nil
	}
	s := func(n uint32) time.Duration { return time.Duration(n) * time.Second }
	return &grant{
		IPv4: ipc.Addr(m.Ipv4), IPv6: ipc.Addr(m.Ipv6), Routes: ipc.Prefixes(m.Routes), DNS: ipc.Addrs(m.Dns),
		SessionTimeout: s(m.SessionTimeoutS), IdleTimeout: s(m.IdleTimeoutS), Interim: s(m.InterimS),
		RxPerSec: m.RxBytesPerS, TxPerSec: m.TxBytesPerS,
	}
}

// text is the grant as a session keeps it; nil and one of nothing are empty.
func (g *grant) text() (string, error) {
	if g == nil {
		return "", nil
	}
	b, err := json.Marshal(g)
	if string(b) == "{}" {
		return "", err
	}
	return string(b), err
}

// readGrant is the reverse of text.
func readGrant(text string) (g grant, err error) {
	if text != "" {
		err = json.Unmarshal([]byte(text), &g)
	}
	return g, err
}

// apply lets what was granted win over what the configuration says.
func (g *grant) apply(u *config.User) {
	if g.IPv4.Is4() {
		u.ExplicitIPv4 = g.IPv4
	}
	if g.IPv6.Is6() {
		u.ExplicitIPv6 = g.IPv6
	}
	if len(g.Routes) > 0 {
		u.Routes = g.Routes
	}
	if len(g.DNS) > 0 {
		u.DNS = g.DNS
	}
	if g.SessionTimeout > 0 {
		u.SessionTimeout = g.SessionTimeout
	}
	if g.IdleTimeout > 0 {
		u.IdleTimeout, u.MobileIdleTimeout = g.IdleTimeout, g.IdleTimeout
	}
	if g.Interim > 0 {
		u.StatsReport = g.Interim
	}
	if g.RxPerSec > 0 {
		u.RxPerSec = g.RxPerSec
	}
	if g.TxPerSec > 0 {
		u.TxPerSec = g.TxPerSec
	}
}
