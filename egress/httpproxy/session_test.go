package httpproxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"syscall"
	"testing"
	"time"

	"rocserv/internal/secret"
)

// newServer is a proxy of HTTP/2 over plain TCP, whose destinations are words.
func newServer(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	srv := &http.Server{Handler: http.HandlerFunc(answer), Protocols: new(http.Protocols)}
	srv.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(func() { srv.Close() })
	go srv.Serve(ln)
	return ln.Addr().String()
}

func answer(w http.ResponseWriter, r *http.Request) {
	switch r.Host {
	case "echo:1":
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		b := make([]byte, 32<<10)
		for {
			n, err := r.Body.Read(b)
			w.Write(b[:n])
			w.(http.Flusher).Flush()
			if err != nil {
				return
			}
		}
	case "flood:1":
		w.WriteHeader(200)
		for b := make([]byte, 32<<10); ; {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	case "login:1":
		if r.Header.Get("Proxy-Authorization") == "Bearer abc" && r.UserAgent() == "" && r.Method == http.MethodConnect {
			w.WriteHeader(200)
			return
		}
		w.WriteHeader(407)
	case "refused:1":
		w.Header().Set("Proxy-Status", "p; error=connection_refused")
		w.WriteHeader(502)
	case "hang:1":
		<-r.Context().Done()
	case "reset:1":
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

func newSession(t *testing.T, addr string) *Session {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSession(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestSession(t *testing.T) {
	s := newSession(t, newServer(t))
	open := func(a string, l Login) (*Stream, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		return s.Open(ctx, a, l)
	}
	echo, err := open("echo:1", Login{})
	if err != nil {
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("0123456789abcdef"), 40000)
	go func() {
		echo.Write(sent)
		echo.CloseWrite()
	}()
	if got, err := io.ReadAll(echo); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes back, %v", len(got), err)
	}
	echo.Close()

	if c, err := open("login:1", Login{Bearer: secret.NewText("abc")}); err != nil {
		t.Error(err)
	} else if b, err := io.ReadAll(c); len(b) > 0 || err != nil {
		t.Errorf("%q, %v", b, err)
	} else {
		c.Close()
	}
	var st *Status
	if _, err := open("login:1", Login{}); !errors.As(err, &st) || !st.Own() {
		t.Errorf("no login: %v", err)
	}
	if _, err := open("refused:1", Login{}); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("refused: %v", err)
	}
	if c, err := open("reset:1", Login{}); err == nil {
		if _, err := io.ReadAll(c); err == nil {
			t.Error("a reset stream ends as if it was complete")
		}
		c.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Open(ctx, "hang:1", Login{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("hang: %v", err)
	}
	if !s.Usable() {
		t.Error("the session is not usable any more")
	}
}

// A closed stream wakes who waits on it, and holds nothing.
func TestStreamCloseWakes(t *testing.T) {
	before := runtime.NumGoroutine()
	s := newSession(t, newServer(t))
	var ends []chan error
	for _, a := range []string{"echo:1", "flood:1"} {
		c, err := s.Open(t.Context(), a, Login{})
		if err != nil {
			t.Fatal(err)
		}
		end := make(chan error, 2)
		ends = append(ends, end)
		go func() {
			_, err := io.Copy(io.Discard, c)
			end <- err
		}()
		go func() {
			for {
				if _, err := c.Write(make([]byte, 1<<16)); err != nil {
					end <- err
					return
				}
			}
		}()
		time.AfterFunc(50*time.Millisecond, func() { c.SetLinger(0); c.Close() })
	}
	for _, end := range ends {
		for range 2 {
			if err := <-end; err == nil {
				t.Error("a closed stream ends without an error")
			}
		}
	}
	s.Close()
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before+2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			b := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, b[:runtime.Stack(b, true)])
		}
	}
}

// refusing is a connection to a proxy that has refused, and said so, before it is
// written to for the first time, or after that.
type refusing struct {
	net.Conn
	writes  int // that still succeed
	refused chan struct{}
	said    error
}

func (c *refusing) Write(b []byte) (int, error) {
	if c.writes > 0 {
		c.writes--
		return len(b), nil
	}
	select {
	case <-c.refused:
	default:
		close(c.refused)
	}
	return 0, &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
}

func (c *refusing) Read([]byte) (int, error) {
	<-c.refused
	runtime.Gosched() // whoever wrote is first
	return 0, c.said
}

func (c *refusing) Close() error                    { return nil }
func (c *refusing) SetReadDeadline(time.Time) error { return nil }

// TestReason: what the proxy said counts, not that it listens no more.
func TestReason(t *testing.T) {
	alert := errors.New("remote error: tls: certificate required")
	for _, said := range []error{alert, io.EOF, net.ErrClosed} {
		for writes := range 2 { // the greeting, and what follows it
			s, err := NewSession(&refusing{writes: writes, refused: make(chan struct{}), said: said})
			if err == nil {
				_, err = s.Open(t.Context(), "echo:1", Login{})
				s.Close()
			}
			if err == nil || errors.Is(err, alert) != (said == alert) {
				t.Errorf("%v after %d writes: %v", said, writes, err)
			}
		}
	}
}
