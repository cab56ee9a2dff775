package worker

import (
	"crypto/tls"
	"strings"

	"rocserv/internal/ipc"
)

// stats is what main is told of a tunnel when it asks. It waits for nothing
// that a client or a network could hold up.
func (s *session) stats() *ipc.WorkerStats {
	tcp, nat := s.stack.Stats(), s.relay.Stats().NAT
	return &ipc.WorkerStats{
		BytesUp: s.tunnel.counters.bytesUp.Load(), BytesDown: s.tunnel.counters.bytesDown.Load(),
		Counters: s.counters(),
		TcpFlows: uint32(tcp.Flows), TcpDialing: uint32(tcp.Dialing), UdpFlows: uint32(nat.UDP), IcmpFlows: uint32(nat.Echo),
	}
}

// counters are all of a session's that only grow.
func (s *session) counters() []uint64 {
	m := new(ipc.Counters)
	m[ipc.CountPacketsSpoofed], m[ipc.CountPacketsMalformed] = s.tunnel.counters.spoofed.Load(), s.tunnel.counters.malformed.Load()
	m[ipc.CountPacketsUnknown], m[ipc.CountDTLSChannels] = s.tunnel.counters.unknown.Load(), s.tunnel.counters.dtls.Load()
	if d := s.tunnel.dtls.Load(); d != nil {
		n := d.ch.Stats()
		m[ipc.CountDTLSReplayed], m[ipc.CountDTLSForged], m[ipc.CountDTLSOdd] = n.Replayed, n.Forged, n.Odd
		m[ipc.CountDTLSRxErrors], m[ipc.CountDTLSTxErrors], m[ipc.CountDTLSTooBig] = n.RxErrors, n.TxErrors, n.TooBig
	}
	s.countTCP(m)
	s.countDatagrams(m)
	g := s.gateway.Stats()
	m[ipc.CountGatewayEchoes], m[ipc.CountGatewayRefused], m[ipc.CountGatewayDropped] = g.Echoes, g.Refused, g.Dropped
	m[ipc.CountDNSQueries], m[ipc.CountDNSReplies] = g.Queries, g.Replies
	o := s.tunnel.inner.peers.Stats()
	m[ipc.CountPeersUp], m[ipc.CountPeersDown], m[ipc.CountPeersRefused] = o.Up, o.Down, o.Refused
	m[ipc.CountPeersDropped], m[ipc.CountPeersForged], m[ipc.CountPeersPairs] = o.Dropped, o.Forged, o.Pairs
	m[ipc.CountPeersBroken] = o.Broken
	m[ipc.CountPacketsLimited] = s.rate.up.Dropped() + s.rate.down.Dropped()
	return m[:]
}

func (s *session) countTCP(m *ipc.Counters) {
	n := s.stack.Stats()
	m[ipc.CountTCPDials], m[ipc.CountTCPOpened], m[ipc.CountTCPRefused] = n.Dial.Begun, n.Dial.Opened, n.Dial.Refused
	m[ipc.CountTCPUnreachable], m[ipc.CountTCPProhibited], m[ipc.CountTCPTimedOut] = n.Dial.Unreachable, n.Dial.Prohibited, n.Dial.TimedOut
	m[ipc.CountTCPExhausted], m[ipc.CountTCPGivenUp], m[ipc.CountTCPHandshakesFailed] = n.Dial.Exhausted, n.Dial.GivenUp, n.Dial.HandshakesFailed
	m[ipc.CountTCPAtLimitFlows], m[ipc.CountTCPAtLimitDials] = n.Dial.AtLimitFlows, n.Dial.AtLimitDials
	m[ipc.CountTCPRetransmits], m[ipc.CountTCPFlowsTimedOut], m[ipc.CountTCPInvalidSegments] = n.TCP.Retransmits, n.TCP.FlowsTimedOut, n.TCP.InvalidSegments
	m[ipc.CountStackMalformed], m[ipc.CountStackUnknownProtocol], m[ipc.CountStackAnswersLost] = n.Packet.Malformed, n.Packet.UnknownProtocol, n.Packet.AnswersLost
	m[ipc.CountStackReassembled], m[ipc.CountStackFragmentsDropped], m[ipc.CountStackInternalErrors] = n.Packet.Reassembled, n.Packet.FragmentsDropped, n.Packet.InternalErrors
	m[ipc.CountStackUnclaimed], m[ipc.CountStackHops] = n.Packet.Unclaimed, n.Packet.Hops
}

func (s *session) countDatagrams(m *ipc.Counters) {
	n := s.relay.Stats()
	m[ipc.CountDatagramsUp], m[ipc.CountDatagramsDown] = n.Up.Packets, n.Down.Packets
	m[ipc.CountDatagramsMalformed], m[ipc.CountDatagramsUnsupported] = n.Malformed+n.Checksum, n.Unsupported+n.Multicast+n.Hops
	m[ipc.CountDatagramsProhibited], m[ipc.CountDatagramsUnopened], m[ipc.CountDatagramsUnsent] = n.Prohibited, n.Unopened, n.Unsent
	m[ipc.CountDatagramsUnexpected], m[ipc.CountICMPErrorsSent], m[ipc.CountICMPErrorsSuppressed] = n.Unexpected, n.Answered, n.Suppressed
	m[ipc.CountNATCreated], m[ipc.CountNATExpired], m[ipc.CountNATEvicted] = n.NAT.Created, n.NAT.Expired, n.NAT.Evicted
	m[ipc.CountNATRateLimited], m[ipc.CountNATFiltered], m[ipc.CountNATOutOfPorts] = n.NAT.RateLimited, n.NAT.Filtered, n.NAT.OutOfPorts
}

// tlsName describes a connection in the way of GnuTLS, which ocserv's users
// and their scripts know: (TLS1.3)-(ECDHE-SECP256R1)-(AES-256-GCM). The
// signature's part, which crypto/tls does not tell, is left out.
func tlsName(cs *tls.ConnectionState) string {
	version := strings.ReplaceAll(tls.VersionName(cs.Version), " ", "")
	suite := tls.CipherSuiteName(cs.CipherSuite)
	_, cipher, ok := strings.Cut(suite, "_WITH_") // TLS 1.2 names the key exchange too
	if !ok {
		cipher = strings.TrimPrefix(suite, "TLS_")
	}
	for _, hash := range []string{"_SHA256", "_SHA384", "_SHA"} {
		if c, ok := strings.CutSuffix(cipher, hash); ok {
			cipher = c
			break
		}
	}
	name := "(" + version + ")"
	if kx := groupName(cs.CurveID); kx != "" {
		name += "-(" + kx + ")"
	}
	return name + "-(" + strings.ReplaceAll(cipher, "_", "-") + ")"
}

// groupName is GnuTLS' name of a key exchange; empty: there was none (RSA, or a
// resumed session of TLS 1.2).
func groupName(c tls.CurveID) string {
	switch c {
	case 0:
		return ""
	case tls.CurveP256:
		return "ECDHE-SECP256R1"
	case tls.CurveP384:
		return "ECDHE-SECP384R1"
	case tls.CurveP521:
		return "ECDHE-SECP521R1"
	}
	return "ECDHE-" + strings.ToUpper(c.String())
}
