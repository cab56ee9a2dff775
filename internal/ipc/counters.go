package ipc

// Counter names one of the counters that a worker reports. They only grow; the
// DTLS ones are of the channel in use. A list of them has one number for each,
// in this order; the order never changes and new ones come last, so that main
// and a worker of different versions understand each other. (As fields of a
// message they would cost every worker 15 KB at its start.)
type Counter int

// The counters of a worker.
const (
	CountPacketsSpoofed   Counter = iota // source is not the lease
	CountPacketsMalformed                // no IP packet
	CountPacketsUnknown                  // of a CSTP or DTLS type that is none
	CountDTLSChannels                    // that were in use
	CountDTLSReplayed
	CountDTLSForged
	CountDTLSOdd
	CountDTLSRxErrors
	CountDTLSTxErrors
	CountDTLSTooBig
	CountTCPDials
	CountTCPOpened
	CountTCPRefused
	CountTCPUnreachable
	CountTCPProhibited
	CountTCPTimedOut
	CountTCPExhausted
	CountTCPGivenUp
	CountTCPHandshakesFailed
	CountTCPAtLimitFlows
	CountTCPAtLimitDials
	CountTCPRetransmits
	CountTCPFlowsTimedOut
	CountTCPInvalidSegments
	CountStackMalformed
	CountStackUnknownProtocol
	CountStackAnswersLost
	CountStackReassembled
	CountStackFragmentsDropped
	CountStackInternalErrors
	CountDatagramsUp
	CountDatagramsDown
	CountDatagramsMalformed   // wrong checksums too
	CountDatagramsUnsupported // neither UDP nor echo, multicast, time to live used up
	CountDatagramsProhibited
	CountDatagramsUnopened
	CountDatagramsUnsent
	CountDatagramsUnexpected
	CountICMPErrorsSent
	CountICMPErrorsSuppressed
	CountNATCreated
	CountNATExpired
	CountNATEvicted
	CountNATRateLimited
	CountNATFiltered
	CountGatewayEchoes
	CountGatewayRefused
	CountGatewayDropped
	CountDNSQueries
	CountDNSReplies
	CountStackUnclaimed // segments of no connection
	CountStackHops      // SYNs whose time to live was used up
	CountPeersUp        // packets to other clients
	CountPeersDown      // and from them
	CountPeersRefused   // answered: prohibited, unreachable, too big
	CountPeersDropped   // no room on the way, or no answer in time
	CountPeersForged    // from another client's worker, but not that client's
	CountPeersPairs     // pairs to other workers that were opened
	CountPacketsLimited // beyond rx-data-per-sec or tx-data-per-sec, and not TCP
	CountPeersBroken    // pairs that were ended because the other worker broke the rules
	CountNATOutOfPorts  // mappings that went, or were not made, for want of a local port
	NumCounters
)

var counterNames = [NumCounters]string{
	CountPacketsSpoofed:        "packets_spoofed",
	CountPacketsMalformed:      "packets_malformed",
	CountPacketsUnknown:        "packets_unknown",
	CountDTLSChannels:          "dtls_channels",
	CountDTLSReplayed:          "dtls_replayed",
	CountDTLSForged:            "dtls_forged",
	CountDTLSOdd:               "dtls_odd",
	CountDTLSRxErrors:          "dtls_rx_errors",
	CountDTLSTxErrors:          "dtls_tx_errors",
	CountDTLSTooBig:            "dtls_too_big",
	CountTCPDials:              "tcp_dials",
	CountTCPOpened:             "tcp_opened",
	CountTCPRefused:            "tcp_refused",
	CountTCPUnreachable:        "tcp_unreachable",
	CountTCPProhibited:         "tcp_prohibited",
	CountTCPTimedOut:           "tcp_timed_out",
	CountTCPExhausted:          "tcp_exhausted",
	CountTCPGivenUp:            "tcp_given_up",
	CountTCPHandshakesFailed:   "tcp_handshakes_failed",
	CountTCPAtLimitFlows:       "tcp_at_limit_flows",
	CountTCPAtLimitDials:       "tcp_at_limit_dials",
	CountTCPRetransmits:        "tcp_retransmits",
	CountTCPFlowsTimedOut:      "tcp_flows_timed_out",
	CountTCPInvalidSegments:    "tcp_invalid_segments",
	CountStackMalformed:        "stack_malformed",
	CountStackUnknownProtocol:  "stack_unknown_protocol",
	CountStackAnswersLost:      "stack_answers_lost",
	CountStackReassembled:      "stack_reassembled",
	CountStackFragmentsDropped: "stack_fragments_dropped",
	CountStackInternalErrors:   "stack_internal_errors",
	CountDatagramsUp:           "datagrams_up",
	CountDatagramsDown:         "datagrams_down",
	CountDatagramsMalformed:    "datagrams_malformed",
	CountDatagramsUnsupported:  "datagrams_unsupported",
	CountDatagramsProhibited:   "datagrams_prohibited",
	CountDatagramsUnopened:     "datagrams_unopened",
	CountDatagramsUnsent:       "datagrams_unsent",
	CountDatagramsUnexpected:   "datagrams_unexpected",
	CountICMPErrorsSent:        "icmp_errors_sent",
	CountICMPErrorsSuppressed:  "icmp_errors_suppressed",
	CountNATCreated:            "nat_created",
	CountNATExpired:            "nat_expired",
	CountNATEvicted:            "nat_evicted",
	CountNATRateLimited:        "nat_rate_limited",
	CountNATFiltered:           "nat_filtered",
	CountGatewayEchoes:         "gateway_echoes",
	CountGatewayRefused:        "gateway_refused",
	CountGatewayDropped:        "gateway_dropped",
	CountDNSQueries:            "dns_queries",
	CountDNSReplies:            "dns_replies",
	CountStackUnclaimed:        "stack_unclaimed",
	CountStackHops:             "stack_hops",
	CountPeersUp:               "peers_up",
	CountPeersDown:             "peers_down",
	CountPeersRefused:          "peers_refused",
	CountPeersDropped:          "peers_dropped",
	CountPeersForged:           "peers_forged",
	CountNATOutOfPorts:         "nat_out_of_ports",
	CountPeersPairs:            "peers_pairs",
	CountPacketsLimited:        "packets_limited",
	CountPeersBroken:           "peers_broken",
}

// String is the counter's name for people and programs.
func (c Counter) String() string {
	if c < 0 || c >= NumCounters {
		return ""
	}
	return counterNames[c]
}

// Counters are values by Counter.
type Counters [NumCounters]uint64

// TakeCounters reads a list as far as it is understood here.
func TakeCounters(list []uint64) (c Counters) {
	copy(c[:], list)
	return c
}

// Add adds others.
func (c *Counters) Add(o Counters) {
	for i := range c {
		c[i] += o[i]
	}
}
