package rolelog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// daemon is a syslog at a socket.
func daemon(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	os.Remove(path)
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	return c
}

func received(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	b := make([]byte, 64<<10)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestSyslog(t *testing.T) {
	dir, err := os.MkdirTemp("", "syslog") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "log")
	if _, err := OpenSyslog(path, "ocserv"); err == nil {
		t.Fatal("there is no syslog")
	}
	c := daemon(t, path)
	s, err := OpenSyslog(path, "ocserv")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.now = func() time.Time { return time.Date(2026, 11, 3, 4, 5, 6, 0, time.UTC) }
	log := logTo(s)
	pid := fmt.Sprint(os.Getpid())
	log.Debug("not shown")
	log.Info("initialized", "n", 1)
	if got, want := received(t, c), "<30>Nov  3 04:05:06 ocserv["+pid+"]: initialized n=1"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	s.SetFacility("LOCAL3")
	s.SetFacility("unknown")
	log.With("role", "worker", "pid", 7).Error("a\nb")
	if got, want := received(t, c), "<155>Nov  3 04:05:06 ocserv["+pid+"]: role=worker pid=7: a?b"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	log.Info(strings.Repeat("x", 9000))
	if got := received(t, c); len(got) != maxSyslogLine || !strings.HasSuffix(got, "...") {
		t.Errorf("a line of %d bytes", len(got))
	}

	// Another one in its place is found.
	c.Close()
	c = daemon(t, path)
	log.Info("again")
	if got := received(t, c); !strings.HasSuffix(got, ": again") {
		t.Errorf("%q", got)
	}
}

// logTo logs to a syslog alone.
func logTo(s *Syslog) *slog.Logger {
	m, h := NewMain(io.Discard, slog.LevelInfo)
	m.SetSyslog(s, true)
	return slog.New(h)
}

// TestSyslogNotReading: whoever logs does not wait, and what is lost is told.
func TestSyslogNotReading(t *testing.T) {
	dir, err := os.MkdirTemp("", "syslog")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "log")
	c := daemon(t, path)
	s, err := OpenSyslog(path, "ocserv")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	log := logTo(s)
	const lines = 3 * syslogQueue
	for i := range lines {
		log.Info("line", "i", i)
	}
	got, told := 0, 0
	for got+told < lines {
		line := received(t, c)
		var n int
		if _, text, ok := strings.Cut(line, "]: "); ok && strings.HasSuffix(text, "lines were dropped") {
			fmt.Sscan(text, &n)
			told += n
		} else {
			got++
		}
	}
	if got < syslogQueue || got+told != lines {
		t.Errorf("%d lines of %d came, %d are said to be lost", got, lines, told)
	}
}

func TestMainLog(t *testing.T) {
	var out bytes.Buffer
	m, h := NewMain(&out, slog.LevelInfo)
	log := slog.New(h).With("role", "worker", "pid", 7)
	log.Info("one", "user", "anna")
	if got := out.String(); !strings.HasSuffix(got, " info role=worker pid=7: one user=anna\n") {
		t.Errorf("%q", got)
	}
	out.Reset()
	m.SetJSON(true)
	log.Warn("two\x1b", "password", secret("hunter2"), "took", 1500*time.Millisecond)
	log.Debug("not shown")
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || bytes.Count(out.Bytes(), []byte("\n")) != 1 {
		t.Fatalf("%v: %q", err, out.String())
	}
	for key, want := range map[string]any{"level": "warning", "msg": "two\x1b", "role": "worker", "pid": 7.0, "password": "[redacted]", "took": "1.5s"} {
		if line[key] != want {
			t.Errorf("%s is %v, want %v in %s", key, line[key], want, out.String())
		}
	}
	if at, err := time.Parse("2006-01-02T15:04:05.000Z", line["time"].(string)); err != nil || time.Since(at) > time.Hour {
		t.Errorf("time %v, %v", line["time"], err)
	}
	out.Reset()
	m.SetSyslog(&Syslog{lines: make(chan string, 1), now: time.Now}, true)
	log.Info("three")
	if out.Len() > 0 {
		t.Errorf("it goes to syslog only, and %q is said", out.String())
	}
	if got := <-m.syslog.Load().lines; !strings.HasSuffix(got, ": role=worker pid=7: three") {
		t.Errorf("%q", got)
	}
}
