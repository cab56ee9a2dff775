package secmod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rocserv/internal/config"
	"rocserv/internal/ipc"
)

const (
	// helperStart is how long the helpers of a configuration, all at the same time,
	// may take from being asked for until they are ready: main waits twice as long
	// for the configuration that needs them.
	helperStart = 30 * time.Second
	// helperQueue is how many steps of logins wait for one helper; who comes then
	// is told AUTH_BUSY, as in the queue for hashing.
	helperQueue = maxHashQueue
	// Between two helpers, the first of which ended by itself.
	helperPause, helperLongPause = time.Second, time.Minute
	// helperLook is how often a helper is looked at that is to end once it has nothing
	// to do. It is longer than a worker needs to begin a login at a generation that it
	// took when that was in effect.
	helperLook = 100 * time.Millisecond
)

var (
	errHelperGone  = errors.New("the login helper ended")
	errHelperBusy  = errors.New("too many logins wait for the login helper")
	errHelperLate  = errors.New("no answer within auth-timeout")
	errHelperStart = errors.New("the login helper did not start in time")
)

// helperLink is sec-mod's side of the login helper of one method, for one generation
// of the configuration. It is a process that main starts (package helper says what
// it does), and another one when that ends by itself.
type helperLink struct {
	s    *server
	name string
	conf *ipc.HelperConfig
	wait time.Duration // for one step; 0: as long as it takes

	logins atomic.Uint64 // numbers given
	busy   atomic.Int64  // logins and requests that are under way
	steps  atomic.Int64  // of clients, that wait
	quit   chan struct{} // closed by stop
	over   chan struct{} // closed when run returned

	mu      sync.Mutex
	stopped bool
	conn    *ipc.Conn // nil: there is no helper at the moment
	lastID  uint32
	waiting map[uint32]chan *ipc.Record // of conn
}

func newHelper(s *server, name string, wait time.Duration) *helperLink {
	return &helperLink{
		s: s, name: name, wait: wait, conf: &ipc.HelperConfig{StepTimeoutS: seconds(wait)},
		quit: make(chan struct{}), over: make(chan struct{}), waiting: map[uint32]chan *ipc.Record{},
	}
}

// add adds a line of the configuration, perhaps of acct, and returns its number.
func (h *helperLink) add(m config.Method, account bool) uint32 {
	h.conf.Methods = append(h.conf.Methods, &ipc.HelperMethod{Options: m.Options, Account: account})
	return uint32(len(h.conf.Methods) - 1)
}

// start returns when the helper is ready, with what it says of that, or says why it
// will not be, which it will not when ctx ends.
func (h *helperLink) start(ctx context.Context) (*ipc.HelperReady, error) {
	conn, rep, err := h.open(ctx)
	if err != nil {
		close(h.over)
		return nil, err
	}
	go func() {
		defer close(h.over)
		if h.ended(h.read(conn)) {
			h.again()
		}
	}()
	return rep, nil
}

// ended reports whether another helper is wanted in place of one that ended.
func (h *helperLink) ended(err error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.stopped {
		h.s.Log.Error("login helper ended", "method", h.name, "err", err)
	}
	return !h.stopped
}

// again starts one helper after the other, with a pause that grows while they do
// not live longer than it.
func (h *helperLink) again() {
	pause := helperPause
	for {
		select {
		case <-time.After(pause + rand.N(pause/4)):
		case <-h.quit:
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), helperStart)
		conn, _, err := h.open(ctx)
		cancel()
		began := time.Now()
		if err == nil {
			err = h.read(conn)
		}
		if !h.ended(err) {
			return
		}
		if pause = min(2*pause, helperLongPause); time.Since(began) > helperLongPause {
			pause = helperPause
		}
	}
}

// open brings a helper into effect: started, and ready, both before ctx ends.
func (h *helperLink) open(ctx context.Context) (*ipc.Conn, *ipc.HelperReady, error) {
	conn, err := h.s.helpers.request(ctx, h)
	if err != nil {
		return nil, nil, err
	}
	rep, err := h.configure(ctx, conn)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		conn.Close()
		return nil, nil, errHelperGone
	}
	h.conn = conn
	h.s.Log.Info("login helper is ready", "method", h.name, "reached", rep.Confinement)
	for _, layer := range rep.Missing {
		h.s.Log.Warn("login helper is not confined by "+layer, "method", h.name)
	}
	return conn, rep, nil
}

// configure tells a new helper what it is for, and hears whether it can.
func (h *helperLink) configure(ctx context.Context, conn *ipc.Conn) (*ipc.HelperReady, error) {
	inTime := context.AfterFunc(ctx, conn.Interrupt)
	defer inTime()
	rep := new(ipc.HelperReady)
	err := conn.Call(ipc.HelperConfigT, h.conf, ipc.HelperReadyT, rep)
	switch {
	case err != nil && !inTime():
		return nil, errHelperStart
	case errors.Is(err, io.EOF):
		return nil, errHelperGone
	case err != nil:
		return nil, err
	case rep.Error != "":
		return nil, errors.New(rep.Error)
	}
	return rep, nil
}

// read hands answers to who waits for them, until the channel ends. It returns
// why that ended.
func (h *helperLink) read(conn *ipc.Conn) error {
	defer conn.Close()
	defer h.lost()
	for {
		rec, err := conn.Recv()
		if err != nil {
			return err
		}
		if rec.Type == ipc.HelperDisconnectT {
			if err := h.disconnect(conn, &rec); err != nil {
				return err
			}
			continue
		}
		h.mu.Lock()
		to := h.waiting[rec.ID]
		delete(h.waiting, rec.ID)
		h.mu.Unlock()
		if to == nil { // nobody waits any more
			rec.Clear()
			continue
		}
		to <- &rec
	}
}

// lost tells those who wait that there is no helper any more.
func (h *helperLink) lost() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conn = nil
	for id, to := range h.waiting {
		close(to)
		delete(h.waiting, id)
	}
}

// step is ask for what clients make it ask: a step of a login, or a message of theirs.
// Of those not too many wait.
func (h *helperLink) step(t ipc.Type, q ipc.Message, want ipc.Type, rep ipc.Message) error {
	defer h.steps.Add(-1)
	if h.steps.Add(1) > helperQueue { // logins between two steps do not count
		return errHelperBusy
	}
	return h.ask(t, q, want, rep)
}

// ask asks the helper and waits for its answer, not longer than a step may take.
func (h *helperLink) ask(t ipc.Type, q ipc.Message, want ipc.Type, rep ipc.Message) error {
	h.busy.Add(1)
	defer h.busy.Add(-1)
	answer := make(chan *ipc.Record, 1)
	id, conn, err := h.expect(answer)
	if err != nil {
		return err
	}
	defer h.forget(id)
	if err := conn.Send(t, id, q); err != nil {
		conn.Close() // it does not read: read ends, and another one is started
		return errHelperGone
	}
	var late <-chan time.Time
	if h.wait > 0 {
		timer := time.NewTimer(h.wait)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case rec, ok := <-answer:
		if !ok {
			return errHelperGone
		}
		defer rec.Clear()
		if rec.Type != want {
			conn.Close()
			return violation("%v instead of %v", rec.Type, want)
		}
		return rec.Decode(rep)
	case <-late:
		return errHelperLate
	}
}

// expect makes a request's number.
func (h *helperLink) expect(answer chan *ipc.Record) (id uint32, conn *ipc.Conn, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn == nil {
		return 0, nil, errHelperGone
	}
	for {
		h.lastID++
		if _, used := h.waiting[h.lastID]; !used && h.lastID != 0 {
			h.waiting[h.lastID] = answer
			return h.lastID, h.conn, nil
		}
	}
}

func (h *helperLink) forget(id uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.waiting, id)
}

// tell says what has no answer.
func (h *helperLink) tell(t ipc.Type, m ipc.Message) {
	h.mu.Lock()
	conn := h.conn
	h.mu.Unlock()
	if conn != nil && conn.Send(t, 0, m) != nil {
		conn.Close()
	}
}

// retire ends the helper of an older generation once its logins are over, which
// they are after auth-timeout at the latest: main ends their workers then.
func (h *helperLink) retire() {
	tick := time.NewTicker(helperLook)
	defer tick.Stop()
	deadline := time.Now().Add(h.wait)
	for first := true; first || h.busy.Load() > 0 && (h.wait == 0 || time.Now().Before(deadline)); first = false {
		select {
		case <-tick.C:
		case <-h.over:
			return
		case <-h.s.quit:
			return
		}
	}
	h.stop()
}

// stop ends the helper, or what becomes one.
func (h *helperLink) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return
	}
	h.stopped = true
	close(h.quit)
	if h.conn != nil {
		h.conn.Close()
	}
}

// helperRequests are helpers that main was asked for.
type helperRequests struct {
	s       *server
	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan helperReply
}

type helperReply struct {
	conn *ipc.Conn
	err  error
}

// request has main start a helper and returns the channel to it.
func (r *helperRequests) request(ctx context.Context, h *helperLink) (*ipc.Conn, error) {
	reply := make(chan helperReply, 1)
	r.mu.Lock()
	r.last++
	token := r.last
	r.waiting[token] = reply
	r.mu.Unlock()
	r.s.reply(ipc.SecmHelperReqT, 0, &ipc.SecmHelperReq{Token: token, Method: h.name})
	err := errHelperStart
	select {
	case got := <-reply:
		return got.conn, got.err
	case <-ctx.Done():
	case <-h.quit:
		err = errHelperGone
	case <-r.s.quit:
		err = errHelperGone
	}
	r.mu.Lock()
	_, there := r.waiting[token]
	delete(r.waiting, token)
	r.mu.Unlock()
	if !there { // it came at the last moment
		if got := <-reply; got.conn != nil {
			got.conn.Close()
		}
	}
	return nil, err
}

// takeHelper takes main's answer to SECM_HELPER_REQ.
func (s *server) takeHelper(rec *ipc.Record) error {
	m := new(ipc.SecmHelper)
	if err := rec.Decode(m); err != nil {
		return err
	}
	var got helperReply
	if m.Error != "" || len(rec.FDs) == 0 {
		got.err = fmt.Errorf("login helper not started: %s", m.Error)
	} else {
		got.conn, got.err = ipc.NewConn(rec.TakeFD(0))
	}
	s.helpers.mu.Lock()
	reply := s.helpers.waiting[m.Token]
	delete(s.helpers.waiting, m.Token)
	s.helpers.mu.Unlock()
	if reply == nil { // nobody waits any more
		if got.conn != nil {
			got.conn.Close()
		}
		return nil
	}
	reply <- got
	return nil
}

// helper is that of a method, which is yet to be started.
func (l *loader) helper(name string) *helperLink {
	h := l.gen.helpers[name]
	if h == nil {
		h = newHelper(l.server, name, l.gen.config.Global.AuthTimeout)
		l.gen.helpers[name] = h
	}
	return h
}

// startHelpers starts the helpers of a generation at the same time: all, or none
// and an error.
func (l *loader) startHelpers() error {
	ctx, cancel := context.WithTimeout(context.Background(), helperStart)
	defer cancel()
	names := slices.Sorted(maps.Keys(l.gen.helpers))
	ready, errs := make([]*ipc.HelperReady, len(names)), make([]error, len(names))
	var started sync.WaitGroup
	for i, name := range names {
		started.Go(func() {
			var err error
			if ready[i], err = l.gen.helpers[name].start(ctx); err != nil {
				errs[i] = fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	started.Wait()
	for i, name := range names {
		for _, w := range ready[i].GetWarnings() {
			l.warnings = append(l.warnings, name+": "+w)
		}
		l.watch = append(l.watch, ready[i].GetWatch()...)
	}
	err := errors.Join(errs...)
	if err != nil {
		l.gen.stopHelpers()
	}
	return err
}

func (g *generation) stopHelpers() {
	for _, h := range g.helpers {
		h.stop()
	}
}

func (g *generation) retireHelpers() {
	for _, h := range g.helpers {
		go h.retire()
	}
}
