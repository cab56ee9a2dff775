package occtl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rocserv/internal/control"
)

// upgrade is done when the server says so by its count, not when it agrees.
func TestUpgradeCommand(t *testing.T) {
	var asked, looks atomic.Int32
	var refuse atomic.Bool
	name, _ := serve(t, map[string]control.Command{
		control.CmdUpgrade: control.With(func(context.Context, struct{}) (any, error) {
			asked.Add(1)
			if refuse.Load() {
				return nil, control.Errorf(control.Failed, "/bin/x is refused: it ended before it was ready")
			}
			return control.Upgrade{Program: "/bin/x", Version: "2", Upgrades: 4}, nil
		}),
		control.CmdStatus: control.With(func(context.Context, struct{}) (any, error) {
			if looks.Add(1) < 3 {
				return control.Status{Version: "1", Upgrades: 4}, nil
			}
			return control.Status{Version: "2", Upgrades: 5}, nil
		}),
	})
	if got, want := occtl(name, "", "upgrade"), (result{"Server upgraded to 2\n", "", 0}); got != want || asked.Load() != 1 || looks.Load() != 3 {
		t.Errorf("%+v after %d looks", got, looks.Load())
	}
	refuse.Store(true)
	if got, want := occtl(name, "", "upgrade"), (result{"", "/bin/x is refused: it ended before it was ready\n", 1}); got != want {
		t.Errorf("%+v", got)
	}
}

// Every command of the table is one that a test runs, or is for the prompt.
func TestEveryCommandIsTested(t *testing.T) {
	tested := map[string]bool{
		"upgrade": true, "reload": true, "stop now": true, "stop": true, "disconnect user": true, "disconnect id": true,
		"terminate user": true, "terminate id": true, "terminate session": true, "unban ip": true, "unlimit user": true, "unlimit ip": true, // TestOrders, TestUpgradeCommand
		"help": true, "?": true, "reset": true, "exit": true, "quit": true, // TestHelp, TestLines
		"show events": true, // TestEvents
	}
	for _, row := range golden {
		for _, c := range table() {
			if c.words == row.line || len(row.line) > len(c.words) && row.line[:len(c.words)+1] == c.words+" " {
				tested[c.words] = true
			}
		}
	}
	for _, c := range table() {
		if !tested[c.words] {
			t.Errorf("no test runs %q", c.words)
		}
	}
}

func TestHelp(t *testing.T) {
	name := fake(t, bob)
	help := occtl(name, "", "help")
	compare(t, filepath.Join("testdata", "help.text"), help.out)
	if got := occtl(name, "", "?"); got != help || help.status != 0 || help.err != "" {
		t.Errorf("? is not help: %+v", got)
	}
	if got, want := occtl(name, "", "reset"), (result{"\033c", "", 0}); got != want {
		t.Errorf("reset: %+v", got)
	}
	for _, word := range []string{"exit", "quit"} {
		if got, want := occtl(name, word+"\nreload\n"), (result{}); got != want {
			t.Errorf("%s: %+v", word, got)
		}
	}
}

// Events are what was there, and then what comes, until the server is gone.
func TestEvents(t *testing.T) {
	for _, form := range []string{"text", "json"} {
		t.Run(form, func(t *testing.T) { testEvents(t, form == "json") })
	}
}

func testEvents(t *testing.T, asJSON bool) {
	name, s := serve(t, map[string]control.Command{
		control.CmdSessions: control.With(func(context.Context, control.Target) (any, error) {
			return control.Sessions{Sessions: []control.Session{bob}}, nil
		}),
	})
	args := []string{"-s", name, "show", "events"}
	if asJSON {
		args = append([]string{"-j"}, args...)
	}
	var out lines
	done := make(chan int, 1)
	go func() {
		done <- Run(args, IO{In: strings.NewReader(""), Out: &out, Err: io.Discard, Now: func() time.Time { return now }})
	}()
	out.wait(t, "bob")
	s.Publish(control.Event{Time: now, Type: control.EventConnected, Session: &alice})
	out.wait(t, "alice")
	s.Publish(control.Event{Time: now, Type: control.EventDisconnected, Session: &alice, Reason: "user disconnected", Duration: 3})
	out.wait(t, "user disconnected")
	s.Close()
	select {
	case status := <-done:
		if status != statusFailed {
			t.Errorf("status %d", status)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it goes on without a server")
	}
	if !asJSON {
		return
	}
	for d := json.NewDecoder(strings.NewReader(out.String())); ; {
		var v any
		if err := d.Decode(&v); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, out.String())
		}
	}
}

// lines is output that somebody waits for.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lines) wait(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(l.String(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %q in\n%s", text, l.String())
		}
	}
}

// What why is asked for is what the server is asked, and what makes no sense is
// not asked at all.
func TestWhy(t *testing.T) {
	for line, want := range map[string]control.WhyArgs{
		"anna example.com":            {User: "anna", Host: "example.com", Port: 443},
		"anna example.com:25 --dial":  {User: "anna", Host: "example.com", Port: 25, Dial: true},
		"--dial anna 192.0.2.1":       {User: "anna", Host: "192.0.2.1", Port: 443, Dial: true},
		"anna 2001:db8::1":            {User: "anna", Host: "2001:db8::1", Port: 443},
		"anna [2001:db8::1]:53 --udp": {User: "anna", Host: "2001:db8::1", Port: 53, Proto: "udp"},
		"anna [2001:db8::1]":          {User: "anna", Host: "2001:db8::1", Port: 443},
		"anna 192.0.2.1 --icmp":       {User: "anna", Host: "192.0.2.1", Proto: "icmp"},
	} {
		if got, err := whyArgs(strings.Fields(line)); err != nil || got != want {
			t.Errorf("%s: %+v, %v", line, got, err)
		}
	}
	name := fake(t, alice)
	for _, line := range []string{"anna", "anna a b", "anna a:x", "anna a:0", "anna a:70000", "anna a --fast"} {
		if got := occtl(name, "", append([]string{"why"}, strings.Fields(line)...)...); got.status != 1 || got.out != "" || !strings.Contains(got.err, whyUsage) {
			t.Errorf("%s: %+v", line, got)
		}
	}
	if got, want := occtl(name, "", "why", "nobody", "192.0.2.1"), (result{"", "user 'nobody' has no tunnel\n", 2}); got != want {
		t.Errorf("%+v", got)
	}
}
