package stacktest

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// pipeBuffer is what one direction of a pipe holds, in bytes.
const pipeBuffer = 64 << 10

// half is one direction of a pipe.
type half struct {
	mu      sync.Mutex
	changed sync.Cond
	buf     []byte
	eof     bool
	err     error // ends both ends at once
}

func newHalf() *half {
	h := new(half)
	h.changed.L = &h.mu
	return h
}

func (h *half) read(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.buf) == 0 && !h.eof && h.err == nil {
		h.changed.Wait()
	}
	switch {
	case len(h.buf) > 0 && h.err == nil:
		n := copy(b, h.buf)
		h.buf = h.buf[n:]
		h.changed.Broadcast()
		return n, nil
	case h.err != nil:
		return 0, h.err
	}
	return 0, io.EOF
}

func (h *half) write(b []byte) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(b) > 0 {
		for len(h.buf) >= pipeBuffer && h.err == nil {
			h.changed.Wait()
		}
		if h.err != nil {
			return n, h.err
		}
		if h.eof {
			return n, syscall.EPIPE
		}
		m := min(len(b), pipeBuffer-len(h.buf))
		h.buf = append(h.buf, b[:m]...)
		n, b = n+m, b[m:]
		h.changed.Broadcast()
	}
	return n, nil
}

func (h *half) end(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.eof = true
	if h.err == nil {
		h.err = err
	}
	h.changed.Broadcast()
}

// pipe is one end of a connection in memory. It resets as TCP does: Close with
// linger 0, or with data unread, and writing to an end that is closed.
type pipe struct {
	in, out *half
	once    sync.Once
	linger  bool // Close sends FIN
	mu      sync.Mutex
}

func newPipe() (a, b *pipe) {
	x, y := newHalf(), newHalf()
	return &pipe{in: x, out: y, linger: true}, &pipe{in: y, out: x, linger: true}
}

func (p *pipe) Read(b []byte) (int, error)  { return p.in.read(b) }
func (p *pipe) Write(b []byte) (int, error) { return p.out.write(b) }

// CloseWrite says FIN.
func (p *pipe) CloseWrite() error {
	p.out.end(nil)
	return nil
}

// SetLinger with 0 lets Close say RST.
func (p *pipe) SetLinger(sec int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.linger = sec != 0
	return nil
}

func (p *pipe) Close() error {
	p.once.Do(func() {
		p.mu.Lock()
		graceful := p.linger
		p.mu.Unlock()
		p.in.mu.Lock()
		unread := len(p.in.buf) > 0
		p.in.mu.Unlock()
		if graceful && !unread {
			p.out.end(nil)
			p.in.end(syscall.ECONNRESET) // whoever writes to a closed end is told
			return
		}
		p.out.end(syscall.ECONNRESET)
		p.in.end(syscall.ECONNRESET)
	})
	return nil
}

type pipeAddr struct{}

func (pipeAddr) Network() string { return "memory" }
func (pipeAddr) String() string  { return "memory" }

func (p *pipe) LocalAddr() net.Addr  { return pipeAddr{} }
func (p *pipe) RemoteAddr() net.Addr { return pipeAddr{} }

// Deadlines are not supported.
func (p *pipe) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (p *pipe) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (p *pipe) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
