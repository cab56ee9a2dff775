package cstp

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// option reads an option of a socket.
func option(t *testing.T, s *socket, name int) (v int) {
	t.Helper()
	err := s.rc.Control(func(fd uintptr) {
		n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, name)
		if err != nil {
			t.Fatal(err)
		}
		v = n
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestNarrow(t *testing.T) {
	s, peer := pair(t)
	c := &Conn{Conn: s}
	before, lock := option(t, s, unix.SO_RCVBUF), option(t, s, unix.SO_BUF_LOCK)
	if !c.narrow() {
		t.Fatal("not narrowed")
	}
	if n := option(t, s, unix.SO_RCVBUF); n != 2*holdSize {
		t.Errorf("buffer of %d", n)
	}
	if c.narrow() {
		t.Error("narrowed a buffer that is fixed")
	}
	if got := fills(t, s, peer); got > 3*holdSize {
		t.Errorf("took %d unread bytes though narrow", got)
	}
	c.widen()
	if n, l := option(t, s, unix.SO_RCVBUF), option(t, s, unix.SO_BUF_LOCK); n != before || l != lock {
		t.Errorf("buffer of %d, locked %d; was %d, %d", n, l, before, lock)
	}
}

// fills has the peer write until nothing is taken any more, and reads it.
func fills(t *testing.T, s *socket, peer *net.TCPConn) (unread int) {
	t.Helper()
	go func() {
		b := make([]byte, 1<<20)
		peer.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		peer.Write(b)
		peer.CloseWrite()
	}()
	time.Sleep(600 * time.Millisecond)
	c := &Conn{Conn: s}
	unread = c.unread()
	if unread == 0 {
		t.Error("nothing unread")
	}
	return unread
}

func TestNear(t *testing.T) {
	s, peer := pair(t)
	c := &Conn{Conn: s}
	if _, err := s.Write([]byte("hello")); err != nil { // what is acknowledged tells the round-trip time
		t.Fatal(err)
	}
	if _, err := peer.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if !c.near() {
		t.Error("this host is not near")
	}
	if c = (&Conn{Conn: peer}); c.near() || c.narrow() || c.unread() != 0 {
		t.Error("something is known of a connection that is no socket of ours")
	}
}
