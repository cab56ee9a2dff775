package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxConns     = 32
	idleTimeout  = 10 * time.Minute // between two requests, unless it listens to events
	writeTimeout = 10 * time.Second
	eventsCmd    = "events"
)

// Command answers a request: with what goes into the reply's result, nil for
// nothing, or with an error (an *Error says which code it has). ctx ends with
// the server.
type Command func(ctx context.Context, args json.RawMessage) (result any, err error)

// With makes a Command of a function with arguments of type A.
func With[A any](f func(context.Context, A) (any, error)) Command {
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		var a A
		if len(raw) > 0 {
			if err := decode(raw, &a); err != nil {
				return nil, Errorf(BadRequest, "arguments: %v", err)
			}
		}
		return f(ctx, a)
	}
}

// Server serves one socket.
type Server struct {
	commands map[string]Command
	log      *slog.Logger
	uid      int // whose processes may ask, beside root's
	ctx      context.Context
	cancel   context.CancelFunc

	mu       sync.Mutex // protects what follows
	conns    map[*conn]bool
	listener *Socket
	closed   bool

	busy sync.WaitGroup // requests that are being answered
}

// NewServer makes a server of the commands, which are the table of all that
// can be asked but for events.
func NewServer(commands map[string]Command, log *slog.Logger) *Server {
	s := &Server{commands: commands, log: log, uid: os.Getuid(), conns: make(map[*conn]bool)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Serve accepts connections until Close. It takes over the socket.
func (s *Server) Serve(l *Socket) {
	s.mu.Lock()
	s.listener = l
	closed := s.closed
	s.mu.Unlock()
	if closed {
		l.Close()
		return
	}
	for {
		c, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil { // no descriptor left
			s.log.Warn("control connection not accepted", "err", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		s.admit(c)
	}
}

// admit turns strangers away without a word, and those for whom there is no
// place with one.
func (s *Server) admit(uc *net.UnixConn) {
	cred, err := peerCred(uc)
	if err != nil || cred.Uid != 0 && int(cred.Uid) != s.uid {
		s.log.Warn("control connection refused", "cred", fmt.Sprintf("%+v", cred), "err", err)
		uc.Close()
		return
	}
	c := &conn{srv: s, uc: uc}
	s.mu.Lock()
	full := len(s.conns) >= maxConns
	closed := s.closed
	if !full && !closed {
		s.conns[c] = true
	}
	s.mu.Unlock()
	switch {
	case closed:
		uc.Close()
	case full:
		uc.SetWriteDeadline(time.Now().Add(time.Second))
		c.reply(0, nil, Errorf(Busy, "too many control connections"))
		uc.Close()
	default:
		go c.serve()
	}
}

// peerCred is who is at the other end, by the kernel's word.
func peerCred(c *net.UnixConn) (*unix.Ucred, error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	cerr := rc.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if cerr != nil {
		return nil, cerr
	}
	return cred, err
}

// Publish tells everybody who listens. It never waits.
func (s *Server) Publish(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.events != nil {
			c.events.offer(e)
		}
	}
}

// Close ends the server and every connection.
func (s *Server) Close() {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.listener != nil {
		s.listener.Close()
	}
	for c := range s.conns {
		c.uc.Close()
	}
}

// Release ends the server and every connection once the requests that it has
// begun are answered, for which they have that long, and returns its socket,
// which goes on listening.
func (s *Server) Release(patience time.Duration) *Socket {
	s.mu.Lock()
	s.closed = true
	l := s.listener
	s.mu.Unlock()
	if l != nil {
		l.SetDeadline(time.Now().Add(-time.Second)) // Serve returns
	}
	answered := make(chan struct{})
	go func() {
		s.busy.Wait()
		close(answered)
	}()
	select {
	case <-answered:
	case <-time.After(patience):
	}
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.uc.Close()
	}
	return l
}

// conn is one connection.
type conn struct {
	srv    *Server
	uc     *net.UnixConn
	events *queue // of srv.mu: set while it listens

	mu sync.Mutex // one reply at a time
}

func (c *conn) serve() {
	defer c.close()
	in := bufio.NewReaderSize(c.uc, MaxRequest)
	for {
		c.uc.SetReadDeadline(c.patience())
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			c.reply(0, nil, Errorf(BadRequest, "a request has at most %d bytes", MaxRequest))
			return
		}
		if err != nil {
			return
		}
		c.srv.mu.Lock()
		closed := c.srv.closed
		if !closed {
			c.srv.busy.Add(1)
		}
		c.srv.mu.Unlock()
		if closed {
			return
		}
		more := c.execute(line)
		c.srv.busy.Done()
		if !more {
			return
		}
	}
}

func (c *conn) patience() time.Time {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	if c.events != nil {
		return time.Time{}
	}
	return time.Now().Add(idleTimeout)
}

// execute deals with one line. false ends the connection.
func (c *conn) execute(line []byte) bool {
	r, err := parseRequest(line)
	if err != nil {
		return c.reply(r.ID, nil, err)
	}
	if r.Cmd == eventsCmd {
		return c.listen(r)
	}
	cmd, ok := c.srv.commands[r.Cmd]
	if !ok {
		return c.reply(r.ID, nil, Errorf(Unknown, "there is no command %q", r.Cmd))
	}
	result, err := c.srv.call(cmd, r)
	return c.reply(r.ID, result, err)
}

// call runs a command. A mistake of ours costs one request.
func (s *Server) call(cmd Command, r Request) (result any, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("internal error", "command", r.Cmd, "panic", p, "stack", string(debug.Stack()))
			result, err = nil, Errorf(Failed, "internal error")
		}
	}()
	return cmd(s.ctx, r.Args)
}

// reply writes an answer and says whether the connection is still good.
func (c *conn) reply(id uint64, result any, err error) bool {
	r := Reply{V: Version, ID: id, OK: err == nil}
	if err == nil && result != nil {
		r.Result, err = json.Marshal(result)
	}
	if err != nil {
		r.OK, r.Result = false, nil
		if !errors.As(err, &r.Error) {
			r.Error = Errorf(Failed, "%v", err)
		}
	}
	return c.write(r)
}

func (c *conn) write(r Reply) bool {
	b, err := json.Marshal(r)
	if err != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.uc.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err = c.uc.Write(append(b, '\n'))
	return err == nil
}

// listen makes the connection one that gets events.
func (c *conn) listen(r Request) bool {
	var a EventsArgs
	if len(r.Args) > 0 {
		if err := decode(r.Args, &a); err != nil {
			return c.reply(r.ID, nil, Errorf(BadRequest, "arguments: %v", err))
		}
	}
	q := newQueue(r.ID, a.Types)
	c.srv.mu.Lock()
	twice := c.events != nil
	if !twice {
		c.events = q
	}
	c.srv.mu.Unlock()
	if twice {
		return c.reply(r.ID, nil, Errorf(BadRequest, "this connection listens to events already"))
	}
	if !c.reply(r.ID, nil, nil) {
		return false
	}
	go c.tell(q)
	return true
}

// tell writes events until the connection ends.
func (c *conn) tell(q *queue) {
	for {
		e, ok := q.next()
		if !ok {
			return
		}
		if !c.write(Reply{V: Version, ID: q.id, OK: true, Event: &e}) {
			c.uc.Close() // serve ends by it
			return
		}
	}
}

func (c *conn) close() {
	c.uc.Close()
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	delete(c.srv.conns, c)
	if c.events != nil {
		c.events.close()
	}
}

// queueLength is how many events wait for a listener that is slow.
const queueLength = 256

// queue holds the events that a listener has not taken.
type queue struct {
	id    uint64
	types []string // empty: all
	wake  chan struct{}
	done  chan struct{}

	mu   sync.Mutex // protects what follows
	list []Event
	lost int
}

func newQueue(id uint64, types []string) *queue {
	return &queue{id: id, types: types, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// offer adds an event, or counts it as lost.
func (q *queue) offer(e Event) {
	if len(q.types) > 0 && !slices.Contains(q.types, e.Type) {
		return
	}
	q.mu.Lock()
	if len(q.list) < queueLength {
		q.list = append(q.list, e)
	} else {
		q.lost++
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next waits for an event. false is the end.
func (q *queue) next() (Event, bool) {
	for {
		if e, ok := q.take(); ok {
			return e, true
		}
		select {
		case <-q.wake:
		case <-q.done:
			return Event{}, false
		}
	}
}

// take returns what waits longest; what was lost came after all of that.
func (q *queue) take() (Event, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.list) > 0 {
		e := q.list[0]
		q.list = slices.Delete(q.list, 0, 1)
		return e, true
	}
	if q.lost > 0 {
		e := Event{Time: time.Now(), Type: EventLost, Lost: q.lost}
		q.lost = 0
		return e, true
	}
	return Event{}, false
}

func (q *queue) close() { close(q.done) }
