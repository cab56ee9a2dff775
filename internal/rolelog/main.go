package rolelog

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"
	"time"
)

// Main is what main logs to: standard error as text or JSON, syslog, or both.
// Where each goes can change while it is in use.
type Main struct {
	quiet  atomic.Bool // nothing to standard error
	json   atomic.Bool
	syslog atomic.Pointer[Syslog]
}

// NewMain returns a Main and the handler that logs to it; w is standard error.
func NewMain(w io.Writer, least slog.Leveler) (*Main, slog.Handler) {
	m := new(Main)
	structured := slog.NewJSONHandler(w, &slog.HandlerOptions{Level: least, ReplaceAttr: jsonAttr})
	system := &handler{out: &output{w: toSyslog{m}}, least: least, front: forSyslog}
	return m, &mainHandler{m, NewTextHandler(w, least), structured, system}
}

// SetJSON has lines of standard error be JSON objects.
func (m *Main) SetJSON(on bool) { m.json.Store(on) }

// SetSyslog has everything go to a syslog, beside standard error or instead of it.
func (m *Main) SetSyslog(s *Syslog, only bool) {
	m.syslog.Store(s)
	m.quiet.Store(only)
}

// SetFacility is Syslog.SetFacility, if there is one.
func (m *Main) SetFacility(name string) {
	if s := m.syslog.Load(); s != nil {
		s.SetFacility(name)
	}
}

// Close waits, within bounds, for what the syslog has yet to be told.
func (m *Main) Close() {
	if s := m.syslog.Load(); s != nil {
		s.Close()
	}
}

// toSyslog writes to the syslog in effect.
type toSyslog struct{ m *Main }

func (t toSyslog) Write(b []byte) (int, error) {
	if s := t.m.syslog.Load(); s != nil {
		return s.Write(b)
	}
	return len(b), nil
}

type mainHandler struct {
	to                       *Main
	text, structured, system slog.Handler
}

func (h *mainHandler) Enabled(ctx context.Context, l slog.Level) bool { return h.text.Enabled(ctx, l) }

func (h *mainHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &mainHandler{h.to, h.text.WithAttrs(attrs), h.structured.WithAttrs(attrs), h.system.WithAttrs(attrs)}
}

func (h *mainHandler) WithGroup(name string) slog.Handler {
	return &mainHandler{h.to, h.text.WithGroup(name), h.structured.WithGroup(name), h.system.WithGroup(name)}
}

func (h *mainHandler) Handle(ctx context.Context, r slog.Record) error {
	var err error
	if h.to.syslog.Load() != nil {
		err = h.system.Handle(ctx, r)
	}
	switch {
	case h.to.quiet.Load():
		return err
	case h.to.json.Load():
		return h.structured.Handle(ctx, r)
	}
	return h.text.Handle(ctx, r)
}

// jsonAttr gives the standard keys the form they have in lines for people.
func jsonAttr(groups []string, a slog.Attr) slog.Attr {
	switch {
	case len(groups) > 0:
	case a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime:
		a.Value = slog.StringValue(a.Value.Time().UTC().Format("2006-01-02T15:04:05.000Z"))
	case a.Key == slog.LevelKey:
		if l, ok := a.Value.Any().(slog.Level); ok {
			a.Value = slog.StringValue(word(l))
		}
	case a.Value.Kind() == slog.KindDuration:
		a.Value = slog.StringValue(time.Duration(a.Value.Duration()).String())
	}
	return a
}
