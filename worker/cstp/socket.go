package cstp

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket reads from and writes to a TCP connection that never blocks without
// telling the runtime. What it tells it otherwise costs: with one processor a
// write that takes longer than 20 µs has the runtime's monitor hand that to
// another thread, look again every 20 µs from then on, and the writer wait until
// it has it back (measured: a tenth of all the time of a worker under load).
type socket struct {
	net.Conn
	rc      syscall.RawConn
	in, out transfer
	backlog backlog
}

// transfer is one read or write that is under way.
type transfer struct {
	call  uintptr
	step  func(fd uintptr) bool // t.move, bound once
	b     []byte
	n     int
	errno syscall.Errno
}

// newSocket returns c itself where it has no descriptor.
func newSocket(c net.Conn) net.Conn {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return c
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return c
	}
	s := &socket{Conn: c, rc: rc}
	s.in.call, s.in.step = unix.SYS_READ, s.in.once
	s.out.call, s.out.step = unix.SYS_WRITE, s.out.all
	s.backlog.look = s.backlog.count
	return s
}

// SyscallConn implements syscall.Conn, for the options of the socket.
func (s *socket) SyscallConn() (syscall.RawConn, error) { return s.rc, nil }

func (t *transfer) move(fd uintptr) (again bool) {
	for {
		n, _, errno := unix.RawSyscall(t.call, fd, uintptr(unsafe.Pointer(&t.b[0])), uintptr(len(t.b)))
		switch t.errno = errno; errno {
		case unix.EINTR:
			continue
		case 0:
			t.n += int(n)
			t.b = t.b[n:]
		case unix.EAGAIN:
			t.errno = 0
			return true
		}
		return false
	}
}

func (t *transfer) once(fd uintptr) bool { return !t.move(fd) }

func (t *transfer) all(fd uintptr) bool {
	for t.errno == 0 && len(t.b) > 0 {
		if t.move(fd) {
			return false
		}
	}
	return true
}

func (t *transfer) begin(b []byte) { t.b, t.n, t.errno = b, 0, 0 }

// end is what became of it; err is why it had to stop waiting.
func (t *transfer) end(op string, err error) (int, error) {
	t.b = nil
	if t.errno != 0 {
		err = os.NewSyscallError(op, t.errno)
	}
	return t.n, err
}

// Read is for one goroutine at a time.
func (s *socket) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	s.in.begin(b)
	n, err := s.in.end("read", s.rc.Read(s.in.step))
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// Write is for one goroutine at a time.
func (s *socket) Write(b []byte) (int, error) {
	s.out.begin(b)
	return s.out.end("write", s.rc.Write(s.out.step))
}
