package netstack

import (
	"errors"
	"io"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
)

// errFull stops ep.Read when the socket takes no more.
var errFull = errors.New("netstack: socket buffer full")

// rawUp writes what the client sent to the host's socket with write(2), one
// call per super-segment and without a buffer in between: ep.Read hands the
// stack's own memory to Write. It does so with the endpoint's lock held, so
// Write must not wait; rawUp waits outside, for the descriptor.
type rawUp struct {
	f    *flow
	rc   syscall.RawConn
	step func(fd uintptr) bool // u.move, bound once
	fd   int
	full bool  // the socket took less than it was given
	err  error // what ended the direction; of write(2) or of the endpoint
	turn turn  // of Config.Up
}

func newRawUp(f *flow, rc syscall.RawConn) *rawUp {
	u := &rawUp{f: f, rc: rc, turn: turn{limit: f.stack.cfg.Up}}
	u.step = u.move
	return u
}

// drain moves bytes until the endpoint is empty (nil), at its end (io.EOF) or
// something broke.
func (u *rawUp) drain() error {
	for {
		if !u.turn.wait(u.f.stack.ctx.Done()) {
			return errClosed
		}
		err := u.rc.Write(u.step)
		u.turn.end()
		if err != nil {
			return err
		}
		if !u.turn.wanted {
			return u.err
		}
	}
}

// move is called with the descriptor held, and again when it is writable after
// move returned false.
func (u *rawUp) move(fd uintptr) (done bool) {
	u.fd = int(fd)
	for {
		u.full, u.err = false, nil
		if u.turn.needed() {
			return true
		}
		res, terr := u.f.ep.Read(u, tcpip.ReadOptions{})
		if res.Count > 0 {
			u.f.movedUp(res.Count)
		}
		switch {
		case u.err != nil:
			return true
		case u.full:
			u.turn.end()
			return false
		case u.turn.wanted:
			return true
		case terr == nil:
			continue
		}
		if _, ok := terr.(*tcpip.ErrWouldBlock); !ok {
			u.err = u.f.readEnded()
		}
		return true
	}
}

// Write implements io.Writer for ep.Read, which wants an error with every
// short write.
func (u *rawUp) Write(b []byte) (int, error) {
	most := u.turn.most(len(b))
	if most == 0 {
		return 0, errFull
	}
	n, err := writeFD(u.fd, b[:most])
	u.turn.moved(n)
	switch {
	case err == nil && n == most && n < len(b):
		return n, errFull // another turn
	case err == nil && n == len(b):
		return n, nil
	case err == nil:
		u.full = true
		return n, errFull
	case err == syscall.EAGAIN:
		u.full = true
		return 0, errFull
	}
	u.err = err
	return 0, err
}

// movedUp accounts for n bytes the network took. ModerateRecvBuf is how the
// receive window grows: gVisor leaves the call to whoever reads.
func (f *flow) movedUp(n int) {
	f.ep.ModerateRecvBuf(n)
	f.half.moved(f.stack)
}

// rawDown reads the host's socket when it is readable and the client's
// endpoint has room, and only then has a buffer.
type rawDown struct {
	f       *feed
	rc      syscall.RawConn
	step    func(fd uintptr) bool // d.move, bound once
	buf     *[]byte               // what p is a part of; nil when p is empty
	p       payload
	pace    pace
	turn    turn // of Config.Down
	blocked bool
	err     error
}

func newRawDown(f *feed, rc syscall.RawConn) *rawDown {
	d := &rawDown{f: f, rc: rc, turn: turn{limit: f.stack.cfg.Down}}
	d.step = d.move
	return d
}

// run moves bytes until the host's FIN (io.EOF) or something broke.
func (d *rawDown) run() error {
	defer func() { d.release() }()
	for {
		d.blocked = false
		err := d.rc.Read(d.step)
		d.turn.end()
		if err != nil {
			return err
		}
		if d.err != nil {
			return d.err
		}
		if d.turn.wanted && !d.turn.wait(d.f.stack.ctx.Done()) {
			return errClosed
		}
		if d.blocked {
			<-d.f.ready
			if err := d.f.send(&d.p); err != nil {
				return err
			}
			d.release()
		}
	}
}

// move is called with the descriptor held, and again when it is readable after
// move returned false. It returns true to have run wait for the client.
func (d *rawDown) move(fd uintptr) (done bool) {
	for {
		if d.f.full() {
			d.blocked = true
			return true
		}
		if d.turn.needed() {
			return true
		}
		d.buf = d.f.stack.buffers.get(d.pace.bulk())
		n, err := readFD(int(fd), (*d.buf)[:d.f.stack.readSize(d.f.flow, len(*d.buf))])
		switch {
		case err == syscall.EAGAIN:
			d.release()
			d.turn.end()
			return false
		case err != nil:
			d.err = err
			return true
		case n == 0:
			d.err = io.EOF
			return true
		}
		d.turn.moved(n)
		d.turn.end() // the client may keep us waiting
		d.pace.read(d.f.flow, n)
		d.f.half.moved(d.f.stack) // before the client can know of them
		d.p = payload{b: (*d.buf)[:n]}
		d.blocked, d.err = d.f.trySend(&d.p)
		if d.blocked || d.err != nil {
			return true
		}
		d.release()
		if d.pace.bulk() {
			runtime.Gosched() // to the client's acknowledgements, and to other flows
		}
	}
}

func (d *rawDown) release() {
	if d.buf != nil {
		d.f.stack.buffers.put(d.buf)
		d.buf, d.p = nil, payload{}
	}
}

func readFD(fd int, b []byte) (int, error)  { return transfer(unix.SYS_READ, fd, b) }
func writeFD(fd int, b []byte) (int, error) { return transfer(unix.SYS_WRITE, fd, b) }

// transfer does not tell the runtime that it calls the kernel: the sockets never
// block. If it did, each call of more than 20 µs would have the runtime's
// monitor give the worker's processor to another thread, and back (measured).
func transfer(call uintptr, fd int, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case unix.EINTR:
			continue
		case 0:
			return int(n), nil
		}
		return 0, errno
	}
}
