package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"rocserv/egress"
)

const (
	// A client needs one connection (RFC 7766 section 6.2.2); more are refused.
	maxStreams = 16

	// Of one connection, so many queries wait for their answers, and so many
	// bytes of answers wait to be read; then it is not read from.
	maxPipelined = 64
	maxUnread    = 128 << 10

	// mostUnread is what those bytes may become by answers to what was on its
	// way, then it ends: answers that fit datagrams do not make it so many.
	mostUnread = 256 << 10

	// streamIdle is how long a connection without a query stays (RFC 7766
	// section 6.2.3).
	streamIdle = 30 * time.Second

	wholeAnswer = 1<<16 - 1 // bytes: what the length prefix can say
)

// clients are the client's own connections.
type clients struct {
	open  map[*stream]struct{}
	timer func(f func()) Timer
}

// stream is a connection of the client for DNS over TCP (RFC 7766): what is
// written are queries, what is read are answers, in the order in which they
// come, each with its length before it. There is no socket, and no goroutine.
type stream struct {
	r     *Resolver
	timer Timer

	mu     sync.Mutex // protects the rest; not held while the resolver is asked
	change sync.Cond
	in     []byte // of a query that is not whole
	out    []byte // answers
	asked  int    // queries without an answer
	last   time.Time
	eof    bool  // the client has ended its side
	err    error // the end
}

var _ egress.Stream = (*stream)(nil)

// DialTCP makes the other end of a client's connection.
func (r *Resolver) DialTCP(context.Context) (egress.Stream, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return nil, errClosed
	case len(r.clients.open) >= maxStreams:
		return nil, fmt.Errorf("resolver: %d connections of one client: %w", maxStreams, syscall.ECONNREFUSED)
	}
	s := &stream{r: r, last: r.now()}
	s.change.L = &s.mu
	s.timer = r.clients.timer(s.tick)
	s.timer.Reset(streamIdle)
	r.clients.open[s] = struct{}{}
	return s, nil
}

var (
	errFrame  = errors.New("resolver: no DNS message in a client's connection")
	errIdle   = fmt.Errorf("resolver: idle: %w", net.ErrClosed)
	errUnread = fmt.Errorf("resolver: answers that nobody reads: %w", net.ErrClosed)
)

// Write takes queries. It waits while too many are on their way, or too many
// answers unread: that holds up the client, and nobody else.
func (s *stream) Write(b []byte) (int, error) {
	for n := 0; ; {
		msg, took, err := s.next(b[n:])
		n += took
		if msg == nil || err != nil {
			return n, err
		}
		s.r.query(msg, request{limit: wholeAnswer, whole: true, reply: s.reply}).deliver()
	}
}

// next takes bytes up to the end of the next query; nil: there is none yet.
func (s *stream) next(b []byte) (msg []byte, took int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.err == nil && (s.asked >= maxPipelined || len(s.out) >= maxUnread) {
		s.change.Wait()
	}
	if s.err != nil {
		return nil, 0, s.err
	}
	for want := 2; ; {
		if len(s.in) >= 2 {
			want = 2 + int(binary.BigEndian.Uint16(s.in))
			if want < 2+dnsHeaderLen || want > 2+maxDNSQuery {
				s.fail(errFrame)
				return nil, took, errFrame
			}
		}
		if len(s.in) == want && want > 2 {
			break
		}
		part := b[took:min(len(b), took+want-len(s.in))]
		if len(part) == 0 {
			return nil, took, nil
		}
		s.in = append(s.in, part...)
		took += len(part)
	}
	msg, s.in = s.in[2:], nil
	if dnsFlags(msg)&dnsQR != 0 {
		s.fail(errFrame)
		return nil, took, errFrame
	}
	s.asked++
	s.last = s.r.now()
	return msg, took, nil
}

// reply takes an answer, on whatever goroutine it comes.
func (s *stream) reply(answer []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked--
	if len(s.out)+2+len(answer) > mostUnread {
		s.fail(errUnread)
	}
	if s.err == nil {
		s.out = binary.BigEndian.AppendUint16(s.out, uint16(len(answer)))
		s.out = append(s.out, answer...)
	}
	s.last = s.r.now()
	s.change.Broadcast()
}

// Read gives answers. After the client's end it ends with the last of them.
func (s *stream) Read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.out) == 0 && s.err == nil && !(s.eof && s.asked == 0) {
		s.change.Wait()
	}
	switch {
	case len(s.out) > 0:
		n := copy(b, s.out)
		if s.out = s.out[n:]; len(s.out) == 0 {
			s.out = nil
		}
		s.last = s.r.now()
		s.change.Broadcast()
		return n, nil
	case s.err == nil, errors.Is(s.err, errIdle):
		return 0, io.EOF
	}
	return 0, s.err
}

// tick ends a connection that has been idle: nothing is on its way, and what
// was answered is read or is not going to be.
func (s *stream) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	left := streamIdle - s.r.now().Sub(s.last)
	switch {
	case left > 0:
	case s.asked > 0:
		left = streamIdle
	case len(s.out) > 0:
		s.fail(errClosed)
		return
	default:
		s.fail(errIdle)
		return
	}
	s.timer.Reset(left)
}

// fail sets the end; what waits wakes up. The lock is held.
func (s *stream) fail(err error) {
	if s.err == nil {
		s.err = err
		s.in, s.out = nil, nil
		s.timer.Stop()
		s.change.Broadcast()
	}
}

// end is fail for who does not hold the lock.
func (s *stream) end(err error) {
	s.mu.Lock()
	s.fail(err)
	s.mu.Unlock()
}

// CloseWrite implements egress.Stream: no more queries come.
func (s *stream) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.eof = true
	s.change.Broadcast()
	return nil
}

// Close implements net.Conn. Answers that are on their way are lost.
func (s *stream) Close() error {
	s.end(errClosed)
	s.r.mu.Lock()
	delete(s.r.clients.open, s)
	s.r.mu.Unlock()
	return nil
}

var errNoDeadline = errors.New("resolver: a stream has no deadlines")

// A stream has no addresses of its own, and no deadlines: Close ends a wait.
func (s *stream) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *stream) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *stream) SetDeadline(time.Time) error      { return errNoDeadline }
func (s *stream) SetReadDeadline(time.Time) error  { return errNoDeadline }
func (s *stream) SetWriteDeadline(time.Time) error { return errNoDeadline }
