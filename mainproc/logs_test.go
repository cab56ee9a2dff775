package mainproc

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"rocserv/internal/rolelog"
)

func childLogOf(level slog.Level) (*childLog, *bytes.Buffer, *time.Time) {
	var out bytes.Buffer
	now := epoch
	l := newChildLog(slog.New(rolelog.NewTextHandler(&out, level)), &child{role: roleWorker, pid: 42})
	l.now = func() time.Time { return now }
	return l, &out, &now
}

// lines strips the time of each line.
func lines(out *bytes.Buffer) []string {
	var list []string
	for l := range strings.Lines(out.String()) {
		_, l, _ = strings.Cut(strings.TrimSuffix(l, "\n"), " ")
		list = append(list, l)
	}
	return list
}

func TestChildLogLines(t *testing.T) {
	tests := []struct {
		name   string
		writes []string
		want   []string
	}{
		{"levels", []string{"<6>up\n<4>odd\n<3>bad\n"}, []string{"info: up", "warning: odd", "error: bad"}},
		{"in pieces", []string{"<6>o", "n", "e\n<6>two", "\n"}, []string{"info: one", "info: two"}},
		{"without an end", []string{"<6>last"}, []string{"info: last"}},
		{"debug is not shown", []string{"<7>detail\n<6>up\n"}, []string{"info: up"}},
		{"no priority is an error", []string{"panic: oh\n\ngoroutine 1:\n"}, []string{"error: panic: oh", "error: goroutine 1:"}},
		{"control characters", []string{"<6>a\x1b[2J\x00b\r\n"}, []string{"info: a?[2J?b?"}},
		{"empty lines", []string{"\n\n<6>\n"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, out, _ := childLogOf(slog.LevelInfo)
			for _, w := range tt.writes {
				l.write([]byte(w))
			}
			l.end()
			got := lines(out)
			if len(got) != len(tt.want) {
				t.Fatalf("%q, want %q", got, tt.want)
			}
			for i := range got {
				level, text, _ := strings.Cut(tt.want[i], ": ")
				if want := level + " role=worker pid=42: " + text; got[i] != want {
					t.Errorf("got  %q\nwant %q", got[i], want)
				}
			}
		})
	}
}

func TestChildLogTag(t *testing.T) {
	l, out, _ := childLogOf(slog.LevelInfo)
	tag := "conn-1"
	l.child.tag.Store(&tag)
	l.write([]byte("<6>a\n"))
	next := "Zm9v"
	l.child.tag.Store(&next)
	l.write([]byte("<6>b id=forged\n"))
	want := []string{"info role=worker pid=42 id=conn-1: a", "info role=worker pid=42 id=Zm9v: b id=forged"}
	if got := lines(out); len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %q", got)
	}
}

func TestChildLogBounds(t *testing.T) {
	t.Run("long line", func(t *testing.T) {
		l, out, _ := childLogOf(slog.LevelInfo)
		for range 100 {
			l.write(bytes.Repeat([]byte("x"), 1000))
		}
		if cap(l.line) > 2*maxChildLine {
			t.Errorf("%d bytes held", cap(l.line))
		}
		l.write([]byte("\n<6>next\n"))
		got := lines(out)
		if len(got) != 2 || len(got[0]) > maxChildLine || !strings.HasSuffix(got[0], "...") || !strings.HasSuffix(got[1], ": next") {
			t.Errorf("%d lines, the first of %d bytes", len(got), len(got[0]))
		}
		if cap(l.line) > 1024 {
			t.Error("the memory of a long line is kept")
		}
	})
	t.Run("many lines", func(t *testing.T) {
		l, out, now := childLogOf(slog.LevelInfo)
		for i := range 10 * childBurst {
			l.write(fmt.Appendf(nil, "<6>%d\n", i))
		}
		if got := len(lines(out)); got != childBurst {
			t.Errorf("%d lines of a burst", got)
		}
		*now = now.Add(time.Second)
		out.Reset()
		l.write([]byte("<6>later\n"))
		got := lines(out)
		if len(got) != 2 || !strings.Contains(got[0], fmt.Sprintf("%s count=%d", msgLinesDropped, 9*childBurst)) || !strings.HasSuffix(got[1], ": later") {
			t.Errorf("got %q", got)
		}
	})
	t.Run("traces", func(t *testing.T) {
		l, out, now := childLogOf(slog.LevelInfo)
		for range 10 * maxTrace {
			*now = now.Add(time.Hour) // no rate helps
			l.write([]byte("main.main()\n"))
		}
		l.end()
		got := lines(out)
		if len(got) != maxTrace+1 || !strings.Contains(got[maxTrace], fmt.Sprintf("count=%d", 9*maxTrace)) {
			t.Errorf("%d lines", len(got))
		}
	})
	t.Run("hidden lines cost nothing", func(t *testing.T) {
		l, out, _ := childLogOf(slog.LevelInfo)
		for range 10 * childBurst {
			l.write([]byte("<7>detail\n"))
		}
		l.write([]byte("<6>up\n"))
		l.end()
		if got := lines(out); len(got) != 1 {
			t.Errorf("got %q", got)
		}
	})
}

func FuzzChildLog(f *testing.F) {
	for _, s := range []string{"<6>a\n", "<6>", "panic: x\n\tmain.go:1\n", "\xff\x00\n\n\n", strings.Repeat("x", 9000)} {
		f.Add([]byte(s), uint(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, step uint) {
		l, out, _ := childLogOf(slog.LevelDebug)
		n := int(step%100) + 1
		for len(b) > 0 {
			k := min(n, len(b))
			l.write(b[:k])
			b = b[k:]
		}
		l.end()
		for line := range strings.Lines(out.String()) {
			if len(line) > rolelog.MaxLine || strings.ContainsAny(line[:len(line)-1], "\x00\x1b\r") || !strings.Contains(line, "role=worker pid=42: ") {
				t.Errorf("line %q", line)
			}
		}
	})
}

func TestNotice(t *testing.T) {
	n := notice{every: time.Minute}
	var got []int
	for _, s := range []int{0, 1, 30, 60, 61, 200} {
		got = append(got, n.due(epoch.Add(time.Duration(s)*time.Second)))
	}
	if want := []int{1, 0, 0, 3, 0, 2}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
