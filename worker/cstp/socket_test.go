package cstp

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// pair is a TCP connection: our end and the peer's.
func pair(t *testing.T) (*socket, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ours, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); peer.Close() })
	s, ok := newSocket(ours).(*socket)
	if !ok {
		t.Fatal("no descriptor")
	}
	return s, peer.(*net.TCPConn)
}

func TestSocket(t *testing.T) {
	s, peer := pair(t)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // more than the buffers of both sides
	written := make(chan error, 1)
	go func() {
		n, err := s.Write(sent)
		if err == nil && n != len(sent) {
			err = io.ErrShortWrite
		}
		written <- err
	}()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("read %v, the same: %v", err, bytes.Equal(got, sent))
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	peer.Write([]byte("hello"))
	b := make([]byte, 100)
	if n, err := s.Read(b); err != nil || string(b[:n]) != "hello" {
		t.Fatalf("%q, %v", b[:n], err)
	}
	s.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if n, err := s.Read(b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes, %v; want the deadline", n, err)
	}
	s.SetReadDeadline(time.Time{})
	s.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
	n, err := s.Write(sent)
	if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n == len(sent) {
		t.Errorf("wrote %d bytes to who does not read, %v", n, err)
	}
	if n, err := s.Read(nil); n != 0 || err != nil {
		t.Errorf("an empty read: %d, %v", n, err)
	}
}

func TestSocketEnds(t *testing.T) {
	b := make([]byte, 100)
	s, peer := pair(t)
	peer.CloseWrite()
	if n, err := s.Read(b); n != 0 || err != io.EOF {
		t.Errorf("%d bytes, %v; want EOF", n, err)
	}
	s, peer = pair(t)
	peer.SetLinger(0)
	peer.Close()
	if _, err := s.Read(b); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v; want a reset", err)
	}
	if _, err := s.Write(b); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("%v; want EPIPE", err)
	}
	s, _ = pair(t)
	done := make(chan error)
	go func() {
		_, err := s.Read(b)
		done <- err
	}()
	s.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v; want net.ErrClosed", err)
	}
	if x, y := net.Pipe(); newSocket(x) != x {
		t.Error("a pipe has a descriptor")
	} else {
		y.Close()
	}
}
