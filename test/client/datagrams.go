package client

import (
	"encoding/binary"
	"errors"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"rocserv/internal/dtlsrecord"
	"rocserv/internal/wire"
)

const (
	typeLen     = 1
	maxSegments = 64
	maxDatagram = 65000
	rcvBuf      = 4 << 20
)

// datagrams is the DTLS channel after its handshake.
type datagrams struct {
	conn   *net.UDPConn
	raw    syscall.RawConn
	suite  dtlsrecord.Suite
	sealer *dtlsrecord.Sealer
	opener *dtlsrecord.Opener

	// Sending: buf[:w] are records of seg bytes each, the last perhaps shorter.
	buf    []byte
	w, seg int
	count  int
	closed bool // a shorter one was added

	in  []byte
	oob []byte
}

func newDatagrams(conn *net.UDPConn, suite dtlsrecord.Suite, secret *dtlsrecord.Secret, next uint64) (*datagrams, error) {
	d := &datagrams{conn: conn, suite: suite}
	d.sealer, d.opener = suite.NewClient(secret, next)
	var err error
	if d.raw, err = conn.SyscallConn(); err != nil {
		return nil, err
	}
	d.raw.Control(func(fd uintptr) {
		unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, rcvBuf) // as root
		unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_GRO, 1)
	})
	return d, nil
}

// Next returns room for one packet.
func (d *datagrams) Next(n int) []byte {
	if d.buf == nil {
		d.buf = make([]byte, 2*maxDatagram)
	}
	start := d.w + d.suite.Headroom() + typeLen
	return d.buf[start : start+n]
}

// Add makes the first n bytes of the room a packet.
func (d *datagrams) Add(typ wire.PacketType, n int) {
	d.buf[d.w+d.suite.Headroom()] = byte(typ)
	size, err := d.sealer.Seal(d.buf[d.w:], dtlsrecord.TypeApplicationData, typeLen+n)
	if err != nil {
		panic(err) // 2^48 packets
	}
	if d.count > 0 && (d.closed || size > d.seg || d.count == maxSegments || d.w+size > maxDatagram) {
		end := d.w
		d.send()
		copy(d.buf, d.buf[end:end+size])
	}
	if d.count == 0 {
		d.seg = size
	}
	d.closed = size < d.seg
	d.count++
	d.w += size
}

// Flush sends what was added.
func (d *datagrams) Flush() {
	if d.count > 0 {
		d.send()
	}
}

func (d *datagrams) send() {
	var oob []byte
	if d.count > 1 {
		oob = segmentOption(d.seg)
	}
	b := d.buf[:d.w]
	d.raw.Write(func(fd uintptr) bool {
		_, err := unix.SendmsgN(int(fd), b, oob, nil, unix.MSG_DONTWAIT)
		return !errors.Is(err, unix.EAGAIN) // other errors: UDP may lose packets
	})
	d.w, d.count, d.closed = 0, 0, false
}

func segmentOption(size int) []byte {
	b := make([]byte, unix.CmsgSpace(2))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(b[unix.CmsgLen(0):], uint16(size))
	return b
}

// receive waits for a datagram, or for several that came as one, and gives the
// packets in it to take. The error is the socket's end.
func (d *datagrams) receive(take func(typ wire.PacketType, payload []byte)) error {
	if d.in == nil {
		d.in, d.oob = make([]byte, 1<<16), make([]byte, 64)
	}
	var n, oobn int
	var rerr error
	err := d.raw.Read(func(fd uintptr) bool {
		n, oobn, _, _, rerr = unix.Recvmsg(int(fd), d.in, d.oob, unix.MSG_DONTWAIT)
		return !errors.Is(rerr, unix.EAGAIN)
	})
	if err != nil {
		return err
	}
	if rerr != nil {
		return nil // what a router said of something we sent
	}
	size := segmentOf(d.oob[:oobn])
	for b := d.in[:n]; len(b) > 0; {
		datagram := b[:min(len(b), max(size, 1))]
		if size == 0 {
			datagram = b
		}
		b = b[len(datagram):]
		plain, err := d.opener.Open(datagram)
		if err == nil && len(plain) > 0 {
			take(wire.PacketType(plain[0]), plain[typeLen:])
		}
	}
	return nil
}

// segmentOf is how long the datagrams in one are, 0 if there is only one.
func segmentOf(oob []byte) int {
	for len(oob) >= unix.CmsgLen(4) {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
		if h.Level == unix.SOL_UDP && h.Type == unix.UDP_GRO {
			return int(binary.NativeEndian.Uint32(oob[unix.CmsgLen(0):]))
		}
		next := unix.CmsgSpace(int(h.Len) - unix.CmsgLen(0))
		if next <= 0 || next > len(oob) {
			return 0
		}
		oob = oob[next:]
	}
	return 0
}

func (d *datagrams) close() { d.conn.Close() }
