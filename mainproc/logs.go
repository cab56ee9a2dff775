package mainproc

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

	"rocserv/internal/rolelog"
)

const (
	maxChildLine = 8 << 10 // bytes of one line of a child; the rest is cut off
	childRate    = 10      // lines per second and child
	childBurst   = 100
	maxTrace     = 200 // lines without a priority in a child's life: one panic
)

// childLog turns what a child writes to standard error into log records. It is
// owned by the goroutine that reads the pipe.
type childLog struct {
	log     *slog.Logger
	child   *child
	limit   *rate.Limiter
	now     func() time.Time
	line    []byte // begun, without its end
	cut     bool   // what follows up to the next newline is too long
	traced  int    // lines without a priority so far
	dropped int    // lines not logged since the last that was
}

func newChildLog(log *slog.Logger, c *child) *childLog {
	return &childLog{
		log:   log.With("role", c.role.name, "pid", c.pid),
		child: c,
		limit: rate.NewLimiter(childRate, childBurst),
		now:   time.Now,
	}
}

// copy logs what comes from r until its end.
func (l *childLog) copy(r io.Reader) {
	var buf [1024]byte
	for {
		n, err := r.Read(buf[:])
		l.write(buf[:n])
		if err != nil {
			l.end()
			return
		}
	}
}

func (l *childLog) write(b []byte) {
	for len(b) > 0 {
		part, rest, whole := bytes.Cut(b, []byte{'\n'})
		b = rest
		if room := maxChildLine - len(l.line); len(part) > room {
			part, l.cut = part[:room], true
		}
		l.line = append(l.line, part...)
		if whole {
			l.flush()
		}
	}
}

// end logs an unfinished line and what was left uncounted.
func (l *childLog) end() {
	if len(l.line) > 0 {
		l.flush()
	}
	l.reportDropped()
}

func (l *childLog) flush() {
	line, cut := string(l.line), l.cut
	l.line, l.cut = l.line[:0], false
	if cap(l.line) > 1024 {
		l.line = nil
	}
	level, text, prefixed := rolelog.Split(line)
	if l.child.role == roleScript { // speaks no language of ours
		level, text, prefixed = slog.LevelInfo, line, true
	}
	if text == "" || !l.log.Enabled(context.Background(), level) {
		return
	}
	if !prefixed {
		l.traced++
	}
	if !prefixed && l.traced > maxTrace || prefixed && !l.limit.AllowN(l.now(), 1) {
		l.dropped++
		return
	}
	l.reportDropped()
	if cut {
		text += "..."
	}
	l.tagged().Log(context.Background(), level, rolelog.Clean(text))
}

// reportDropped says how much is missing, once something is logged again.
func (l *childLog) reportDropped() {
	if l.dropped > 0 {
		l.tagged().Warn(msgLinesDropped, "count", l.dropped)
		l.dropped = 0
	}
}

// tagged binds the short id of the connection or session, which changes in the
// life of a worker.
func (l *childLog) tagged() *slog.Logger {
	if tag := l.child.tag.Load(); tag != nil {
		return l.log.With("id", *tag)
	}
	return l.log
}
