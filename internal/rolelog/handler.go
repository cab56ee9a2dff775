package rolelog

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"
)

// NewHandler returns what a child logs with: lines with a priority, for w, its
// standard error.
func NewHandler(w io.Writer, least slog.Leveler) slog.Handler {
	return &handler{out: &output{w: w}, least: least}
}

// NewTextHandler returns what main logs with: lines for people.
func NewTextHandler(w io.Writer, least slog.Leveler) slog.Handler {
	return &handler{out: &output{w: w}, least: least, front: forPeople}
}

// front is what a line begins with.
type front uint8

const (
	forMain   front = iota // the priority
	forPeople              // time, level and what was bound
	forSyslog              // what was bound; the rest is the syslog's
)

// output is shared by a handler and all that were derived from it.
type output struct {
	mu sync.Mutex // one line at a time
	w  io.Writer
}

type handler struct {
	out   *output
	least slog.Leveler
	front front
	bound string // what With added, formatted, with a leading space
	group string // prefix of keys, with its dot
}

func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.least.Level() }

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	b := []byte(h.bound)
	for _, a := range attrs {
		b = appendAttr(b, h.group, a)
	}
	d := *h
	d.bound = string(b)
	return &d
}

func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	d := *h
	d.group += name + "."
	return &d
}

// Handle writes the record as one line.
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	b := make([]byte, 0, 256)
	switch h.front {
	case forMain:
		b = append(b, '<', priority(r.Level), '>')
	case forPeople:
		b = h.appendFront(b, r)
	case forSyslog:
		b = append(b, '<', priority(r.Level), '>') // what takes the line makes its own of it
		if h.bound != "" {
			b = append(append(b, h.bound[1:]...), ": "...)
		}
	}
	b = append(b, Clean(r.Message)...)
	if h.front == forMain {
		b = append(b, h.bound...)
	}
	r.Attrs(func(a slog.Attr) bool {
		b = appendAttr(b, h.group, a)
		return len(b) < MaxLine
	})
	b = append(cut(b, MaxLine-1), '\n')
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	_, err := h.out.w.Write(b)
	return err
}

// appendFront appends time, level and what was bound.
func (h *handler) appendFront(b []byte, r slog.Record) []byte {
	if !r.Time.IsZero() {
		b = r.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z ")
	}
	b = append(b, word(r.Level)...)
	b = append(b, h.bound...)
	return append(b, ": "...)
}

// cut shortens b to at most n bytes and shows that it did.
func cut(b []byte, n int) []byte {
	const mark = "..."
	if len(b) <= n {
		return b
	}
	b = b[:n-len(mark)]
	for len(b) > 0 && b[len(b)-1]&0xC0 == 0x80 { // not inside a character
		b = b[:len(b)-1]
	}
	if len(b) > 0 && b[len(b)-1] >= 0xC0 {
		b = b[:len(b)-1]
	}
	return append(b, mark...)
}

func appendAttr(b []byte, group string, a slog.Attr) []byte {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, m := range v.Group() {
			b = appendAttr(b, group, m)
		}
		return b
	}
	if a.Key == "" && v.Any() == nil {
		return b
	}
	b = append(b, ' ')
	b = append(b, Clean(group+a.Key)...)
	b = append(b, '=')
	return appendValue(b, v)
}

func appendValue(b []byte, v slog.Value) []byte {
	switch v.Kind() {
	case slog.KindTime:
		return v.Time().UTC().AppendFormat(b, time.RFC3339)
	case slog.KindString, slog.KindAny:
		s := v.String()
		if s == "" || strings.ContainsFunc(s, needsQuotes) {
			return strconv.AppendQuote(b, s)
		}
		return append(b, s...)
	}
	return append(b, v.String()...)
}

func needsQuotes(r rune) bool { return r == ' ' || r == '"' || r == '=' || unprintable(r) }
