package worker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"time"

	"rocserv/internal/ipc"
	"rocserv/internal/packet"
	"rocserv/internal/pipe"
	"rocserv/netstack"
	"rocserv/netstack/datagram"
)

// keeperPatience is how long the client's packets wait for a keeper that does
// not read. A keeper reads whatever else it waits for, so one that does not is
// stopped or dying.
const keeperPatience = 500 * time.Millisecond

// kept are the flows of the client that workers before this one keep. All of it
// is under tunnel.upMu once the session runs.
type kept struct {
	t     *tunnel
	flows map[netstack.Flow]*keptBy
	by    []*keptBy
}

// keptBy is one keeper, as the newest worker knows it.
type keptBy struct {
	kept     *kept
	pipe     *pipe.Pipe
	gathered bool // it has packets that wait for the end of the batch
}

// takeKeepers takes over from the keepers at the other ends of fds, before the
// client is answered: a packet of a kept flow must not come to our own stack,
// which would refuse it. A keeper that does not hand over in time keeps nothing.
func (s *session) takeKeepers(fds []int) {
	deadline := time.Now().Add(handOverTimeout)
	for _, fd := range fds {
		p, err := pipe.New(fd, pipe.Config{Patience: keeperPatience})
		if err == nil {
			err = s.takeKeeper(p, deadline)
		}
		if err != nil {
			s.Log.Warn("flows of the connection before are lost", "err", err)
		}
	}
}

func (s *session) takeKeeper(p *pipe.Pipe, deadline time.Time) error {
	k := s.tunnel.kept
	if k == nil {
		k = &kept{t: &s.tunnel, flows: make(map[netstack.Flow]*keptBy)}
	}
	h := &handOver{s: s}
	err := sendNote(p, &ipc.KeeperNote{Mtu: uint32(s.offer.tunnel.MTU.Tunnel)}, time.Until(deadline))
	for err == nil && !h.complete {
		err = p.ReceiveOne(h, deadline)
	}
	if err != nil && !h.complete {
		p.Close()
		return err
	}
	if len(h.flows) == 0 {
		p.Close()
		return nil
	}
	b := &keptBy{kept: k, pipe: p}
	k.by = append(k.by, b)
	for _, f := range h.flows {
		k.flows[f] = b
	}
	s.tunnel.kept = k
	s.Log.Info("flows of the connection before go on", "tcp", len(h.flows))
	return nil
}

// handOver receives a keeper's first notes.
type handOver struct {
	s        *session
	flows    []netstack.Flow
	complete bool
}

// Packets: the keeper may begin to send as soon as it has handed over.
func (h *handOver) Packets([][]byte) {}

func (h *handOver) Message(b []byte, fds []int) error {
	defer func() { closeFDs(fds) }()
	n, err := readNote(b)
	if err != nil {
		return err
	}
	flows, err := flowsOf(n.Flows, h.s.offer.lease)
	if err != nil || len(h.flows)+len(flows) > maxKeptFlows || len(n.Mappings) != len(fds) {
		return errors.Join(errNote, err)
	}
	h.flows = append(h.flows, flows...)
	for i, m := range n.Mappings {
		saved, err := mappingOf(m)
		if err != nil {
			return err
		}
		if !h.s.offer.lease.has(saved.Key.Client.Addr()) {
			return fmt.Errorf("%w: a mapping that is not the client's", errNote)
		}
		if h.s.relay.Adopt(datagram.Carried{Saved: saved, FD: fds[i]}) {
			fds[i] = -1
		}
	}
	h.complete = n.Complete
	return nil
}

// serve starts the reading of all keepers.
func (k *kept) serve(log func(msg string, args ...any)) {
	k.t.upMu.Lock()
	defer k.t.upMu.Unlock()
	for _, b := range k.by {
		go func() {
			if err := b.pipe.Serve(b); !errors.Is(err, io.EOF) {
				log("pair to a keeper ended", "err", err)
			}
			k.remove(b)
		}()
	}
}

// take gives a TCP packet of the client to the keeper of its flow, if it has one.
func (k *kept) take(h *packet.Header, pkt []byte) bool {
	seg := h.Payload(pkt)
	if h.Proto != packet.TCP || h.Fragment || len(seg) < 4 || h.Length > pipe.MaxPacket {
		return false
	}
	b := k.flows[netstack.Flow{
		Src: netip.AddrPortFrom(h.Src, binary.BigEndian.Uint16(seg)),
		Dst: netip.AddrPortFrom(h.Dst, binary.BigEndian.Uint16(seg[2:])),
	}]
	if b == nil {
		return false
	}
	copy(b.pipe.Next(h.Length), pkt[:h.Length])
	b.pipe.Add(h.Length)
	b.gathered = true
	return true
}

// flush ends a batch of take.
func (k *kept) flush() {
	for _, b := range k.by {
		if b.gathered {
			b.gathered = false
			b.pipe.Flush()
		}
	}
}

// remove forgets a keeper that is gone.
func (k *kept) remove(b *keptBy) {
	b.pipe.Close()
	k.t.upMu.Lock()
	defer k.t.upMu.Unlock()
	maps.DeleteFunc(k.flows, func(_ netstack.Flow, by *keptBy) bool { return by == b })
	k.by = slices.DeleteFunc(k.by, func(o *keptBy) bool { return o == b })
	if len(k.by) == 0 && k.t.kept == k {
		k.t.kept = nil
	}
}

// leaveKeepers ends the pairs: the keepers wait for another newest worker.
func (t *tunnel) leaveKeepers() {
	t.upMu.Lock()
	defer t.upMu.Unlock()
	if t.kept != nil {
		for _, b := range t.kept.by {
			b.pipe.Close()
		}
	}
}

// tellMTU tells the keepers that the tunnel has become narrower.
func (k *kept) tellMTU(mtu int) {
	k.t.upMu.Lock()
	defer k.t.upMu.Unlock()
	for _, b := range k.by {
		sendNote(b.pipe, &ipc.KeeperNote{Mtu: uint32(mtu)}, keeperPatience)
	}
}

// Packets passes on what kept flows send to the client.
func (b *keptBy) Packets(pkts [][]byte) {
	t := b.kept.t
	t.Begin()
	for _, p := range pkts {
		if h, ok := packet.Parse(p); !ok || !t.lease.has(h.Dst) {
			t.counters.malformed.Add(1)
			continue
		}
		copy(t.Next(len(p)), p)
		t.Add(len(p))
	}
	t.End()
}

// Message is told which flows have ended.
func (b *keptBy) Message(m []byte, fds []int) error {
	closeFDs(fds)
	n, err := readNote(m)
	if err != nil {
		return err
	}
	k := b.kept
	flows, err := flowsOf(n.Ended, k.t.lease)
	if err != nil {
		return err
	}
	k.t.upMu.Lock()
	defer k.t.upMu.Unlock()
	for _, f := range flows {
		if k.flows[f] == b {
			delete(k.flows, f)
		}
	}
	return nil
}
