package mainproc

import (
	"errors"
	"os"
	"sync"
	"time"

	"rocserv/internal/ipc"
	"rocserv/internal/secret"
)

// outgoing is a record on its way. Whoever accepts it closes the descriptors
// and erases the secret, sent or not.
type outgoing struct {
	typ    ipc.Type
	id     uint32
	msg    ipc.Message
	fds    []int
	secret secret.Bytes // part of msg
}

func (o *outgoing) dispose() {
	closeAll(o.fds)
	o.secret.Clear()
	*o = outgoing{}
}

// sender is the one writer of a channel. post never waits: a peer that does
// not read holds up nobody but itself, until ipc's write deadline passes and
// fail is called.
type sender struct {
	conn *ipc.Conn
	fail func(error) // a record could not be sent; called once
	// patience is how long the peer may not read, if that is longer than ipc's
	// write deadline. Set before run.
	patience time.Duration
	stop     chan struct{}
	done     chan struct{} // closed when run has returned

	mu     sync.Mutex // of closed, and held to put into queue
	closed bool
	queue  chan outgoing
}

func newSender(conn *ipc.Conn, length int, fail func(error)) *sender {
	return &sender{conn: conn, fail: fail, stop: make(chan struct{}), done: make(chan struct{}), queue: make(chan outgoing, length)}
}

// post queues a record and says whether it could. It takes over o's
// descriptors and secret in any case.
func (s *sender) post(o outgoing) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		select {
		case s.queue <- o:
			return true
		default:
		}
	}
	o.dispose()
	return false
}

// postSpare queues a record unless half of the queue is taken: what others have
// sent to the peer must not fill it.
func (s *sender) postSpare(o outgoing) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.queue) >= cap(s.queue)/2 {
		o.dispose()
		return false
	}
	s.queue <- o // only post and this one fill it, under mu
	return true
}

// run sends until close, or until all is sent after finish.
func (s *sender) run() {
	defer close(s.done)
	failed := false
	for {
		select { // close comes before what is queued
		case <-s.stop:
			s.drain()
			return
		default:
		}
		select {
		case <-s.stop:
		case o, more := <-s.queue:
			if !more {
				return
			}
			var err error
			if !failed {
				err = s.send(o)
			}
			o.dispose()
			if err != nil {
				failed = true
				s.fail(err)
			}
		}
	}
}

// send sends one record. On this kind of socket a record is sent whole or not
// at all, so it can be tried again.
func (s *sender) send(o outgoing) error {
	for began := time.Now(); ; {
		err := s.conn.Send(o.typ, o.id, o.msg, o.fds...)
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) >= s.patience {
			return err
		}
	}
}

// finish takes no more and has run send what is queued.
func (s *sender) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.queue)
	}
}

func (s *sender) drain() {
	for {
		select {
		case o := <-s.queue:
			o.dispose()
		default:
			return
		}
	}
}

// close ends run and disposes of what was not sent. It may be called twice.
func (s *sender) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.stop)
	}
}
