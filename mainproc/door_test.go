package mainproc

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"rocserv/internal/ban"
	"rocserv/internal/config"
	"rocserv/internal/ipc"
)

// ghost is a server without processes, for what happens before a worker.
func ghost() *server {
	s := &server{log: quiet, workers: newRegistry(), sessions: newSessions(), sec: newSecurity(), records: newRecords(), closings: newClosings(), bans: ban.New(ban.Policy{MaxScore: 10, BanTime: time.Hour, ResetTime: time.Hour})}
	s.procs = &procs{log: quiet, alive: make(map[int]*child)}
	s.gen.Store(&generation{cfg: &config.Config{Global: config.Global{BanPointsConnect: 1, MaxBanScore: 10}}})
	s.host.Store(new(ipc.HostInfo))
	s.door = newDoor(s, 100)
	s.door.queue = 100 * time.Millisecond // there will be no worker
	s.console = newConsole(s, nil)
	s.pool = &pool[*worker]{start: func() (*worker, error) { return nil, errNotReady }, parallel: 1, log: quiet, now: time.Now}
	return s
}

// ghostWorker is one whose process is gone already.
func (s *server) ghostWorker(st state, peer string) *worker {
	w := &worker{srv: s, state: st, child: &child{role: roleWorker, reaped: true, done: make(chan struct{})}, secFD: -1}
	w.out = newSender(nil, 4, nil)
	if peer != "" {
		w.who = identity{conn: 1, peer: netip.MustParseAddrPort(peer)}
	}
	s.workers.add(w)
	if peer != "" {
		s.workers.name(w)
	}
	return w
}

// connected returns both ends of a TCP connection.
func connected(t *testing.T) (server, client *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if server, err = l.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close(); c.Close() })
	return server, c.(*net.TCPConn)
}

func TestAwaitFirstByte(t *testing.T) {
	tests := []struct {
		name   string
		client func(*net.TCPConn)
		want   error
	}{
		{"a byte", func(c *net.TCPConn) { c.Write([]byte{22}) }, nil},
		{"closed at once", func(c *net.TCPConn) { c.Close() }, io.EOF},
		{"reset", func(c *net.TCPConn) { c.SetLinger(0); c.Close() }, io.EOF},
		{"half closed", func(c *net.TCPConn) { c.CloseWrite() }, io.EOF},
		{"silence", func(c *net.TCPConn) {}, errSilent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, c := connected(t)
			tt.client(c)
			deadline := time.Now().Add(patience)
			if tt.want == errSilent {
				deadline = time.Now().Add(20 * time.Millisecond)
			}
			if err := awaitFirstByte(s, deadline); !errors.Is(err, tt.want) {
				t.Fatalf("%v, want %v", err, tt.want)
			}
			if tt.want == nil { // it is still there to read
				var b [2]byte
				if n, err := s.Read(b[:]); n != 1 || b[0] != 22 || err != nil {
					t.Errorf("read %d bytes, %v", n, err)
				}
			}
		})
	}
}

// gone waits for the end of a connection.
func gone(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	var b [1]byte
	if n, err := c.Read(b[:]); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection is open: %d, %v", n, err)
	}
}

func TestAdmit(t *testing.T) {
	score := func(s *server) int {
		for _, e := range s.bans.List(time.Now()) {
			return e.Score
		}
		return 0
	}
	t.Run("a health probe is not scored", func(t *testing.T) {
		s := ghost()
		conn, c := connected(t)
		c.Close()
		s.door.admit(conn)
		eventually(t, "the end", func() bool { return s.door.waiting.len() == 0 })
		if score(s) != 0 {
			t.Error("scored")
		}
	})
	t.Run("a client is scored", func(t *testing.T) {
		s := ghost()
		conn, c := connected(t)
		c.Write([]byte{22})
		s.door.admit(conn)
		eventually(t, "points", func() bool { return score(s) == 1 })
		eventually(t, "its place free again", func() bool { return s.door.logins.len() == 0 && s.door.waiting.len() == 0 })
	})
	t.Run("a banned source is closed at once", func(t *testing.T) {
		s := ghost()
		s.bans.Add(netip.MustParseAddr("127.0.0.1"), 10, time.Now())
		conn, c := connected(t)
		s.door.admit(conn)
		if s.door.waiting.len() != 0 {
			t.Error("it got a place")
		}
		gone(t, c)
	})
	t.Run("connections alone lead to a ban", func(t *testing.T) {
		s := ghost()
		for range 10 {
			conn, c := connected(t)
			c.Write([]byte{22})
			before := score(s)
			s.door.admit(conn)
			eventually(t, "points", func() bool { return score(s) > before })
		}
		if !s.bans.Banned(netip.MustParseAddr("127.0.0.1"), time.Now()) {
			t.Error("not banned")
		}
	})
	t.Run("who waits longest goes", func(t *testing.T) {
		s := ghost()
		first, c := connected(t)
		s.door.admit(first)
		share := s.door.room().share
		for range share {
			conn, _ := connected(t)
			s.door.admit(conn)
		}
		gone(t, c)
		if n := s.door.waiting.len(); n != share {
			t.Errorf("%d wait", n)
		}
	})
}

func TestMaxWorkers(t *testing.T) {
	tests := []struct{ maxClients, most, clients, workers int }{
		{0, 100, 100, 100}, {1, 100, 1, 5}, {50, 100, 50, 55}, {98, 100, 98, 100}, {500, 100, 100, 100}, {0, 1, 1, 2},
	}
	for _, tt := range tests {
		s := ghost()
		s.door.most = tt.most
		s.settings().MaxClients = tt.maxClients
		if s.maxClients() != tt.clients || s.maxWorkers() != tt.workers {
			t.Errorf("max-clients %d, machine %d: %d clients, %d workers", tt.maxClients, tt.most, s.maxClients(), s.maxWorkers())
		}
	}
	// Tunnels take the places of logins; logins take none of tunnels.
	s := ghost()
	s.settings().MaxClients = 1
	src := netip.MustParsePrefix("192.0.2.0/24")
	for s.sessions.live = 1; s.sessions.live < 5; s.sessions.live++ {
		if _, err := s.door.enterLogin(t.Context(), src, func() {}); err != nil {
			t.Fatalf("with %d tunnels: %v", s.sessions.live, err)
		}
		s.door.logins = newSlots(0)
	}
	if _, err := s.door.enterLogin(t.Context(), src, func() {}); !errors.Is(err, errFull) {
		t.Errorf("with %d tunnels: %v", s.sessions.live, err)
	}
	conn, c := connected(t)
	c.Write([]byte{22})
	if err := s.door.let(t.Context(), conn, socketOrigin(conn)); !errors.Is(err, errFull) {
		t.Errorf("let: %v", err)
	}
}

// Once a source is banned its logins end, and only those.
func TestBanEndsLogins(t *testing.T) {
	s := ghost()
	a := s.ghostWorker(login, "192.0.2.1:1")
	up := s.ghostWorker(tunnel, "192.0.2.1:2")
	other := s.ghostWorker(login, "192.0.2.2:1")
	v6 := s.ghostWorker(opening, "[2001:db8::1]:1")
	s.addBanPoints(netip.MustParseAddr("192.0.2.1"), 9, "test")
	if a.current() != login {
		t.Error("ended below the threshold")
	}
	s.addBanPoints(netip.MustParseAddr("192.0.2.1"), 1, "test")
	s.addBanPoints(netip.MustParseAddr("2001:db8::ffff"), 1<<31, "test")
	for w, want := range map[*worker]state{a: leaving, up: tunnel, other: login, v6: leaving} {
		if got := w.current(); got != want {
			t.Errorf("%v is %v, want %v", w.who.peer, got, want)
		}
	}
}

// A connection can lose its place before it has a worker, and after.
func TestApplicant(t *testing.T) {
	for _, before := range []bool{true, false} {
		s := ghost()
		w := s.ghostWorker(login, "192.0.2.1:1")
		cancelled := false
		a := &applicant{cancel: func() { cancelled = true }}
		if before {
			a.putOut()
			a.got(w)
		} else {
			a.got(w)
			a.putOut()
		}
		if !cancelled || w.current() != leaving {
			t.Errorf("before %v: cancelled %v, state %v", before, cancelled, w.current())
		}
	}
}

// Under a rush the ones that are nearly done keep their places; later the
// oldest goes.
func TestEnterLogin(t *testing.T) {
	s := ghost()
	s.settings().MaxClients = 1
	s.sessions.live = 4 // of five places
	s.door.logins = newSlots(time.Hour)
	src := netip.MustParsePrefix("192.0.2.0/24")
	first, err := s.door.enterLogin(t.Context(), src, func() { t.Error("put out while young") })
	if err != nil {
		t.Fatal(err)
	}
	entered := make(chan error)
	go func() {
		_, err := s.door.enterLogin(t.Context(), netip.MustParsePrefix("198.51.100.0/24"), func() {})
		entered <- err
	}()
	select {
	case <-entered:
		t.Fatal("there was no place")
	case <-time.After(10 * time.Millisecond):
	}
	s.door.logins.leave(first)
	if err := <-entered; err != nil {
		t.Error(err)
	}
	s.door.logins.grace = 0
	if _, err := s.door.enterLogin(t.Context(), src, func() {}); err != nil {
		t.Errorf("an old one did not go: %v", err)
	}
	s.door.logins.grace = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.door.enterLogin(ctx, src, func() {}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after the time: %v", err)
	}
}
