package dtls

import "sync/atomic"

// Stats are a channel's counters since Start.
type Stats struct {
	RxPackets, RxBytes uint64 // packets of the client, their bytes without type byte
	TxPackets, TxBytes uint64 // packets for the client, those of TxErrors and TooBig included
	Replayed           uint64 // records seen before, or too old to tell
	Forged             uint64 // records that did not authenticate
	Odd                uint64 // datagrams and records that do not belong here
	RxErrors           uint64 // errors of receiving, mostly what routers said of our packets
	TxErrors           uint64 // packets lost to errors of the network, or for want of keys or a channel
	TooBig             uint64 // packets lost because they were too long, and such reports of routers
	Handshakes         uint64 // completed
	Resent             uint64 // last flights sent again
	Moves              uint64 // to another address of the client
}

// counters is Stats being counted.
type counters struct {
	rxPackets, rxBytes, txPackets, txBytes atomic.Uint64
	replayed, forged, odd                  atomic.Uint64
	rxErrors, txErrors, tooBig             atomic.Uint64
	handshakes, resent, moves              atomic.Uint64
}

// Stats returns the counters. It may be called from any goroutine.
func (c *Channel) Stats() Stats {
	n := &c.count
	return Stats{
		RxPackets: n.rxPackets.Load(), RxBytes: n.rxBytes.Load(),
		TxPackets: n.txPackets.Load(), TxBytes: n.txBytes.Load(),
		Replayed: n.replayed.Load(), Forged: n.forged.Load(), Odd: n.odd.Load(),
		RxErrors: n.rxErrors.Load(), TxErrors: n.txErrors.Load(), TooBig: n.tooBig.Load(),
		Handshakes: n.handshakes.Load(), Resent: n.resent.Load(), Moves: n.moves.Load(),
	}
}

// reportTooBig counts a packet of n bytes that the network refused for its
// length; n is 0 when a router said so of an earlier one.
func (c *Channel) reportTooBig(n int) {
	c.count.tooBig.Add(1)
	if c.cfg.TooBig != nil {
		c.cfg.TooBig(c, n)
	}
}
