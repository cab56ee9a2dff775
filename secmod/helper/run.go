package helper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"rocserv/internal/ipc"
	"rocserv/internal/sandbox"
)

// Logger is what methods log with.
type Logger = *slog.Logger

// maxLogins is how many logins are under way at most; sec-mod has no more.
const maxLogins = 4096

// ErrSecModGone is what Run returns when sec-mod's end of the channel is closed.
var ErrSecModGone = errors.New("helper: sec-mod is gone")

// Options are what Run needs.
type Options struct {
	SecMod *ipc.Conn // the channel to sec-mod; Run closes it
	Kind   Kind
	Log    Logger

	// Confine leaves this process these files and nothing else. nil: it is not
	// confined.
	Confine func(sandbox.Files) (sandbox.Report, error)
}

// Run is the life of a helper: it hears what is configured, and serves logins
// until sec-mod is gone (ErrSecModGone) or breaks the protocol.
func Run(o Options) error {
	s := &server{Options: o, logins: map[uint64]*login{}, asked: map[uint32]chan int{}}
	var end context.CancelFunc
	s.life, end = context.WithCancel(context.Background())
	defer end()
	defer s.stop()
	if err := s.configure(); err != nil {
		return err
	}
	for i, m := range s.made {
		if m.Listen != nil {
			go m.Listen(s.life, func(ctx context.Context, t Target) (int, error) { return s.disconnect(ctx, uint32(i), t) })
		}
	}
	for {
		rec, err := s.SecMod.Recv()
		if err == nil {
			err = s.dispatch(&rec)
		}
		switch {
		case errors.Is(err, io.EOF):
			return ErrSecModGone
		case err != nil:
			return fmt.Errorf("helper: sec-mod: %w", err)
		}
	}
}

// server is a helper.
type server struct {
	Options
	life context.Context // ends with Run
	made []Made          // by sec-mod's numbers

	mu     sync.Mutex
	logins map[uint64]*login // by sec-mod's numbers
	lastID uint32
	asked  map[uint32]chan int // who waits for HELPER_DISCONNECTED
}

// configure hears the first message, makes the methods, gives up everything else,
// and says so.
func (s *server) configure() error {
	rec, err := s.SecMod.Recv()
	switch {
	case errors.Is(err, io.EOF):
		return ErrSecModGone
	case err != nil:
		return err
	case rec.Type != ipc.HelperConfigT:
		return violation("%v before the configuration", rec.Type)
	}
	m := new(ipc.HelperConfig)
	if err := rec.Decode(m); err != nil {
		return err
	}
	rep := new(ipc.HelperReady)
	err = s.make(m, rep)
	if err != nil {
		rep = &ipc.HelperReady{Error: err.Error()}
	}
	return errors.Join(err, s.SecMod.Send(ipc.HelperReadyT, rec.ID, rep))
}

func (s *server) make(m *ipc.HelperConfig, rep *ipc.HelperReady) error {
	var files sandbox.Files
	var accounts []map[string]string
	for _, line := range m.Methods {
		made, err := s.Kind.make(line, s.Log)
		if err != nil {
			return err
		}
		s.made = append(s.made, made)
		if line.Account {
			accounts = append(accounts, line.Options)
		}
		for _, w := range made.Warnings {
			if !slices.Contains(rep.Warnings, w) {
				rep.Warnings = append(rep.Warnings, w)
			}
		}
		rep.Watch = append(rep.Watch, whole(made.Watch)...)
		files.Read = append(files.Read, made.Files.Read...)
		files.List = append(files.List, made.Files.List...)
		files.Write = append(files.Write, made.Files.Write...)
		files.Exact = append(files.Exact, made.Files.Exact...)
	}
	if s.Kind.Together != nil {
		if err := s.Kind.Together(accounts); err != nil {
			return err
		}
	}
	if s.Confine == nil {
		return nil
	}
	done, err := s.Confine(files)
	rep.Confinement, rep.Missing = sandbox.Report{Reached: done.Reached}.String(), done.Missing
	return err
}

// whole are names of files as main can look at them.
func whole(names []string) (list []string) {
	for _, name := range names {
		if full, err := filepath.Abs(name); err == nil && name != "" {
			list = append(list, valid(full))
		}
	}
	return list
}

// make makes what a line of the configuration says.
func (k Kind) make(line *ipc.HelperMethod, log Logger) (Made, error) {
	make := k.Make
	if line.Account {
		make = k.MakeAccount
	}
	if make == nil {
		return Made{}, errors.New("this program has no such method")
	}
	return make(line.Options, log)
}

// row is what is done with a message. Each runs on a goroutine of its own, but
// for taking its login, which happens in the order of messages.
type row func(*server, *ipc.Record) error

// table is everything sec-mod can say once the helper is ready.
var table = map[ipc.Type]row{
	ipc.HelperBeginT:  (*server).begin,
	ipc.HelperAnswerT: (*server).answer,
	ipc.HelperCancelT: (*server).cancel,
	ipc.HelperBrowseT: (*server).browse,

	ipc.HelperRelayT:        (*server).relay,
	ipc.HelperAccountT:      (*server).account,
	ipc.HelperDisconnectedT: (*server).disconnected,
}

func (s *server) dispatch(rec *ipc.Record) error {
	defer rec.Clear()
	do, ok := table[rec.Type]
	if !ok {
		return violation("%v from sec-mod", rec.Type)
	}
	return do(s, rec)
}

// login is a login under way. It is in server.logins until its last verdict, or
// until it is cancelled.
type login struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu       sync.Mutex // held while a step is under way
	dialogue Dialogue

	browsing atomic.Value // Browsing: the dialogue, if it is one
}

func (s *server) begin(rec *ipc.Record) error {
	m := new(ipc.HelperBegin)
	if err := rec.Decode(m); err != nil {
		return err
	}
	if int(m.Method) >= len(s.made) || s.made[m.Method].Method == nil {
		return violation("a login at method %d of %d", m.Method, len(s.made))
	}
	l := new(login)
	l.ctx, l.cancel = context.WithCancel(context.Background())
	s.mu.Lock()
	known, full := s.logins[m.Login] != nil, len(s.logins) >= maxLogins
	if !known && !full {
		s.logins[m.Login] = l
	}
	s.mu.Unlock()
	switch {
	case known:
		return violation("login %d begun twice", m.Login)
	case full:
		l.cancel()
		return s.reply(rec.ID, Verdict{Outcome: Unavailable, Why: "too many logins under way"})
	}
	l.mu.Lock()
	go s.step(rec.ID, m.Login, l, func() Verdict {
		d, v := s.made[m.Method].Method.Begin(l.ctx, applicantOf(m))
		l.dialogue = d
		if b, ok := d.(Browsing); ok {
			l.browsing.Store(b)
		}
		return v
	})
	return nil
}

func (s *server) answer(rec *ipc.Record) error {
	m := new(ipc.HelperAnswer)
	if err := rec.Decode(m); err != nil {
		return err
	}
	s.mu.Lock()
	l := s.logins[m.Login]
	s.mu.Unlock()
	if l == nil {
		clear(m.Answer)
		return s.reply(rec.ID, Verdict{Outcome: Unavailable, Why: "the login is over"})
	}
	if !l.mu.TryLock() {
		clear(m.Answer)
		return violation("login %d has two answers at once", m.Login)
	}
	go s.step(rec.ID, m.Login, l, func() Verdict {
		defer clear(m.Answer)
		return l.dialogue.Answer(l.ctx, m.Answer)
	})
	return nil
}

// browse gives a dialogue what its browser has brought.
func (s *server) browse(rec *ipc.Record) error {
	m := new(ipc.HelperBrowse)
	if err := rec.Decode(m); err != nil {
		return err
	}
	if m.Browse == nil {
		return violation("nothing that a browser brought")
	}
	s.mu.Lock()
	l := s.logins[m.Login]
	s.mu.Unlock()
	var b Browsing
	if l != nil {
		b, _ = l.browsing.Load().(Browsing)
	}
	if b == nil {
		return s.SecMod.Send(ipc.HelperBrowsedT, rec.ID, new(ipc.Browsed))
	}
	id := rec.ID
	go func() {
		rep := &ipc.Browsed{Result: ipc.BrowseResult_BROWSE_UNAVAILABLE} // after a panic
		s.guarded(func() Verdict {
			rep = b.Browse(l.ctx, m.Browse)
			return Verdict{}
		})
		if s.SecMod.Send(ipc.HelperBrowsedT, id, rep) != nil {
			s.SecMod.Close()
		}
	}()
	return nil
}

// cancel ends a login. What is under way is told by its context, and its end is
// awaited elsewhere.
func (s *server) cancel(rec *ipc.Record) error {
	m := new(ipc.HelperCancel)
	if err := rec.Decode(m); err != nil {
		return err
	}
	if l := s.take(m.Login); l != nil {
		l.cancel()
		go func() {
			l.mu.Lock()
			l.end()
		}()
	}
	return nil
}

// take removes a login from those under way; nil if it is not among them.
func (s *server) take(id uint64) *login {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.logins[id]
	delete(s.logins, id)
	return l
}

// step makes a step of a login and tells sec-mod. l.mu is held and released.
func (s *server) step(id uint32, number uint64, l *login, do func() Verdict) {
	v := s.guarded(do).bounded()
	if v.Outcome == Ask {
		l.mu.Unlock()
	} else if s.take(number) != nil {
		l.cancel()
		l.end()
	} else { // cancelled meanwhile, and who did that ends it
		l.mu.Unlock()
	}
	if err := s.reply(id, v); err != nil {
		s.SecMod.Close()
	}
}

// end ends the dialogue, if one was begun. l.mu is held for good.
func (l *login) end() {
	if l.dialogue != nil {
		l.dialogue.End()
	}
}

// account tells of a session.
func (s *server) account(rec *ipc.Record) error {
	m := new(ipc.HelperAccount)
	if err := rec.Decode(m); err != nil {
		return err
	}
	if int(m.Method) >= len(s.made) || s.made[m.Method].Account == nil {
		return violation("accounting at method %d of %d", m.Method, len(s.made))
	}
	id := rec.ID
	go func() {
		v := s.guarded(func() (v Verdict) {
			if err := s.made[m.Method].Account.Tell(s.life, accountingOf(m)); err != nil {
				v.Why = cmp.Or(err.Error(), "not accounted")
			}
			return v
		})
		if s.SecMod.Send(ipc.HelperAccountedT, id, &ipc.HelperAccounted{Error: valid(v.Why)}) != nil {
			s.SecMod.Close()
		}
	}()
	return nil
}

// relay takes what a client sends to a server.
func (s *server) relay(rec *ipc.Record) error {
	m := new(ipc.HelperRelay)
	if err := rec.Decode(m); err != nil {
		return err
	}
	if int(m.Method) >= len(s.made) || s.made[m.Method].Relay == nil {
		return violation("a message for method %d of %d", m.Method, len(s.made))
	}
	id := rec.ID
	go func() {
		rep := new(ipc.HelperRelayed)
		v := s.guarded(func() (v Verdict) {
			answer, err := s.made[m.Method].Relay(s.life, m.Message)
			if rep.Message = answer; err != nil {
				v.Why = cmp.Or(err.Error(), "no answer")
			}
			return v
		})
		if rep.Error = valid(v.Why); len(rep.Error) > maxWhy {
			rep.Error = valid(rep.Error[:maxWhy])
		}
		if s.SecMod.Send(ipc.HelperRelayedT, id, rep) != nil {
			s.SecMod.Close()
		}
	}()
	return nil
}

// maxWhy is how much of an error is told of what was not relayed, in bytes.
const maxWhy = 1 << 10

// disconnect asks sec-mod to end sessions that are accounted by a method.
func (s *server) disconnect(ctx context.Context, method uint32, t Target) (int, error) {
	answer := make(chan int, 1)
	s.mu.Lock()
	s.lastID++
	id := s.lastID
	s.asked[id] = answer
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.asked, id)
	}()
	m := &ipc.HelperDisconnect{Method: method, SafeId: t.SafeID, User: t.User, Lease: ipc.PutAddr(t.Lease), Peer: ipc.PutAddr(t.Peer)}
	if err := s.SecMod.Send(ipc.HelperDisconnectT, id, m); err != nil {
		return 0, err
	}
	select {
	case n := <-answer:
		return n, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (s *server) disconnected(rec *ipc.Record) error {
	m := new(ipc.HelperDisconnected)
	if err := rec.Decode(m); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if to := s.asked[rec.ID]; to != nil {
		delete(s.asked, rec.ID)
		to <- int(m.Sessions)
	}
	return nil
}

// guarded makes a panic the end of one login, or an error of what is told of a
// session. Only the runtime's own errors are known to hold nothing of what the
// program was working on.
func (s *server) guarded(do func() Verdict) (v Verdict) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		what := fmt.Sprintf("value of type %T", p)
		if e, ok := p.(runtime.Error); ok {
			what = e.Error()
		}
		const most = 3 << 10
		stack := debug.Stack()
		s.Log.Error("panic", "what", what, "stack", string(stack[:min(most, len(stack))]))
		v = Verdict{Outcome: Unavailable, Why: "internal error of the login helper"}
	}()
	return do()
}

func (s *server) reply(id uint32, v Verdict) error {
	return s.SecMod.Send(ipc.HelperVerdictT, id, v.message())
}

// bounded is the verdict if a record can hold it, whatever a server has said.
func (v Verdict) bounded() Verdict {
	const room = ipc.MaxRecord - 1024
	if proto.Size(v.message()) > room {
		return Verdict{Outcome: Unavailable, Why: "its server says more than a message holds"}
	}
	return v
}

// stop ends every login.
func (s *server) stop() {
	s.SecMod.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.logins {
		l.cancel()
	}
}

func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ipc.ErrViolation, fmt.Sprintf(format, args...))
}
