package worker

import (
	"net/netip"
	"time"

	"rocserv/egress"
	"rocserv/internal/ipc"
	"rocserv/internal/wire"
)

// From messages to what the worker works with.

var none netip.Addr

func seconds(n uint32) time.Duration { return time.Duration(n) * time.Second }

func leaseOf(l *ipc.Lease) leased {
	return leased{
		ipv4: ipc.Addr(l.Ipv4), gateway4: ipc.Addr(l.Ipv4Gateway),
		ipv6: ipc.Addr(l.Ipv6), gateway6: ipc.Addr(l.Ipv6Gateway),
	}
}

func addressesOf(have leased, l *ipc.Lease, old6 bool) wire.Addresses {
	return wire.Addresses{IPv4: have.ipv4, Bits4: int(l.Ipv4Bits), IPv6: have.ipv6, Bits6: int(l.Ipv6Bits), Old6: old6}
}

// namesOf offers our own resolver where the operator names none.
func namesOf(cfg *ipc.SessionConfig, have leased) wire.Names {
	n := wire.Names{
		DNS: ipc.Addrs(cfg.Dns), NBNS: ipc.Addrs(cfg.Nbns),
		Split: cfg.SplitDns, Domain: cfg.DefaultDomain, TunnelAll: cfg.TunnelAllDns,
	}
	if len(n.DNS) == 0 {
		for _, a := range []netip.Addr{have.gateway4, have.gateway6} {
			if a.IsValid() {
				n.DNS = append(n.DNS, a)
			}
		}
	}
	return n
}

// prefixes leaves out what is no route: config has refused those already.
func prefixes(routes []string) (list []netip.Prefix) {
	for _, r := range routes {
		if p, err := wire.ParseRoute(r); err == nil {
			list = append(list, p)
		}
	}
	return list
}

func dpdOf(cfg *ipc.SessionConfig, mobile bool) time.Duration {
	if mobile && cfg.MobileDpdS > 0 {
		return seconds(cfg.MobileDpdS)
	}
	return seconds(cfg.DpdS)
}

func idleOf(cfg *ipc.SessionConfig, mobile bool) time.Duration {
	if mobile && cfg.MobileIdleTimeoutS > 0 {
		return seconds(cfg.MobileIdleTimeoutS)
	}
	return seconds(cfg.IdleTimeoutS)
}

// timersOf is what the client is told.
func timersOf(cfg *ipc.SessionConfig, mobile bool, login time.Time) wire.Timers {
	t := wire.Timers{
		DPD: dpdOf(cfg, mobile), Keepalive: seconds(cfg.KeepaliveS),
		Idle: idleOf(cfg, mobile), Session: seconds(cfg.SessionTimeoutS), Rekey: seconds(cfg.RekeyS),
	}
	if t.Session > 0 {
		t.SessionLeft = max(time.Until(login.Add(t.Session)).Round(time.Second), time.Second)
	}
	return t
}

// timeoutsOf is what the worker itself watches.
func timeoutsOf(cfg *ipc.SessionConfig, mobile bool, login time.Time) timeouts {
	t := timeouts{
		dpd: dpdOf(cfg, mobile), switchToTCP: seconds(cfg.SwitchToTcpS),
		idle: idleOf(cfg, mobile), stats: seconds(cfg.StatsReportS),
	}
	if t.stats > 0 {
		t.stats = max(t.stats, 10*time.Second) // as ocserv
	}
	if cfg.SessionTimeoutS > 0 {
		t.sessionEnd = login.Add(seconds(cfg.SessionTimeoutS))
	}
	return t
}

func hostOf(m *ipc.HostInfo) egress.Host {
	h := egress.Host{OwnNets: ipc.Prefixes(m.OwnNets), Denied: ipc.Prefixes(m.Denied), NAT64: ipc.Prefixes(m.Nat64)}
	for _, n := range h.OwnNets {
		h.OwnAddrs = append(h.OwnAddrs, n.Addr())
	}
	return h
}
