package mainproc

import (
	"context"
	"errors"
	"log/slog"
	"math/bits"
	"slices"
	"sync"
	"time"
)

const (
	minBackOff  = 50 * time.Millisecond
	maxBackOff  = 10 * time.Second
	quietPeriod = time.Minute // without a failure: the next one is the first again
	hopeless    = 3           // failures in a row, after which nobody is kept waiting
)

var (
	errNoWorker = errors.New("mainproc: no worker can be started")
	errPoolShut = errors.New("mainproc: the pool is closed")
)

// pool keeps a few members started and prepared, so that a new connection
// waits for neither, and a burst finds several. In the server a member is a
// worker.
//
// As many are started at once as are wanted, up to parallel: those that the
// pool lacks and those that somebody waits for. When starting fails, or what
// was started dies while idle, the next start waits, twice as long each time.
type pool[M comparable] struct {
	start    func() (M, error) // returns when the member is ready
	dismiss  func(M)           // a member that is not wanted any more
	size     int
	parallel int
	log      *slog.Logger
	now      func() time.Time

	mu       sync.Mutex
	idle     []M // oldest first
	starting int
	fresh    int // of those starting: since the last renew
	renewed  int // times
	waiting  []chan M
	trouble  trouble
	closed   bool
}

// trouble is how badly starting goes.
type trouble struct {
	failures int       // in a row
	last     time.Time // of them
	until    time.Time // nothing is started before
}

// failed counts a failure and returns how long to wait before the next start.
func (t *trouble) failed(now time.Time) time.Duration {
	if now.Sub(t.last) > quietPeriod {
		t.failures = 0
	}
	t.failures++
	delay := min(minBackOff<<min(t.failures-1, 16), maxBackOff)
	t.last, t.until = now, now.Add(delay)
	return delay
}

// take returns an idle member, or waits for one.
func (p *pool[M]) take(ctx context.Context) (M, error) {
	var none M
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return none, errPoolShut
	}
	if len(p.idle) > 0 {
		m := p.idle[0]
		p.idle = slices.Delete(p.idle, 0, 1)
		p.fill()
		p.mu.Unlock()
		return m, nil
	}
	if p.trouble.failures >= hopeless {
		p.mu.Unlock()
		return none, errNoWorker
	}
	ch := make(chan M, 1)
	p.waiting = append(p.waiting, ch)
	p.fill()
	p.mu.Unlock()
	select {
	case m, ok := <-ch:
		if !ok {
			return none, errNoWorker
		}
		return m, nil
	case <-ctx.Done():
		p.giveUp(ch)
		return none, ctx.Err()
	}
}

// giveUp takes one who waits out of the queue. What it got at the same moment
// goes back.
func (p *pool[M]) giveUp(ch chan M) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, ch); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
		return
	}
	if m, ok := <-ch; ok {
		p.offer(m)
	}
}

// offer gives a ready member to who waits longest, or keeps it.
func (p *pool[M]) offer(m M) {
	switch {
	case p.closed:
		p.dismiss(m)
	case len(p.waiting) > 0:
		p.waiting[0] <- m
		p.waiting = slices.Delete(p.waiting, 0, 1)
	default:
		p.idle = append(p.idle, m)
	}
}

// fill starts what is wanted. p.mu is held.
func (p *pool[M]) fill() {
	if p.closed || p.now().Before(p.trouble.until) {
		return
	}
	for p.starting < p.parallel && len(p.idle)+p.fresh < p.size+len(p.waiting) {
		p.starting++
		p.fresh++
		go p.startOne(p.renewed)
	}
}

func (p *pool[M]) startOne(renewed int) {
	m, err := p.start()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.starting--
	stale := renewed != p.renewed
	if !stale {
		p.fresh--
	}
	switch {
	case err != nil:
		p.backOff(err)
	case stale:
		p.dismiss(m)
	default:
		p.offer(m)
	}
	p.fill()
}

// lost notes that a member is gone. One that was idle counts as a failure.
func (p *pool[M]) lost(m M) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.idle, m)
	if i < 0 {
		return
	}
	p.idle = slices.Delete(p.idle, i, i+1)
	p.backOff(errDiedIdle)
	p.fill()
}

var errDiedIdle = errors.New("mainproc: a worker ended while idle")

// backOff keeps a crash loop from costing the machine more than a start now
// and then. p.mu is held.
func (p *pool[M]) backOff(cause error) {
	if p.closed {
		return
	}
	delay := p.trouble.failed(p.now())
	time.AfterFunc(delay, p.retry)
	if n := p.trouble.failures; bits.OnesCount(uint(n)) == 1 { // 1, 2, 4, 8 ... in a row
		p.log.Error(msgWorkerFailing, "err", cause, "failures", n, "next", delay)
	}
	if p.trouble.failures >= hopeless {
		for _, ch := range p.waiting {
			close(ch)
		}
		p.waiting = nil
	}
}

func (p *pool[M]) retry() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fill()
}

// proved notes that a member did its work: the failures before are history.
func (p *pool[M]) proved() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trouble.failures = 0
}

// renew dismisses all that were started so far and fills up with new ones.
func (p *pool[M]) renew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.idle {
		p.dismiss(m)
	}
	p.idle, p.fresh = nil, 0
	p.renewed++
	p.fill()
}

// close dismisses all and turns away who waits.
func (p *pool[M]) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, m := range p.idle {
		p.dismiss(m)
	}
	for _, ch := range p.waiting {
		close(ch)
	}
	p.idle, p.waiting = nil, nil
}
