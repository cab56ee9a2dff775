package hostile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/ipc"
	"rocserv/internal/packet"
	"rocserv/internal/pipe"
)

// Ports of the client beside, in UDP.
const (
	echoPort  = 7
	otherPort = 9
)

// peerAttempts are what a worker may try with main's offers of a way to another
// client, and, by that way, with the other client's worker.
func peerAttempts() []Attempt {
	return append(questionAttempts(), append(notesAttempts(), packetAttempts()...)...)
}

// questionAttempts are to main.
func questionAttempts() []Attempt {
	early := []string{Pooled, Handshake, Login}
	all := append([]string{Tunnel}, early...)
	tunnel := []string{Tunnel}
	about := func(t *taken, a netip.Addr) []byte {
		return record(ipc.PeerReqT, 0, marshal(&ipc.Peer{Asked: ipc.PutAddr(a)}))
	}
	beside := func(t *taken) []byte { return about(t, t.beside) }
	answered := func(where func(*taken) netip.Addr) func(*taken, *Order) error {
		return func(t *taken, _ *Order) error {
			m, fd, err := t.askPeer(where(t))
			if err == nil && fd < 0 {
				err = fmt.Errorf("%v", m.Result)
			}
			return err
		}
	}
	return []Attempt{
		{"peers: a question without a tunnel", early, Ended, toMain(beside)},
		{"peers: a question about nothing", tunnel, Ended, toMain(fixed(record(ipc.PeerReqT, 0, nil)))},
		{"peers: a question about no address", tunnel, Ended, toMain(fixed(record(ipc.PeerReqT, 0, marshal(&ipc.Peer{Asked: []byte("alice")}))))},
		{"peers: a malformed question", tunnel, Ended, toMain(fixed(record(ipc.PeerReqT, 0, malformed)))},
		{"peers: a question too long", tunnel, Ended, toMain(fixed(tooLong(ipc.PeerReqT)))},
		{"peers: a question with an id", tunnel, Ended, toMain(func(t *taken) []byte {
			return record(ipc.PeerReqT, 7, marshal(&ipc.Peer{Asked: ipc.PutAddr(t.beside)}))
		})},
		{"peers: a question with a descriptor", tunnel, Ended, toMain(beside, 2)},
		{"peers: questions without end", tunnel, Ended, func(t *taken, o *Order) error {
			return times(200, func(t *taken) int { return t.mainRaw }, beside(t))(t, o)
		}},
		{"peers: main's word on networks", all, Ended, toMain(fixed(record(ipc.PeerNetsT, 0, nil)))},
		{"peers: main's answer", all, Ended, toMain(mains(ipc.PeerRepT))},
		{"peers: an offer to another client", all, Ended, toMain(mains(ipc.PeerPairT), 2)},
		{"peers: a question to sec-mod", []string{Handshake, Login, Tunnel}, Ended, toSecMod(beside)},
		{"peers: itself", tunnel, Refused, answered(func(t *taken) netip.Addr { return ipc.Addr(t.lease.Ipv4) })},
		{"peers: the gateway", tunnel, Refused, answered(func(t *taken) netip.Addr { return ipc.Addr(t.lease.Ipv4Gateway) })},
		{"peers: the world", tunnel, Refused, answered(func(*taken) netip.Addr { return nobody })},
		{"peers: its own network", tunnel, Refused, answered(func(t *taken) netip.Addr { return t.behind })},
	}
}

// mains is a message of main's about the client beside.
func mains(typ ipc.Type) func(*taken) []byte {
	return func(t *taken) []byte {
		return record(typ, 0, marshal(&ipc.Peer{
			Asked: ipc.PutAddr(t.beside), Result: ipc.PeerResult_PEER_OPEN, Addrs: [][]byte{ipc.PutAddr(t.beside)}, Serial: 1 << 40,
		}))
	}
}

// goodNote is what workers tell each other first.
var goodNote = note(1280, 3)

func note(mtu uint16, more ...byte) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{messageRecord}, mtu), more...)
}

// The kinds of record that a pair carries; see internal/pipe.
const (
	packetsRecord = 0
	messageRecord = 1
)

// batch is a record of packets.
func batch(pkts ...[]byte) []byte {
	rec := []byte{packetsRecord}
	for _, p := range pkts {
		rec = append(binary.BigEndian.AppendUint16(rec, uint16(len(p))), p...)
	}
	return rec
}

// toPeer sends records to the other client's worker, which must hang up.
func toPeer(make func(*taken) [][]byte, fds ...int) func(*taken, *Order) error {
	return func(t *taken, _ *Order) error {
		fd, err := t.pair()
		if err != nil {
			return stageError{err}
		}
		return t.tell(fd, make(t), fds...)
	}
}

func records(recs ...[]byte) func(*taken) [][]byte { return func(*taken) [][]byte { return recs } }

func notesAttempts() []Attempt {
	tunnel := []string{Tunnel}
	row := func(name string, recs ...[]byte) Attempt {
		return Attempt{"peer: " + name, tunnel, Broken, toPeer(records(recs...))}
	}
	honest := func(t *taken) [][]byte { return [][]byte{goodNote, batch(t.honest())} }
	return []Attempt{
		row("a note too short", note(1280)),
		row("a note too long", note(1280, 3, 0)),
		row("an empty note", []byte{messageRecord}),
		row("a tiny MTU", note(67, 3)),
		row("a huge MTU", note(pipe.MaxPacket+1, 3)),
		row("a note twice", goodNote, goodNote),
		{"peer: a note with a descriptor", tunnel, Broken, toPeer(records(goodNote), 2)},
		{"peer: a note with many descriptors", tunnel, Broken, toPeer(records(goodNote), descriptors(200)...)},
		{"peer: packets before the note", tunnel, Broken, toPeer(func(t *taken) [][]byte { return honest(t)[1:] })},
		{"peer: packets with a descriptor", tunnel, Broken, toPeer(honest, 2)},
		row("an unknown record", goodNote, []byte{2, 0, 0}),
		row("a batch of nothing", goodNote, []byte{packetsRecord}),
		row("a packet of no length", goodNote, []byte{packetsRecord, 0, 0}),
		row("half a length", goodNote, []byte{packetsRecord, 0}),
		row("a packet longer than its record", goodNote, []byte{packetsRecord, 0, 9, 'x'}),
		row("a packet too long", goodNote, batch(make([]byte, pipe.MaxPacket+1))),
		row("a record too long", goodNote, bytes.Repeat(batch(make([]byte, 254)), pipe.MaxRecord/256)),
		{"peer: an empty record", tunnel, Refused, toPeer(records(goodNote, nil))}, // as an end is
		{"peer: silence", tunnel, Refused, func(t *taken, _ *Order) error {
			fd, err := t.pair()
			if err != nil {
				return stageError{err}
			}
			_, err = receive(fd, silenceEnds, func([]byte) bool { return false })
			return err
		}},
		{"peer: another pair after a lie", tunnel, Broken, func(t *taken, o *Order) error {
			if err := toPeer(records(note(1280)))(t, o); err == nil || !errors.Is(err, errHungUp) {
				return err
			}
			fd, err := t.pair()
			if err != nil {
				return err
			}
			return t.tell(fd, honest(t))
		}},
		{"peer: honest packets", tunnel, Allowed, func(t *taken, _ *Order) error { return t.echoed(ipc.Addr(t.lease.Ipv4)) }},
		{"peer: honest packets of its network", tunnel, Allowed, func(t *taken, _ *Order) error { return t.echoed(t.behind) }},
	}
}

// silenceEnds is when an honest worker without flows looks, and has waited for a
// note as long as it does.
const silenceEnds = 17 * time.Second

// nobody is an address of no client and of no network behind one.
var nobody = netip.MustParseAddr("192.0.2.77")

// descriptors is a list of so many descriptors, all of them standard error.
func descriptors(n int) []int {
	fds := make([]int, n)
	for i := range fds {
		fds[i] = 2
	}
	return fds
}

func packetAttempts() []Attempt {
	row := func(name string, make func(t *taken, own netip.Addr) []byte) Attempt {
		return Attempt{"peer: packets " + name, []string{Tunnel}, Broken, toPeer(func(t *taken) [][]byte {
			return [][]byte{goodNote, batch(make(t, ipc.Addr(t.lease.Ipv4)))}
		})}
	}
	return []Attempt{
		row("of the world", func(t *taken, _ netip.Addr) []byte { return datagram(nobody, t.beside, 64) }),
		row("of the gateway", func(t *taken, _ netip.Addr) []byte { return datagram(ipc.Addr(t.lease.Ipv4Gateway), t.beside, 64) }),
		row("of the other client itself", func(t *taken, _ netip.Addr) []byte { return datagram(t.beside, t.beside, 64) }),
		row("of a third client", func(t *taken, own netip.Addr) []byte { return datagram(own.Next(), t.beside, 64) }),
		row("of the network behind the other", func(t *taken, _ netip.Addr) []byte { return datagram(t.behindOther, t.beside, 64) }),
		row("for the world", func(t *taken, own netip.Addr) []byte { return datagram(own, nobody, 64) }),
		row("for the gateway", func(t *taken, own netip.Addr) []byte { return datagram(own, ipc.Addr(t.lease.Ipv4Gateway), 64) }),
		row("for a third client", func(t *taken, own netip.Addr) []byte { return datagram(own, t.beside.Next(), 64) }),
		row("for its own network", func(t *taken, own netip.Addr) []byte { return datagram(own, t.behind, 64) }),
		row("without time to live", func(t *taken, own netip.Addr) []byte { return datagram(own, t.beside, 0) }),
		row("that are none", func(*taken, netip.Addr) []byte { return []byte("packet") }),
		row("longer than they are", func(t *taken, own netip.Addr) []byte { return datagram(own, t.beside, 64)[:24] }),
	}
}

// datagram is a UDP packet, to a port where nobody is.
func datagram(src, dst netip.Addr, ttl uint8) []byte {
	return datagramTo(src, netip.AddrPortFrom(dst, otherPort), ttl)
}

func datagramTo(src netip.Addr, dst netip.AddrPort, ttl uint8) []byte {
	b := make([]byte, packet.UDPOffset(false)+4)
	copy(b[packet.UDPOffset(false):], "evil")
	packet.PutUDP(b, netip.AddrPortFrom(src, 1000), dst, ttl, 1)
	return b
}

func (t *taken) honest() []byte { return datagram(ipc.Addr(t.lease.Ipv4), t.beside, 64) }

// askPeer asks main for another client; fd is -1 if there is no way to it.
func (t *taken) askPeer(a netip.Addr) (m *ipc.Peer, fd int, err error) {
	if err := t.main.Send(ipc.PeerReqT, 0, &ipc.Peer{Asked: ipc.PutAddr(a)}); err != nil {
		return nil, -1, err
	}
	for {
		rec, err := t.main.Recv()
		if err != nil {
			return nil, -1, err
		}
		if rec.Type != ipc.PeerRepT {
			rec.Close()
			continue
		}
		m, fd := new(ipc.Peer), -1
		err = rec.Decode(m)
		if len(rec.FDs) > 0 {
			fd = rec.TakeFD(0)
		}
		rec.Close()
		return m, fd, err
	}
}

// pair has main make a way to the client beside.
func (t *taken) pair() (fd int, err error) {
	m, fd, err := t.askPeer(t.beside)
	if err == nil && fd < 0 {
		err = fmt.Errorf("no way to the other client: %v", m.Result)
	}
	return fd, err
}

// stageError says that the attempt was not made.
type stageError struct{ error }

var errHungUp = errors.New("the other worker hangs up")

// tell sends records by a pair, the descriptors with the last one, and waits for
// the end of the pair.
func (t *taken) tell(fd int, recs [][]byte, fds ...int) error {
	for i, rec := range recs {
		var oob []byte
		if i == len(recs)-1 && len(fds) > 0 {
			oob = unix.UnixRights(fds...)
		}
		if err := unix.Sendmsg(fd, rec, oob, nil, unix.MSG_NOSIGNAL); err != nil && err != unix.EPIPE {
			return err
		}
	}
	_, err := receive(fd, patience, func([]byte) bool { return false })
	return err
}

// receive reads records until one is wanted, or the pair is at its end.
func receive(fd int, limit time.Duration, wanted func([]byte) bool) (found bool, err error) {
	buf := make([]byte, pipe.MaxRecord)
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		switch n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT); {
		case err == unix.EAGAIN:
		case err != nil && err != unix.ECONNRESET:
			return false, err
		case err != nil || n == 0:
			return false, errHungUp
		case wanted(buf[:n]):
			return true, nil
		}
	}
	return false, nil
}

// echoed sends what an honest worker may, and wants the other client's answer.
func (t *taken) echoed(from netip.Addr) error {
	fd, err := t.pair()
	if err != nil {
		return err
	}
	for _, rec := range [][]byte{goodNote, batch(datagramTo(from, netip.AddrPortFrom(t.beside, echoPort), 64))} {
		if err := unix.Sendto(fd, rec, unix.MSG_NOSIGNAL, nil); err != nil {
			return err
		}
	}
	found, err := receive(fd, patience, func(rec []byte) bool { return rec[0] == packetsRecord && bytes.HasSuffix(rec, []byte("evil")) })
	if err == nil && !found {
		err = errors.New("no answer")
	}
	return err
}
