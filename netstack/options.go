package netstack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// The stack makes every segment of a flow so short that it could carry SACK blocks
// too, as many as the header has room for: 28 of 1382 bytes, for what segments with
// data hardly ever have. RFC 6691 section 2 has a sender take off the options that
// are there. So the stack is told of packets longer by what it sets aside, by the
// client's SYN, the interface and an endpoint's MTU, and the link cuts those that do
// have SACK blocks shorter (link.longest).
const (
	tsOptionLen = 12 // NOP, NOP, timestamps: what every segment of a flow carries
	// sackRoom and sackRoomTS are what the stack sets aside in segments without
	// timestamps (NOP, NOP, four blocks) and with them (three), in bytes.
	sackRoom   = 2 + 2 + 4*8
	sackRoomTS = 2 + 2 + 3*8
)

// setAside is what the stack sets aside in a flow that has agreed on these options.
func setAside(sack, timestamps bool) int {
	switch {
	case !sack:
		return 0
	case timestamps:
		return sackRoomTS
	}
	return sackRoom
}

// raiseMSS raises the MSS option of a client's SYN to what is reasonable, and by what
// the stack sets aside.
func raiseMSS(opts []byte) {
	said := header.ParseSynOptions(opts, false)
	room := setAside(said.SACKPermitted, said.TS)
	for len(opts) > 0 {
		switch opts[0] {
		case header.TCPOptionEOL:
			return
		case header.TCPOptionNOP:
			opts = opts[1:]
			continue
		}
		if len(opts) < 2 || opts[1] < 2 || int(opts[1]) > len(opts) {
			return
		}
		if opts[0] == header.TCPOptionMSS && opts[1] == header.TCPOptionMSSLength {
			mss := max(int(binary.BigEndian.Uint16(opts[2:])), minMSS) + room
			binary.BigEndian.PutUint16(opts[2:], uint16(min(mss, 0xffff)))
		}
		opts = opts[opts[1]:]
	}
}

// setAside is what the stack sets aside in segments of the flow, which is open.
func (f *flow) setAside() int { return setAside(f.ep.SACKPermitted, f.ep.SendTSOk) }

// segment is the payload of the flow's longest packet in a tunnel of that MTU.
func (f *flow) segment(mtu int) int {
	n := f.payloadOf(mtu) - header.TCPMinimumSize
	if f.ep.SendTSOk {
		n -= tsOptionLen
	}
	return n
}

// sackLen is how many bytes of a TCP header of the stack's are SACK blocks: of
// options it sends timestamps and those.
func sackLen(t header.TCP) int {
	n := int(t.DataOffset()) - header.TCPMinimumSize
	if opts := t[header.TCPMinimumSize:]; n >= tsOptionLen && onlyTimestamps(opts[:tsOptionLen]) {
		n -= tsOptionLen
	}
	return n
}
