package secmod

import (
	"encoding/json"
	"fmt"
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
	Bits4          int            `json:",omitempty"` // of the network IPv4 is in
	Net6           netip.Prefix   `json:",omitzero"`  // all of it is the session's
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
		RxPerSec: m.RxBytesPerS, TxPerSec: m.TxBytesPerS, Bits4: int(min(m.Ipv4Bits, 32)), Net6: ipc.Prefix(m.Ipv6Network),
	}
}

// maxGrant is the longest text of a grant in bytes. What one answer of RADIUS can
// say has less; in a record its quotes are escaped, and it must fit (ipc.MaxSession).
const maxGrant = 12 << 10

// text is the grant as a session keeps it; nil and one of nothing are empty.
func (g *grant) text() (string, error) {
	if g == nil {
		return "", nil
	}
	b, err := json.Marshal(g)
	switch {
	case string(b) == "{}":
		return "", err
	case len(b) > maxGrant:
		return "", fmt.Errorf("what is granted to the session is too long to be kept: %d bytes", len(b))
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
	g.applyAddresses(u)
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

// applyAddresses makes the networks such that the addresses are in them: a server
// of the operator's gives out what it likes.
func (g *grant) applyAddresses(u *config.User) {
	if g.IPv4.Is4() {
		u.ExplicitIPv4 = g.IPv4
		bits := 24 // where nothing else is said
		if u.IPv4Network.IsValid() {
			bits = u.IPv4Network.Bits()
		}
		if g.Bits4 > 0 && g.Bits4 <= 30 { // a host's mask says nothing of a network
			bits, u.IPv4Network = g.Bits4, netip.Prefix{}
		}
		if !u.IPv4Network.Contains(g.IPv4) {
			u.IPv4Network = netip.PrefixFrom(g.IPv4, bits).Masked()
		}
	}
	if g.Net6.Addr().Is6() {
		u.IPv6Network, u.IPv6SubnetBits, u.ExplicitIPv6 = g.Net6, g.Net6.Bits(), netip.Addr{}
	}
	if g.IPv6.Is6() {
		u.ExplicitIPv6 = g.IPv6
		if !u.IPv6Network.Contains(g.IPv6) {
			const lan = 64
			u.IPv6Network, u.IPv6SubnetBits = netip.PrefixFrom(g.IPv6, lan).Masked(), 128
		}
	}
}
