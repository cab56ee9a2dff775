package mainproc

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	"rocserv/internal/config"
	"rocserv/internal/control"
	"rocserv/internal/ipc"
	"rocserv/internal/lease"
)

// held is a session with its tunnel, as both were at one moment.
type held struct {
	worker *worker
	safeID string
	user   string
	login  int64
	lease  lease.Lease
	info   *ipc.SessionInfo
	device string
	past   traffic
}

// traffic is bytes of inner packets.
type traffic struct{ up, down uint64 }

// shown is what a session has only to be shown.
type shown struct {
	device string // a label where ocserv has a tun device: vpns0
	number int    // of it
	past   traffic
}

// label gives a session the smallest number that is free. t.mu is held.
func (t *sessions) label(prefix string) shown {
	n := 0
	for t.devices[n] {
		n++
	}
	t.devices[n] = true
	return shown{device: prefix + strconv.Itoa(n), number: n}
}

// tunnels returns all sessions with a tunnel, the longest connected first.
func (t *sessions) tunnels() []held {
	t.mu.RLock()
	defer t.mu.RUnlock()
	list := make([]held, 0, t.live)
	for _, s := range t.bySID {
		if s.newest != nil {
			list = append(list, t.held(s, s.newest))
		}
	}
	slices.SortFunc(list, func(a, b held) int { return a.worker.since().Compare(b.worker.since()) })
	return list
}

// hold is the session s as far as its worker w is concerned.
func (t *sessions) hold(s *session, w *worker) held {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.held(s, w)
}

func (t *sessions) held(s *session, w *worker) held {
	h := held{worker: w, safeID: s.safeID, user: s.user, login: s.login, lease: s.lease, device: s.shown.device, past: s.shown.past}
	if s.newest == w {
		h.info = s.info
	}
	return h
}

// account adds what a worker of the session has carried.
func (t *sessions) account(s *session, n traffic) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rev.Add(1)
	s.shown.past.up += n.up
	s.shown.past.down += n.down
}

// setMTU notes a new MTU of the session's tunnel.
func (t *sessions) setMTU(w *worker, s *session, mtu uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.newest == w && s.info != nil {
		s.info.Mtu = mtu
	}
}

func (w *worker) since() time.Time {
	if d := w.about.Load(); d != nil {
		return d.connected
	}
	return time.Time{}
}

// show is the session for people and programs.
func (h held) show() control.Session {
	w := h.worker
	w.mu.Lock()
	who := w.who
	w.mu.Unlock()
	m, at := w.counted()
	s := control.Session{
		ID: w.child.pid, Session: h.safeID, User: h.user, State: control.StateConnected, Device: h.device,
		RemoteIP: who.peer.Addr().String(), LocalIP: who.local.Addr().String(),
		IPv4: addrText(h.lease.IPv4), IPv4PtP: addrText(h.lease.Gateway4), IPv6: addrText(h.lease.IPv6), IPv6PtP: addrText(h.lease.Gateway6),
		Login: time.UnixMilli(h.login),
		Traffic: control.Traffic{
			RX: m.BytesUp, TX: m.BytesDown, TotalRX: h.past.up + m.BytesUp, TotalTX: h.past.down + m.BytesDown, At: at,
			More: counterMap(ipc.TakeCounters(m.Counters)),
		},
	}
	for name, n := range map[string]uint32{
		"flows_tcp": m.TcpFlows, "flows_tcp_dialing": m.TcpDialing, "flows_udp": m.UdpFlows, "flows_icmp": m.IcmpFlows,
	} {
		s.Traffic.More[name] = uint64(n)
	}
	s.Traffic.More["udp_ports"] = uint64(w.srv.credits.of(w))
	if d := w.about.Load(); d != nil {
		s.Group, s.Vhost, s.Hostname, s.UserAgent, s.Mobile, s.Connected = d.group, d.vhost, d.hostname, d.userAgent, d.mobile, d.connected
		s.Config = configOf(d)
	}
	if i := h.info; i != nil {
		s.MTU = int(i.Mtu)
		s.Channel = control.Channel{
			TLS: i.TlsSuite, DTLS: i.DtlsSuite, CSTPCompression: i.CstpCompression, DTLSCompression: i.DtlsCompression,
		}
		if p := ipc.AddrPort(i.DtlsPeer); p.IsValid() {
			s.Channel.DTLSPeer = p.String()
		}
	}
	return s
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// counterMap is the counters by name, without those that are 0.
func counterMap(c ipc.Counters) map[string]uint64 {
	m := make(map[string]uint64)
	for i, n := range c {
		if n > 0 {
			m[ipc.Counter(i).String()] = n
		}
	}
	return m
}

// configOf is the part of a user's configuration that operators look for.
func configOf(d *detail) control.Config {
	c := d.config
	dpd := c.DpdS
	if d.mobile {
		dpd = c.MobileDpdS
	}
	return control.Config{
		DPD: int(dpd), Keepalive: int(c.KeepaliveS), LimitRX: c.RxBytesPerS, LimitTX: c.TxBytesPerS,
		DNS: addrTexts(c.Dns), NBNS: addrTexts(c.Nbns), SplitDNS: notNil(c.SplitDns),
		Routes: notNil(c.Routes), NoRoutes: notNil(c.NoRoutes), IRoutes: notNil(config.RouteStrings(ipc.Prefixes(c.Iroutes))),
		RestrictedToRoutes: c.RestrictToRoutes, RestrictedToPorts: portTexts(c),
	}
}

// notNil is never nil: in JSON it is a list.
func notNil(s []string) []string { return append([]string{}, s...) }

func addrTexts(all [][]byte) []string {
	texts := []string{}
	for _, b := range all {
		if a := ipc.Addr(b); a.IsValid() {
			texts = append(texts, a.String())
		}
	}
	return texts
}

// portTexts is restrict-user-to-ports as occtl shows it: tcp(443), !udp(53), icmp().
func portTexts(c *ipc.SessionConfig) []string {
	texts := []string{}
	for _, r := range c.Ports {
		port := ""
		if r.Port != 0 {
			port = strconv.Itoa(int(r.Port))
		}
		text := r.Proto + "(" + port + ")"
		if c.PortsDeny {
			text = "!" + text
		}
		texts = append(texts, text)
	}
	return texts
}
