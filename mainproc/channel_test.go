package mainproc

import (
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/ipc"
	"rocserv/internal/secret"
)

// pair returns both ends of a channel.
func pair(t *testing.T) (near, far *ipc.Conn) {
	t.Helper()
	near, fd, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	if far, err = ipc.NewConn(fd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// pipeFD is a descriptor whose end shows at reader: a read returns 0.
func pipeFD(t *testing.T) (fd int, closed func() bool) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]) })
	return p[1], func() bool {
		var b [1]byte
		n, err := unix.Read(p[0], b[:])
		return n == 0 && err == nil
	}
}

func TestSender(t *testing.T) {
	near, far := pair(t)
	s := newSender(near, 2, func(err error) { t.Error(err) })
	fd, closed := pipeFD(t)
	sid := []byte("secret")
	m := &ipc.SecmSessionOpen{Sid: sid}
	if !s.post(outgoing{typ: ipc.SecmSessionOpenT, id: 7, msg: m, secret: secret.NewBytes(sid)}) {
		t.Fatal("not queued")
	}
	if !s.post(outgoing{typ: ipc.SecmWorkerT, msg: new(ipc.SecmWorker), fds: []int{fd}}) {
		t.Fatal("not queued")
	}
	// Full: what does not fit is disposed of at once.
	fd2, closed2 := pipeFD(t)
	if s.post(outgoing{typ: ipc.SecmWorkerT, msg: new(ipc.SecmWorker), fds: []int{fd2}}) || !closed2() {
		t.Error("the queue has no bound, or keeps what it does not take")
	}
	var wg sync.WaitGroup
	wg.Go(s.run)
	rec, err := far.Recv()
	if err != nil || rec.Type != ipc.SecmSessionOpenT || rec.ID != 7 {
		t.Fatalf("%+v, %v", rec, err)
	}
	var got ipc.SecmSessionOpen
	if err := rec.Decode(&got); err != nil || string(got.Sid) != "secret" {
		t.Errorf("%q, %v", got.Sid, err)
	}
	if rec, err = far.Recv(); err != nil || len(rec.FDs) != 1 {
		t.Fatalf("%+v, %v", rec, err)
	}
	rec.Close()
	eventually(t, "the descriptor closed on both sides", closed)
	if string(sid) != "\x00\x00\x00\x00\x00\x00" {
		t.Error("the secret is still in memory")
	}
	s.close()
	s.close()
	wg.Wait()
	fd3, closed3 := pipeFD(t)
	if s.post(outgoing{typ: ipc.SecmWorkerT, msg: new(ipc.SecmWorker), fds: []int{fd3}}) || !closed3() {
		t.Error("it queues after close")
	}
}

func TestSenderCloseDisposes(t *testing.T) {
	near, _ := pair(t)
	s := newSender(near, 4, func(error) {})
	fd, closed := pipeFD(t)
	s.post(outgoing{typ: ipc.SecmWorkerT, msg: new(ipc.SecmWorker), fds: []int{fd}})
	s.close()
	s.run()
	if !closed() {
		t.Error("a descriptor in the queue was not closed")
	}
}

func TestSenderFails(t *testing.T) {
	t.Run("peer gone", func(t *testing.T) {
		near, far := pair(t)
		far.Close()
		failed := make(chan error, 10)
		s := newSender(near, 4, func(err error) { failed <- err })
		go s.run()
		defer s.close()
		for range 3 {
			s.post(outgoing{typ: ipc.TerminateT, msg: new(ipc.Terminate)})
		}
		if err := <-failed; !errors.Is(err, unix.EPIPE) {
			t.Errorf("error %v", err)
		}
		eventually(t, "an empty queue", func() bool { return len(s.queue) == 0 })
		if len(failed) != 0 {
			t.Error("it failed more than once")
		}
	})
	t.Run("peer does not read", func(t *testing.T) {
		if testing.Short() {
			t.Skip("takes ipc's write deadline")
		}
		near, _ := pair(t)
		failed := make(chan error, 1)
		s := newSender(near, 4, func(err error) { failed <- err })
		go s.run()
		defer s.close()
		for len(failed) == 0 { // never waits
			if !s.post(outgoing{typ: ipc.TerminateT, msg: new(ipc.Terminate)}) {
				time.Sleep(time.Millisecond)
			}
		}
		if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}

// mod is main's side with a fake sec-mod at the other end.
func mod(t *testing.T, notify func(*ipc.Record) error) (*secmod, *ipc.Conn) {
	near, far := pair(t)
	m := newSecMod(near, quiet, notify)
	go m.out.run()
	go m.read()
	return m, far
}

func sessionOpen() outgoing {
	return outgoing{typ: ipc.SecmSessionOpenT, msg: new(ipc.SecmSessionOpen)}
}

func TestSecModAnswersInAnyOrder(t *testing.T) {
	m, far := mod(t, nil)
	const n = 20
	got := make(chan string, n)
	for range n {
		m.call(sessionOpen(), ipc.SecmSessionReplyT, func(rec *ipc.Record, err error) {
			var rep ipc.SecmSessionReply
			if err != nil || rec.Decode(&rep) != nil {
				t.Error(err)
			}
			got <- rep.User
		})
	}
	var ids []uint32
	seen := make(map[uint32]bool)
	for range n {
		rec, err := far.Recv()
		if err != nil || rec.ID == 0 || seen[rec.ID] {
			t.Fatalf("%+v, %v", rec, err)
		}
		seen[rec.ID] = true
		ids = append(ids, rec.ID)
	}
	for i := range ids {
		id := ids[n-1-i]
		far.Send(ipc.SecmSessionReplyT, id, &ipc.SecmSessionReply{User: string('A' + rune(id))})
	}
	for i := range ids { // in the order of the answers
		if want := string('A' + rune(ids[n-1-i])); <-got != want {
			t.Errorf("answer %d is not %s", i, want)
		}
	}
	if m.outstanding() != 0 {
		t.Errorf("%d outstanding", m.outstanding())
	}
}

func TestSecModNotifies(t *testing.T) {
	got := make(chan ipc.Type, 1)
	_, far := mod(t, func(rec *ipc.Record) error { got <- rec.Type; return nil })
	far.Send(ipc.SecmEndedT, 0, new(ipc.SecmEnded))
	if typ := <-got; typ != ipc.SecmEndedT {
		t.Errorf("%v", typ)
	}
}

func TestSecModEnds(t *testing.T) {
	tests := []struct {
		name      string
		do        func(far *ipc.Conn, id uint32)
		violation bool
	}{
		{"gone", func(far *ipc.Conn, id uint32) { far.Close() }, false},
		{"an answer to nothing", func(far *ipc.Conn, id uint32) { far.Send(ipc.SecmCliStatsT, id+1, new(ipc.SecmCliStats)) }, true},
		{"another answer", func(far *ipc.Conn, id uint32) { far.Send(ipc.SecmCliStatsT, id, new(ipc.SecmCliStats)) }, true},
		{"nothing it may say", func(far *ipc.Conn, id uint32) { far.Send(ipc.TunMTUT, 0, new(ipc.TunMtu)) }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, far := mod(t, (&server{}).fromSecMod)
			answered := make(chan error, 2)
			m.call(sessionOpen(), ipc.SecmSessionReplyT, func(_ *ipc.Record, err error) { answered <- err })
			rec, err := far.Recv()
			if err != nil {
				t.Fatal(err)
			}
			tt.do(far, rec.ID)
			<-m.gone
			if err := <-answered; !errors.Is(err, errSecModGone) {
				t.Errorf("who waited got %v", err)
			}
			if errors.Is(m.failure(), ipc.ErrViolation) != tt.violation {
				t.Errorf("failure %v", m.failure())
			}
			m.call(sessionOpen(), ipc.SecmSessionReplyT, func(_ *ipc.Record, err error) { answered <- err })
			if err := <-answered; !errors.Is(err, errSecModGone) {
				t.Errorf("who came later got %v", err)
			}
		})
	}
}

func TestSecModBusy(t *testing.T) {
	near, _ := pair(t)
	m := newSecMod(near, quiet, nil) // nobody sends
	results := make(chan error, secModQueue+1)
	for range secModQueue + 1 {
		m.call(sessionOpen(), ipc.SecmSessionReplyT, func(_ *ipc.Record, err error) { results <- err })
	}
	if err := <-results; !errors.Is(err, errSecModBusy) || len(results) != 0 {
		t.Errorf("%v, and %d more answers", err, len(results))
	}
	if m.outstanding() != secModQueue {
		t.Errorf("%d outstanding", m.outstanding())
	}
}

func TestSecModIDs(t *testing.T) {
	near, _ := pair(t)
	m := newSecMod(near, quiet, nil)
	m.lastID = ^uint32(0) - 1
	m.waiting[^uint32(0)] = question{}
	m.waiting[1] = question{}
	if id := m.nextID(); id != 2 {
		t.Errorf("id %d: 0 is no id, and the others are in use", id)
	}
}

func TestAskTimesOut(t *testing.T) {
	m, _ := mod(t, nil)
	if err := m.ask(sessionOpen(), ipc.SecmSessionReplyT, new(ipc.SecmSessionReply), time.Millisecond); !errors.Is(err, errNoAnswer) {
		t.Errorf("error %v", err)
	}
}

// No SECM_SESSION_CLOSE is lost, however busy sec-mod is.
func TestTellClosedAgain(t *testing.T) {
	near, far := pair(t)
	s := ghost()
	m := newSecMod(near, quiet, nil)
	s.sec.enter(m, func() {})
	for range secModQueue {
		s.sec.post(outgoing{typ: ipc.TerminateT, msg: new(ipc.Terminate)})
	}
	s.closeOpened("safe", 7)
	if m.outstanding() != 0 {
		t.Fatal("the queue is not full")
	}
	go m.out.run()
	defer m.out.close()
	for {
		rec, err := far.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if rec.Type != ipc.SecmSessionCloseT {
			continue
		}
		var m ipc.SecmSessionClose
		if err := rec.Decode(&m); err != nil || m.SafeId != "safe" || m.ConnId != 7 {
			t.Errorf("%v, %v", &m, err)
		}
		return
	}
}
