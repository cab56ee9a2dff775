package worker

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/ipc"
	"rocserv/internal/pipe"
	"rocserv/nat"
	"rocserv/netstack"
	"rocserv/netstack/datagram"
)

const (
	// handOverTimeout bounds how long the newest worker waits for a keeper's
	// notes, and a keeper for the newest one to take them.
	handOverTimeout = 2 * time.Second

	// In one note. A flow takes up to 44 bytes, a mapping one of the
	// descriptors that a message can carry.
	flowsPerNote    = 1000
	mappingsPerNote = pipe.MaxFDs

	maxKeptFlows = 4096 // that a keeper may name: netstack's own limit, twice for those that end
)

var errNote = errors.New("worker: malformed note of another worker")

// sendNote sends a KeeperNote by a pair whose sending side is the caller's.
func sendNote(p *pipe.Pipe, n *ipc.KeeperNote, timeout time.Duration, fds ...int) error {
	b, err := n.MarshalVT()
	if err != nil {
		return err
	}
	return p.Message(b, time.Now().Add(timeout), fds...)
}

func readNote(b []byte) (*ipc.KeeperNote, error) {
	n := new(ipc.KeeperNote)
	if err := n.UnmarshalVT(b); err != nil {
		return nil, errNote
	}
	return n, nil
}

// sendFlows names flows, as those that are kept or those that have ended.
func sendFlows(p *pipe.Pipe, flows []netstack.Flow, timeout time.Duration, put func(*ipc.KeeperNote, []*ipc.TcpFlow)) error {
	for len(flows) > 0 {
		n := min(len(flows), flowsPerNote)
		var list []*ipc.TcpFlow
		for _, f := range flows[:n] {
			list = append(list, &ipc.TcpFlow{Src: ipc.PutAddrPort(f.Src), Dst: ipc.PutAddrPort(f.Dst)})
		}
		note := new(ipc.KeeperNote)
		put(note, list)
		if err := sendNote(p, note, timeout); err != nil {
			return err
		}
		flows = flows[n:]
	}
	return nil
}

func keptFlowsNote(n *ipc.KeeperNote, l []*ipc.TcpFlow)  { n.Flows = l }
func endedFlowsNote(n *ipc.KeeperNote, l []*ipc.TcpFlow) { n.Ended = l }

// sendMappings hands over mappings and their sockets. All descriptors are
// closed here in any case.
func sendMappings(p *pipe.Pipe, list []datagram.Carried) (err error) {
	for len(list) > 0 {
		n := min(len(list), mappingsPerNote)
		note, fds := new(ipc.KeeperNote), make([]int, n)
		for i, c := range list[:n] {
			fds[i] = c.FD
			note.Mappings = append(note.Mappings, putMapping(c.Saved))
		}
		if err == nil {
			err = sendNote(p, note, handOverTimeout, fds...)
		}
		if errors.Is(err, unix.ETOOMANYREFS) { // too many in flight: these are lost, not the flows
			err = nil
		}
		closeFDs(fds)
		list = list[n:]
	}
	return err
}

func putMapping(s nat.Saved) *ipc.NatMapping {
	m := &ipc.NatMapping{
		Kind: uint32(s.Key.Kind), Client: ipc.PutAddrPort(s.Key.Client), Class: uint32(s.Class),
		Heard: s.Heard, Asked: uint32(s.Asked), Pending: uint32(s.Pending), IdleMs: s.Idle.Milliseconds(),
	}
	for _, a := range s.Peers {
		m.Peers = append(m.Peers, ipc.PutAddr(a))
	}
	return m
}

// mappingOf reads what putMapping wrote; nat looks whether it makes sense.
func mappingOf(m *ipc.NatMapping) (nat.Saved, error) {
	s := nat.Saved{
		Key:   nat.Key{Kind: nat.Kind(m.Kind), Client: ipc.AddrPort(m.Client)},
		Class: uint8(m.Class), Heard: m.Heard, Asked: uint8(m.Asked), Pending: uint8(m.Pending),
		Idle: time.Duration(m.IdleMs) * time.Millisecond,
	}
	if m.Kind > 255 || m.Class > 255 || m.Asked > 255 || m.Pending > 255 || !s.Key.Client.IsValid() || m.IdleMs > 1<<40 {
		return s, errNote
	}
	for _, b := range m.Peers {
		a := ipc.Addr(b)
		if a.Is4() != s.Key.Client.Addr().Is4() || !a.IsValid() {
			return s, errNote
		}
		s.Peers = append(s.Peers, a)
	}
	return s, nil
}

// flowsOf reads flows of the client, whose addresses are the lease.
func flowsOf(list []*ipc.TcpFlow, lease leased) (flows []netstack.Flow, err error) {
	for _, m := range list {
		f := netstack.Flow{Src: ipc.AddrPort(m.Src), Dst: ipc.AddrPort(m.Dst)}
		if !f.Dst.IsValid() || !lease.has(f.Src.Addr()) {
			return nil, fmt.Errorf("%w: a flow that is not the client's", errNote)
		}
		flows = append(flows, f)
	}
	return flows, nil
}

// has says whether an address is the client's.
func (l *leased) has(a netip.Addr) bool { return a.IsValid() && (a == l.ipv4 || a == l.ipv6) }

func closeFDs(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
