package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

const patience = 20 * time.Second

type echoArgs struct {
	Text string `json:"text"`
}

// serve starts a server with commands of these tests.
func serve(t *testing.T) (*Server, string) { return serveAs(t, os.Getuid()) }

func serveAs(t *testing.T, uid int) (*Server, string) {
	t.Helper()
	s := NewServer(map[string]Command{
		"echo":  With(func(_ context.Context, a echoArgs) (any, error) { return a, nil }),
		"none":  With(func(context.Context, struct{}) (any, error) { return nil, nil }),
		"lost":  With(func(context.Context, struct{}) (any, error) { return nil, Errorf(NotFound, "user or ID not found") }),
		"fails": With(func(context.Context, struct{}) (any, error) { return nil, errors.New("out of luck") }),
		"panic": With(func(context.Context, struct{}) (any, error) { panic("oops") }),
	}, slog.New(slog.DiscardHandler))
	s.uid = uid
	name := filepath.Join(t.TempDir(), "s")
	l, _, err := Listen([]string{name})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { s.Serve(l); close(done) }()
	t.Cleanup(func() {
		s.Close()
		<-done
		if _, err := os.Lstat(name); !os.IsNotExist(err) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
	return s, name
}

func dial(t *testing.T, name string) *Client {
	t.Helper()
	c, err := Dial(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestCalls(t *testing.T) {
	_, name := serve(t)
	c := dial(t, name)
	var got echoArgs
	if err := c.Call("echo", echoArgs{"a \"word\"\n<&>\x00"}, &got); err != nil || got.Text != "a \"word\"\n<&>\x00" {
		t.Fatalf("echo: %q, %v", got.Text, err)
	}
	if err := c.Call("none", nil, nil); err != nil {
		t.Fatal(err)
	}
	for cmd, want := range map[string]Code{"lost": NotFound, "fails": Failed, "panic": Failed, "nonsense": Unknown} {
		var e *Error
		if err := c.Call(cmd, nil, nil); !errors.As(err, &e) || e.Code != want {
			t.Errorf("%s: %v, want code %s", cmd, err, want)
		}
	}
	// The connection has survived all of them.
	if err := c.Call("echo", echoArgs{"again"}, &got); err != nil || got.Text != "again" {
		t.Fatalf("echo: %q, %v", got.Text, err)
	}
}

// raw speaks without the client.
func raw(t *testing.T, name string) (net.Conn, *bufio.Scanner) {
	t.Helper()
	c, err := net.Dial("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c, bufio.NewScanner(c)
}

func TestBadRequests(t *testing.T) {
	_, name := serve(t)
	for _, row := range []struct {
		line string
		code Code
		id   uint64
	}{
		{"hello", BadRequest, 0},
		{"", BadRequest, 0},
		{"[]", BadRequest, 0},
		{`{"v":1}`, BadRequest, 0},
		{`{"v":1,"id":7,"cmd":"none"} {}`, BadRequest, 7},
		{`{"v":1,"id":7,"cmd":"none","extra":1}`, BadRequest, 7},
		{`{"v":2,"id":7,"cmd":"none"}`, BadVersion, 7},
		{`{"id":7,"cmd":"none"}`, BadVersion, 7},
		{`{"v":1,"id":7,"cmd":"none","args":{"user":"x"}}`, BadRequest, 7},
		{`{"v":1,"id":7,"cmd":"echo","args":{"texd":"x"}}`, BadRequest, 7},
		{`{"v":1,"id":7,"cmd":"echo","args":[1]}`, BadRequest, 7},
		{`{"v":1,"id":7,"cmd":"events","args":{"kinds":[]}}`, BadRequest, 7},
		{`{"v":1,"id":7,"cmd":"NONE"}`, Unknown, 7},
	} {
		c, in := raw(t, name)
		fmt.Fprintln(c, row.line)
		if !in.Scan() {
			t.Fatalf("%s: no answer: %v", row.line, in.Err())
		}
		var r Reply
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			t.Fatalf("%s: %v", row.line, err)
		}
		if r.OK || r.Error == nil || r.Error.Code != row.code || r.ID != row.id {
			t.Errorf("%s: %s", row.line, in.Bytes())
		}
	}
}

func TestTooLongRequest(t *testing.T) {
	_, name := serve(t)
	c, in := raw(t, name)
	go io.WriteString(c, `{"v":1,"cmd":"echo","args":{"text":"`+strings.Repeat("a", 2*MaxRequest))
	if !in.Scan() || !strings.Contains(in.Text(), string(BadRequest)) {
		t.Fatalf("answer %q, %v", in.Text(), in.Err())
	}
	if in.Scan() {
		t.Fatalf("the connection goes on: %q", in.Text())
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	s, name := serve(t)
	for range maxConns {
		if err := dial(t, name).Call("none", nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	var e *Error
	if err := dial(t, name).Call("none", nil, nil); !errors.As(err, &e) || e.Code != Busy {
		t.Fatalf("one more: %v", err)
	}
	s.mu.Lock()
	var any *conn
	for any = range s.conns {
		break
	}
	s.mu.Unlock()
	any.uc.Close()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		c, err := Dial(name)
		if err != nil {
			t.Fatal(err)
		}
		err = c.Call("none", nil, nil)
		c.Close()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after one has left: %v", err)
		}
	}
}

func TestEvents(t *testing.T) {
	s, name := serve(t)
	all, some := dial(t, name), dial(t, name)
	if err := all.Listen(); err != nil {
		t.Fatal(err)
	}
	if err := some.Listen(EventBanned); err != nil {
		t.Fatal(err)
	}
	s.Publish(Event{Type: EventConnected, Session: &Session{User: "anna"}})
	s.Publish(Event{Type: EventBanned, IP: "192.0.2.1"})
	for i, want := range []string{EventConnected, EventBanned} {
		if e, err := all.Next(); err != nil || e.Type != want || e.Time.IsZero() {
			t.Fatalf("event %d: %+v, %v", i, e, err)
		}
	}
	if e, err := some.Next(); err != nil || e.IP != "192.0.2.1" {
		t.Fatalf("of those wanted: %+v, %v", e, err)
	}
	// In between it may ask.
	if err := some.send("none", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := some.receive(); err != nil {
		t.Fatal(err)
	}
}

// A listener that does not read holds up nobody and learns what it missed.
func TestSlowListener(t *testing.T) {
	s, name := serve(t)
	c := dial(t, name)
	if err := c.Listen(); err != nil {
		t.Fatal(err)
	}
	const n = 20000
	began := time.Now()
	big := strings.Repeat("x", 1000)
	for range n {
		s.Publish(Event{Type: EventBanned, Reason: big})
	}
	if took := time.Since(began); took > writeTimeout {
		t.Fatalf("publishing took %v", took)
	}
	got := 0
	for {
		e, err := c.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e.Type == EventLost {
			got += e.Lost
		} else {
			got++
		}
		if got == n {
			return
		}
	}
}

func TestQueueTellsWhatIsLost(t *testing.T) {
	q := newQueue(1, nil)
	for range queueLength + 3 {
		q.offer(Event{Type: EventBanned})
	}
	for i := range queueLength {
		if e, _ := q.next(); e.Type != EventBanned {
			t.Fatalf("event %d is %q", i, e.Type)
		}
	}
	if e, _ := q.next(); e.Type != EventLost || e.Lost != 3 {
		t.Fatalf("then %+v", e)
	}
	q.close()
	if e, ok := q.next(); ok {
		t.Fatalf("after the end %+v", e)
	}
}

func TestForeignUID(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can be two users")
	}
	_, name := serveAs(t, 4242)
	// Root is let in whoever the server is.
	if err := dial(t, name).Call("none", nil, nil); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(name); dir != "/"; dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o755)
	}
	os.Chmod(name, 0o666) // the mode alone would stop it, too
	answer := make(chan error)
	go func() {
		// The thread becomes another user's and ends with this goroutine.
		runtime.LockOSThread()
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
			answer <- nil
			return
		}
		c, err := Dial(name)
		if err == nil {
			err = c.Call("none", nil, nil)
			c.Close()
		}
		answer <- err
	}()
	if err := <-answer; err == nil || !strings.Contains(err.Error(), "closed the connection") && !strings.Contains(err.Error(), "reset") {
		t.Fatalf("a stranger's request: %v", err)
	}
}

func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		`{"v":1,"id":1,"cmd":"sessions","args":{"user":"anna"}}`, `{"v":1,"cmd":"status"}`, `{}`, `[]`, `{"v":1e9}`,
		`{"v":1,"cmd":"a","args":null}`, "\xff", `{"v":1,"cmd":"\ud800"}`, `{"v":1,"cmd":"x"}{"v":1}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := parseRequest(line)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%v is no *Error", err)
			}
			return
		}
		if r.V != Version || r.Cmd == "" {
			t.Fatalf("accepted %+v", r)
		}
		if len(r.Args) > 0 && !json.Valid(r.Args) {
			t.Fatalf("accepted arguments %q", r.Args)
		}
		var a Target
		if len(r.Args) > 0 && decode(r.Args, &a) == nil && a.Named() > 3 {
			t.Fatal("more names than fields")
		}
	})
}
