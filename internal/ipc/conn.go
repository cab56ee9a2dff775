package ipc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// MaxRecord is the longest record in bytes; what can be longer travels in a memfd.
	MaxRecord = 64 << 10
	// MaxSession is the longest content of a SECM_RECORD in bytes. Most have some
	// hundreds; what a server of the operator's grants is kept there too.
	MaxSession = 32 << 10
	header     = 1 + 4

	// sendTimeout bounds how long a peer that does not read may hold up a sender.
	sendTimeout = 5 * time.Second
)

// ErrViolation is what Recv and Decode return for a record that breaks the
// protocol. Whoever sent it is not to be listened to again.
var ErrViolation = errors.New("ipc: protocol violation")

func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrViolation, fmt.Sprintf(format, args...))
}

// Message is a message of ipc.proto: protobuf with code of its own for the wire
// (vtprotobuf). The tables of protobuf's reflection, which the first message
// makes for all, would be a fifth of an idle worker's heap.
type Message interface {
	described
	SizeVT() int
	MarshalToSizedBufferVT([]byte) (int, error)
	UnmarshalVT([]byte) error
}

// Conn is one end of a channel. Send may be called from several goroutines,
// Recv and Call from one at a time.
type Conn struct {
	uc      *net.UnixConn
	rc      syscall.RawConn
	trusted bool
}

// room is what one Recv reads into. It is taken when there is something to
// read and given back at once: a thousand channels that wait hold none.
type room struct {
	rec [MaxRecord + 1]byte // one byte more than allowed, so that a longer record shows
	oob [64]byte            // maxFDs and more
}

var rooms = sync.Pool{New: func() any { return new(room) }}

// NewConn takes over the descriptor fd, one end of a SEQPACKET socket pair.
func NewConn(fd int) (*Conn, error) {
	f := os.NewFile(uintptr(fd), "ipc")
	if f == nil {
		return nil, fmt.Errorf("ipc: descriptor %d is not open", fd)
	}
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("ipc: descriptor %d: %w", fd, err)
	}
	uc, ok := c.(*net.UnixConn)
	if !ok || uc.LocalAddr().Network() != "unixpacket" {
		c.Close()
		return nil, fmt.Errorf("ipc: descriptor %d is no SEQPACKET socket", fd)
	}
	rc, err := uc.SyscallConn()
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("ipc: descriptor %d: %w", fd, err)
	}
	return &Conn{uc: uc, rc: rc}, nil
}

// Pair makes a channel: the near end to use here, the far end, a plain
// close-on-exec descriptor, to give away and close.
func Pair() (near *Conn, far int, err error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("ipc: socketpair: %w", err)
	}
	near, err = NewConn(p[0])
	if err != nil {
		unix.Close(p[1])
		return nil, -1, err
	}
	return near, p[1], nil
}

// Trust is for a worker's channels to main and sec-mod: strings in what comes are
// not checked to be UTF-8, which needs protobuf's reflection.
func (c *Conn) Trust() { c.trusted = true }

// Close closes the channel; a parked Recv or Send returns net.ErrClosed.
func (c *Conn) Close() error { return c.uc.Close() }

// Interrupt makes Recv fail with os.ErrDeadlineExceeded, now and from now on.
// What has not been received stays for who reads the descriptor next.
func (c *Conn) Interrupt() { c.uc.SetReadDeadline(time.Now().Add(-time.Second)) }

// SyscallConn gives access to the descriptor.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.rc, nil }

// Send sends one record with the descriptors its type declares, which stay the
// caller's. It fails with os.ErrDeadlineExceeded if the peer does not read.
func (c *Conn) Send(t Type, id uint32, m Message, fds ...int) error {
	rec := make([]byte, header+m.SizeVT())
	rec[0] = byte(t)
	binary.BigEndian.PutUint32(rec[1:], id)
	defer clear(rec) // may hold a password or a SID
	if _, err := m.MarshalToSizedBufferVT(rec[header:]); err != nil {
		return fmt.Errorf("ipc: %v: %w", t, err)
	}
	if len(rec) > MaxRecord {
		return fmt.Errorf("ipc: %v of %d bytes is longer than a record", t, len(rec))
	}
	if !fdsFit(t, len(fds)) {
		return fmt.Errorf("ipc: %v with %d descriptors", t, len(fds))
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	c.uc.SetWriteDeadline(time.Now().Add(sendTimeout))
	if _, _, err := c.uc.WriteMsgUnix(rec, oob, nil); err != nil {
		return fmt.Errorf("ipc: send %v: %w", t, err)
	}
	return nil
}

// Record is one received message. FDs are the receiver's to close.
type Record struct {
	Type Type
	ID   uint32
	Body []byte
	FDs  []int

	trusted bool
}

// Recv waits for the next record: io.EOF when the peer is gone, ErrViolation
// for a record that breaks the rules (its descriptors are closed already).
// The body is the caller's.
func (c *Conn) Recv() (rec Record, err error) {
	rerr := c.rc.Read(func(fd uintptr) bool {
		r := rooms.Get().(*room)
		defer rooms.Put(r)
		n, oobn, flags, _, e := recvmsg(int(fd), r)
		switch {
		case e == unix.EAGAIN:
			return false
		case e != nil:
			err = os.NewSyscallError("recvmsg", e)
		case n == 0 && oobn == 0:
			err = io.EOF
		default:
			rec, err = newRecord(r.rec[:n], r.oob[:oobn], flags)
			rec.trusted = c.trusted
			clear(r.rec[:n])
		}
		return true
	})
	if rerr != nil {
		return Record{}, rerr
	}
	return rec, err
}

// recvmsg receives once. A peer that ended with records unread resets the channel,
// of which the kernel tells once, before what the peer had sent.
func recvmsg(fd int, r *room) (n, oobn, flags int, from unix.Sockaddr, err error) {
	for {
		n, oobn, flags, from, err = unix.Recvmsg(fd, r.rec[:], r.oob[:], unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR && err != unix.ECONNRESET {
			return n, oobn, flags, from, err
		}
	}
}

// newRecord makes a record of what was received.
func newRecord(b, oob []byte, flags int) (Record, error) {
	fds, err := parseFDs(oob)
	rec := Record{FDs: fds}
	if err == nil {
		err = rec.check(b, flags)
	}
	if err != nil {
		rec.Close()
		return Record{}, err
	}
	return rec, nil
}

// check fills the record in from its bytes, or says what is wrong with it.
func (r *Record) check(b []byte, flags int) error {
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || len(b) > MaxRecord {
		return violation("record longer than allowed")
	}
	if len(b) < header {
		return violation("record of %d bytes", len(b))
	}
	r.Type, r.ID = Type(b[0]), binary.BigEndian.Uint32(b[1:])
	if typeNames[r.Type] == "" {
		return violation("%v is unknown", r.Type)
	}
	if !fdsFit(r.Type, len(r.FDs)) {
		return violation("%v with %d descriptors", r.Type, len(r.FDs))
	}
	r.Body = append([]byte(nil), b[header:]...)
	return nil
}

// Decode fills m from the record's body.
func (r *Record) Decode(m Message) error {
	var err error
	if r.trusted {
		err = m.UnmarshalVT(r.Body)
	} else {
		err = unmarshal(r.Body, m)
	}
	if err != nil {
		return violation("%v: %v", r.Type, err)
	}
	return nil
}

// Clear erases the body, for messages that carry secrets.
func (r *Record) Clear() { clear(r.Body) }

// Close closes the descriptors that were not taken out of FDs.
func (r *Record) Close() {
	for _, fd := range r.FDs {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	r.FDs = nil
}

// TakeFD gives the i-th descriptor to the caller; Close no longer closes it.
func (r *Record) TakeFD(i int) int {
	fd := r.FDs[i]
	r.FDs[i] = -1
	return fd
}

// Call is a lock-step request: it sends and waits for the answer, which must be
// of type want and carry no descriptor. Only for channels without notifications.
func (c *Conn) Call(t Type, req Message, want Type, rep Message) error {
	rec, err := c.call(t, req, want)
	if err != nil {
		return err
	}
	defer rec.Close()
	defer rec.Clear()
	if len(rec.FDs) > 0 {
		return violation("%v with a descriptor", rec.Type)
	}
	return rec.Decode(rep)
}

// CallSealed is Call for an answer that is what a sealed memfd holds; nil: there
// was none.
func (c *Conn) CallSealed(t Type, req Message, want Type) ([]byte, error) {
	rec, err := c.call(t, req, want)
	if err != nil {
		return nil, err
	}
	defer rec.Close()
	if len(rec.FDs) == 0 {
		return nil, nil
	}
	return ReadSealed(rec.FDs[0])
}

func (c *Conn) call(t Type, req Message, want Type) (Record, error) {
	if err := c.Send(t, 0, req); err != nil {
		return Record{}, err
	}
	rec, err := c.Recv()
	if err != nil {
		return Record{}, fmt.Errorf("ipc: waiting for %v: %w", want, err)
	}
	if rec.Type != want {
		rec.Clear()
		rec.Close()
		return Record{}, violation("%v while waiting for %v", rec.Type, want)
	}
	return rec, nil
}

func fdsFit(t Type, n int) bool {
	lim := fds[t]
	return n >= lim[0] && n <= lim[1]
}

// parseFDs takes the descriptors out of control messages. What is no
// descriptor is a violation; the descriptors found are returned in any case.
func parseFDs(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, violation("control message: %v", err)
	}
	var all []int
	for i := range msgs {
		got, rerr := unix.ParseUnixRights(&msgs[i])
		if rerr != nil {
			err = violation("control message: %v", rerr)
			continue
		}
		all = append(all, got...)
	}
	return all, err
}
