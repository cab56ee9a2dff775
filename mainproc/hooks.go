package mainproc

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"rocserv/internal/ipc"
	"rocserv/mainproc/scripts"
)

// Scripts of the operator are told of each connection of a session, in order:
//
//	connect-script       before the tunnel is granted; who waits is the worker
//	host-update-script   after it, if there is a host name
//	disconnect-script    when sec-mod is told of the end, so before the
//	                     connect-script of the connection that comes next

const (
	scriptLimit  = 60 * time.Second // of each script, which is killed then
	scriptsGrace = 10 * time.Second // for scripts, when the server stops and its workers are gone
	// maxScripts is how many scripts run at a time that no client waits for.
	maxScripts = 32
)

var (
	errByScript   = errors.New("mainproc: connect-script refuses the client")
	errScriptLate = fmt.Errorf("mainproc: script killed: it took longer than %v", scriptLimit)
)

// hooks is the running of scripts.
type hooks struct {
	order scripts.Order // by session
	room  chan struct{}
	env   []string // that main was started with
}

func newHooks(env []string) *hooks { return &hooks{room: make(chan struct{}, maxScripts), env: env} }

// facts is what a script is told of the worker's connection.
func (w *worker) facts(reason string, sess *session) *scripts.Facts {
	h := w.srv.sessions.hold(sess, w)
	f := &scripts.Facts{Reason: reason, Session: h.show(), IPv6Bits: h.lease.Bits6}
	if d := w.about.Load(); d != nil {
		f.Config, f.DeviceType, f.DevicePlatform = d.config, d.device.kind, d.device.platform
	}
	return f
}

// runScript runs a program to its end.
func (s *server) runScript(path string, f *scripts.Facts) error {
	c, err := s.procs.script(path, f.Environment(s.hooks.env))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	tag := f.Session.Session[:min(shortIDLength, len(f.Session.Session))]
	c.tag.Store(&tag)
	t := time.NewTimer(scriptLimit)
	defer t.Stop()
	select {
	case <-c.done:
	case <-t.C:
		s.procs.kill(c)
		<-c.done
		return fmt.Errorf("%s: %w", path, errScriptLate)
	}
	switch {
	case c.status.Signaled():
		return fmt.Errorf("%s died with signal %d", path, int(c.status.Signal()))
	case c.status.ExitStatus() != 0:
		return fmt.Errorf("%s ended with status %d", path, c.status.ExitStatus())
	}
	return nil
}

// tellScript runs a program whose verdict nobody asks for, in its turn.
func (s *server) tellScript(path string, f *scripts.Facts) {
	s.hooks.order.Add(f.Session.Session, func() { s.toldScript(path, f) })
}

func (s *server) toldScript(path string, f *scripts.Facts) {
	s.hooks.room <- struct{}{}
	defer func() { <-s.hooks.room }()
	if err := s.runScript(path, f); err != nil {
		s.log.Error(f.Reason+" script failed", "user", f.Session.User, "err", err)
	}
}

// askConnectScript waits for connect-script, if there is one, and returns its
// refusal. A worker that dies does not wait; what the script has then let in
// for nothing is told to disconnect-script.
func (w *worker) askConnectScript(sess *session) error {
	s := w.srv
	path := s.settings().ConnectScript
	if path == "" {
		return nil
	}
	f := w.facts(scripts.Connect, sess)
	result := make(chan error, 1)
	var settled atomic.Bool // by the script, or by the worker's death
	s.hooks.order.Add(sess.safeID, func() {
		if settled.Load() {
			return
		}
		err := s.runScript(path, f)
		if settled.CompareAndSwap(false, true) {
			result <- err
		} else if undo := s.settings().DisconnectScript; err == nil && undo != "" {
			f.Reason, f.Ended = scripts.Disconnect, &scripts.Ended{Why: reasonText(ipc.Reason_REASON_ERROR)}
			s.toldScript(undo, f)
		}
	})
	var err error
	select {
	case err = <-result:
	case <-w.child.done:
		if settled.CompareAndSwap(false, true) {
			return errWorkerLost
		}
		err = <-result
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errByScript, err)
	}
	w.hooked = true
	return nil
}

// tellHostUpdate says that the client has a name.
func (w *worker) tellHostUpdate(sess *session) {
	path := w.srv.settings().HostUpdateScript
	if d := w.about.Load(); path != "" && d != nil && d.hostname != "" {
		w.srv.tellScript(path, w.facts(scripts.HostUpdate, sess))
	}
}

// tellDisconnectScript says that a connection is over that was granted, or
// that connect-script has let in.
func (w *worker) tellDisconnectScript(sess *session, reason ipc.Reason, up, down uint64) {
	path := w.srv.settings().DisconnectScript
	if path == "" || !w.granted && !w.hooked {
		return
	}
	f := w.facts(scripts.Disconnect, sess)
	f.Ended = &scripts.Ended{BytesIn: up, BytesOut: down, Duration: time.Since(w.since()), Why: reasonText(reason)}
	w.srv.tellScript(path, f)
}
