package pipe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// MaxRecord is the longest record in bytes. A super-segment of the stack
	// (60000 bytes) fits with its lengths.
	MaxRecord = 64 << 10
	// MaxPacket is the longest packet in bytes.
	MaxPacket = 16 << 10
	// MaxFDs is how many descriptors one message may carry; the kernel's own
	// bound is 253 (SCM_MAX_FD).
	MaxFDs = 128

	// sendBuffer is asked of the kernel, which gives what its limit allows.
	sendBuffer = 1 << 20
)

// The kinds of record.
const (
	packets byte = iota
	message
)

// Forever is a Patience without end.
const Forever time.Duration = -1

// ErrFormat is returned by Serve for a record that breaks the rules.
var ErrFormat = errors.New("pipe: malformed record")

// Config says how a pipe behaves.
type Config struct {
	// Patience is how long Flush waits for room: 0 not at all, Forever as long
	// as it takes.
	Patience time.Duration
}

// Receiver is told what arrives, from Serve's goroutine.
type Receiver interface {
	// Packets gives the packets of one record, valid until it returns.
	Packets(pkts [][]byte)
	// Message gives a message, valid until it returns, and its descriptors,
	// which are the receiver's to close. An error ends Serve.
	Message(b []byte, fds []int) error
}

// Pipe is one end of a pair.
type Pipe struct {
	cfg  Config
	conn *net.UnixConn
	raw  syscall.RawConn

	// Owned by the sending side.
	out    []byte // the record being gathered; nil: none
	send   func(fd uintptr) bool
	try    func(fd uintptr) // send, without its result
	sent   error
	failed error // of sending, kept: everything later is discarded

	// Owned by Serve.
	recv  func(fd uintptr) bool
	to    Receiver
	pkts  [][]byte
	ended error

	dropped atomic.Uint64
}

// room is what one record is received into; see ipc.
type room struct {
	rec [MaxRecord + 1]byte // one byte more than allowed, so that a longer record shows
	oob [16 + 4*MaxFDs]byte // unix.CmsgSpace(4*MaxFDs)
	hdr unix.Msghdr
	iov unix.Iovec
}

// recvmsg is unix.Recvmsg without its allocation.
func (r *room) recvmsg(fd uintptr) (n int, errno unix.Errno) {
	r.iov.Base = &r.rec[0]
	r.iov.SetLen(len(r.rec))
	r.hdr = unix.Msghdr{Iov: &r.iov, Control: &r.oob[0]}
	r.hdr.SetIovlen(1)
	r.hdr.SetControllen(len(r.oob))
	for {
		got, _, errno := unix.Syscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&r.hdr)), unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		if errno != unix.EINTR {
			return int(got), errno
		}
	}
}

var rooms = sync.Pool{New: func() any { return new(room) }}

// New takes over the descriptor fd, also if it fails.
func New(fd int, cfg Config) (*Pipe, error) {
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
	f := os.NewFile(uintptr(fd), "pipe")
	if f == nil {
		return nil, fmt.Errorf("pipe: descriptor %d is not open", fd)
	}
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	uc, ok := c.(*net.UnixConn)
	if !ok || uc.LocalAddr().Network() != "unixpacket" {
		c.Close()
		return nil, errors.New("pipe: the descriptor is no SEQPACKET socket")
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("pipe: %w", err)
	}
	p := &Pipe{cfg: cfg, conn: uc, raw: raw}
	p.send, p.recv = p.sendmsg, p.recvmsg
	p.try = func(fd uintptr) { p.sendmsg(fd) }
	return p, nil
}

// Close closes the pipe; who waits in Flush, Message or Serve returns.
func (p *Pipe) Close() error { return p.conn.Close() }

// Hangup ends the pipe as Close does, but waits for nobody: Serve returns io.EOF
// when the Receiver has taken what it is taking, and Close is still to be called.
func (p *Pipe) Hangup() {
	p.raw.Control(func(fd uintptr) { unix.Shutdown(int(fd), unix.SHUT_RDWR) })
}

// Dropped is how many packets found no room.
func (p *Pipe) Dropped() uint64 { return p.dropped.Load() }

// Next returns room for a packet of n bytes.
func (p *Pipe) Next(n int) []byte {
	if n > MaxPacket {
		panic(fmt.Sprintf("pipe: internal error: packet of %d bytes", n))
	}
	if len(p.out)+2+n > MaxRecord {
		p.Flush()
	}
	if p.out == nil {
		p.out = append(make([]byte, 0, MaxRecord), packets)
	}
	at := len(p.out) + 2
	return p.out[at : at+n : at+n]
}

// Add makes the first n bytes of the room Next gave a packet.
func (p *Pipe) Add(n int) {
	at := len(p.out)
	p.out = p.out[:at+2+n]
	binary.BigEndian.PutUint16(p.out[at:], uint16(n))
}

// Flush sends what was added, or drops it.
func (p *Pipe) Flush() {
	if len(p.out) <= 1 {
		return
	}
	if p.failed == nil && !p.write(p.cfg.Patience) {
		p.dropped.Add(countPackets(p.out))
	}
	p.out = p.out[:1]
}

// Trim gives the buffer of the sending side back. The caller serialises it with
// Next, Add and Flush.
func (p *Pipe) Trim() {
	if len(p.out) <= 1 {
		p.out = nil
	}
}

// write sends p.out; false if there was no room in time, or nobody is there.
func (p *Pipe) write(patience time.Duration) bool {
	p.sent = unix.EAGAIN
	if err := p.raw.Control(p.try); err != nil {
		p.sent = err
	}
	if errors.Is(p.sent, unix.EAGAIN) && patience != 0 {
		deadline := time.Time{}
		if patience > 0 {
			deadline = time.Now().Add(patience)
		}
		p.conn.SetWriteDeadline(deadline)
		if err := p.raw.Write(p.send); err != nil {
			p.sent = err
		}
	}
	switch {
	case p.sent == nil:
		return true
	case errors.Is(p.sent, unix.EAGAIN), errors.Is(p.sent, os.ErrDeadlineExceeded):
	default:
		p.failed = p.sent
	}
	return false
}

// sendmsg is one attempt; false: try again when there is room.
func (p *Pipe) sendmsg(fd uintptr) bool {
	for {
		p.sent = unix.Sendto(int(fd), p.out, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil)
		if p.sent != unix.EINTR {
			return p.sent != unix.EAGAIN
		}
	}
}

// Message sends b with descriptors, which stay the caller's, after the packets
// that were added. It waits no longer than until deadline (zero: for ever).
func (p *Pipe) Message(b []byte, deadline time.Time, fds ...int) error {
	if len(b)+1 > MaxRecord || len(fds) > MaxFDs {
		panic(fmt.Sprintf("pipe: internal error: message of %d bytes with %d descriptors", len(b), len(fds)))
	}
	p.Flush()
	if p.failed != nil {
		return p.failed
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	p.conn.SetWriteDeadline(deadline)
	if _, _, err := p.conn.WriteMsgUnix(append([]byte{message}, b...), oob, nil); err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	return nil
}

// Serve reads records and gives them to r until the pipe ends: io.EOF when the
// other end is gone, net.ErrClosed after Close, ErrFormat, or what r said.
func (p *Pipe) Serve(r Receiver) error {
	p.to = r
	for {
		if err := p.receive(); err != nil {
			return err
		}
	}
}

// ReceiveOne is for a dialogue before Serve: it gives one record to r, and waits for
// it no longer than until deadline.
func (p *Pipe) ReceiveOne(r Receiver, deadline time.Time) error {
	p.to = r
	p.conn.SetReadDeadline(deadline)
	defer p.conn.SetReadDeadline(time.Time{})
	return p.receive()
}

func (p *Pipe) receive() error {
	p.ended = nil
	if err := p.raw.Read(p.recv); err != nil {
		return err
	}
	return p.ended
}

// recvmsg takes one record; false: there is none yet.
func (p *Pipe) recvmsg(fd uintptr) bool {
	r := rooms.Get().(*room)
	defer rooms.Put(r)
	n, errno := r.recvmsg(fd)
	oob := r.oob[:r.hdr.Controllen]
	switch {
	case errno == unix.EAGAIN:
		return false
	case errno != 0:
		p.ended = fmt.Errorf("pipe: %w", errno)
	case n == 0 && len(oob) == 0:
		p.ended = io.EOF
	default:
		p.ended = p.deliver(r.rec[:n], oob, int(r.hdr.Flags))
	}
	return true
}

// deliver gives one record to the receiver.
func (p *Pipe) deliver(rec, oob []byte, flags int) error {
	fds, err := rights(oob)
	if err != nil || len(rec) == 0 || len(rec) > MaxRecord || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		closeAll(fds)
		return ErrFormat
	}
	if rec[0] == message {
		return p.to.Message(rec[1:], fds)
	}
	if len(fds) > 0 || rec[0] != packets {
		closeAll(fds)
		return ErrFormat
	}
	var ok bool
	if p.pkts, ok = parse(p.pkts[:0], rec[1:]); !ok {
		return ErrFormat
	}
	p.to.Packets(p.pkts)
	clear(p.pkts)
	return nil
}

// parse cuts a batch into packets.
func parse(dst [][]byte, b []byte) (pkts [][]byte, ok bool) {
	for len(b) > 0 {
		if len(b) < 2 {
			return dst, false
		}
		n := int(binary.BigEndian.Uint16(b))
		if n == 0 || n > MaxPacket || n > len(b)-2 {
			return dst, false
		}
		dst = append(dst, b[2:2+n:2+n])
		b = b[2+n:]
	}
	return dst, len(dst) > 0
}

func countPackets(rec []byte) (n uint64) {
	for b := rec[1:]; len(b) >= 2; n++ {
		b = b[2+int(binary.BigEndian.Uint16(b)):]
	}
	return n
}

// rights takes the descriptors out of control messages.
func rights(oob []byte) (fds []int, err error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range msgs {
		got, rerr := unix.ParseUnixRights(&msgs[i])
		if rerr != nil {
			err = rerr
			continue
		}
		fds = append(fds, got...)
	}
	return fds, err
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
