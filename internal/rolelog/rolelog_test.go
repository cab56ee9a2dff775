package rolelog

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

type secret string

func (secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

func TestChildLines(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(NewHandler(&out, slog.LevelDebug))
	tests := []struct {
		name string
		log  func()
		want string
	}{
		{"plain", func() { log.Info("ready") }, "<6>ready\n"},
		{"levels", func() { log.Debug("a"); log.Warn("b"); log.Error("c") }, "<7>a\n<4>b\n<3>c\n"},
		{"attributes", func() { log.Info("m", "user", "ann", "n", 3, "ok", true) }, "<6>m user=ann n=3 ok=true\n"},
		{"quoted", func() { log.Info("m", "a", "two words", "b", "", "c", `x="y"`) }, `<6>m a="two words" b="" c="x=\"y\""` + "\n"},
		{"error", func() { log.Error("m", "err", errors.New("no way")) }, `<3>m err="no way"` + "\n"},
		{"duration", func() { log.Info("m", "d", 1500*time.Millisecond) }, "<6>m d=1.5s\n"},
		{"time", func() { log.Info("m", "t", time.Unix(0, 0)) }, "<6>m t=1970-01-01T00:00:00Z\n"},
		{"nil", func() { log.Info("m", "v", nil) }, "<6>m v=<nil>\n"},
		{"valuer", func() { log.Info("m", "password", secret("hunter2")) }, "<6>m password=[redacted]\n"},
		{"with", func() { log.With("user", "ann").Info("m", "n", 1) }, "<6>m user=ann n=1\n"},
		{"group", func() { log.WithGroup("tls").With("v", "1.3").Info("m", "s", 1) }, "<6>m tls.v=1.3 tls.s=1\n"},
		{"inline group", func() { log.Info("m", slog.Group("g", "a", 1, "b", 2)) }, "<6>m g.a=1 g.b=2\n"},
		{"newline in the message", func() { log.Info("a\n<3>forged\x1b[31m") }, "<6>a?<3>forged?[31m\n"},
		{"newline in a value", func() { log.Info("m", "v", "a\nb") }, `<6>m v="a\nb"` + "\n"},
		{"newline in a key", func() { log.Info("m", "k\nx", 1) }, "<6>m k?x=1\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out.Reset()
			tt.log()
			if got := out.String(); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestTextLines(t *testing.T) {
	var out bytes.Buffer
	h := NewTextHandler(&out, slog.LevelInfo)
	if h.Enabled(context.Background(), slog.LevelDebug) {
		t.Error("debug is shown")
	}
	r := slog.NewRecord(time.Date(2026, 11, 23, 18, 51, 7, 123e6, time.UTC), slog.LevelWarn, "no role=main", 0)
	r.AddAttrs(slog.Int("n", 1))
	h.WithAttrs([]slog.Attr{slog.String("role", "worker"), slog.Int("pid", 4711)}).Handle(context.Background(), r)
	want := "2026-11-23T18:51:07.123Z warning role=worker pid=4711: no role=main n=1\n"
	if got := out.String(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

type writes struct{ lines [][]byte }

func (w *writes) Write(b []byte) (int, error) {
	w.lines = append(w.lines, bytes.Clone(b))
	return len(b), nil
}

func TestLongLine(t *testing.T) {
	for shift := range 4 { // the cut falls on every byte of a character
		w := &writes{}
		slog.New(NewHandler(w, slog.LevelInfo)).Info(strings.Repeat("x", shift)+strings.Repeat("€", 3000), "k", strings.Repeat("v", 9000))
		if len(w.lines) != 1 {
			t.Fatalf("%d writes", len(w.lines))
		}
		line := w.lines[0]
		if len(line) > MaxLine || len(line) < MaxLine-6 || !bytes.HasSuffix(line, []byte("...\n")) {
			t.Errorf("line of %d bytes, end %q", len(line), line[len(line)-8:])
		}
		if !utf8.Valid(line) {
			t.Errorf("shift %d: cut inside a character", shift)
		}
	}
}

func TestSplit(t *testing.T) {
	tests := []struct {
		line  string
		level slog.Level
		text  string
		ok    bool
	}{
		{"<6>hello", slog.LevelInfo, "hello", true},
		{"<5>notice", slog.LevelInfo, "notice", true},
		{"<7>d", slog.LevelDebug, "d", true},
		{"<4>w", slog.LevelWarn, "w", true},
		{"<3>e", slog.LevelError, "e", true},
		{"<0>e", slog.LevelError, "e", true},
		{"<6>", slog.LevelInfo, "", true},
		{"<8>x", slog.LevelError, "<8>x", false},
		{"<6x", slog.LevelError, "<6x", false},
		{"<", slog.LevelError, "<", false},
		{"", slog.LevelError, "", false},
		{"panic: oh", slog.LevelError, "panic: oh", false},
	}
	for _, tt := range tests {
		level, text, ok := Split(tt.line)
		if level != tt.level || text != tt.text || ok != tt.ok {
			t.Errorf("Split(%q) = %v, %q, %v", tt.line, level, text, ok)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		w := &writes{}
		slog.New(NewHandler(w, slog.LevelDebug)).Log(context.Background(), level, "text")
		got, text, ok := Split(strings.TrimSuffix(string(w.lines[0]), "\n"))
		if got != level || text != "text" || !ok {
			t.Errorf("%v came back as %v, %q, %v", level, got, text, ok)
		}
	}
}

func TestLevel(t *testing.T) {
	for n, want := range map[int]slog.Level{0: slog.LevelInfo, 1: slog.LevelInfo, 2: slog.LevelInfo, 3: slog.LevelDebug, 9999: slog.LevelDebug} {
		if got := Level(n); got != want {
			t.Errorf("Level(%d) = %v, want %v", n, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"", "plain", "a\x00b", "\xff\xfe", "\x1b]0;x\x07", "\u202edesrever", "日本語", "\u2028"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		level, text, ok := Split(s)
		if ok && "<"+s[1:2]+">"+text != s || !ok && (text != s || level != slog.LevelError) {
			t.Errorf("Split(%q) = %v, %q, %v", s, level, text, ok)
		}
		c := Clean(s)
		if !utf8.ValidString(c) || strings.ContainsAny(c, "\n\r\x00\x1b\u2028\u202e") {
			t.Errorf("Clean(%q) = %q", s, c)
		}
		if Clean(c) != c {
			t.Errorf("Clean(%q) is not stable", s)
		}
	})
}
