package mainproc

import (
	"sync/atomic"
	"time"

	"rocserv/internal/ipc"
)

// Counters of a tunnel are asked for when somebody wants to see them, so that
// they are those of the moment and cost nothing while nobody looks.
const (
	statsFresh = 250 * time.Millisecond // younger ones are not asked for again: well below messageRate
	statsWait  = 300 * time.Millisecond // for answers; who is late is shown as last known
)

// detail is what main can tell of a tunnel beside what its session has: for
// operators and scripts. It does not change.
type detail struct {
	group, vhost string
	hostname     string // the client's word, or the configuration's
	userAgent    string
	mobile       bool
	device       device
	connected    time.Time
	config       *ipc.SessionConfig
}

// device is what kind of client it is, in its own words.
type device struct{ kind, platform string }

// look is a worker's counters at a moment.
type look struct {
	stats *ipc.WorkerStats
	at    time.Time
}

// counting asks a worker for its counters, one question at a time.
type counting struct {
	asked atomic.Bool // and not answered
	last  atomic.Pointer[look]
}

// describe keeps what people and scripts may want to know of the tunnel. The
// worker's configuration stays unread: it holds passwords of ways out.
func (w *worker) describe(req *ipc.AuthCookieReq, o *opened) {
	d := &detail{
		group: o.reply.Group, vhost: o.reply.Vhost, hostname: req.Hostname, userAgent: req.UserAgent, mobile: req.Mobile,
		device: device{req.DeviceType, req.DevicePlatform}, connected: time.Now(), config: new(ipc.SessionConfig),
	}
	if err := ipc.ReadSealedMessage(o.shown, d.config); err != nil {
		w.log().Warn("the session's configuration cannot be shown", "err", err)
	}
	if d.config.Hostname != "" {
		d.hostname = d.config.Hostname
	}
	w.about.Store(d)
}

// askStats asks for the counters unless the worker owes an answer already. It
// does not wait, and a worker whose queue is full is left alone.
func (w *worker) askStats() {
	if l := w.counting.last.Load(); l != nil && time.Since(l.at) < statsFresh {
		return
	}
	if w.counting.asked.CompareAndSwap(false, true) && !w.out.post(outgoing{typ: ipc.WorkerStatsReqT, msg: new(ipc.Nothing)}) {
		w.counting.asked.Store(false)
	}
}

// answerCounters takes what askStats asked for.
func (w *worker) answerCounters(rec *ipc.Record) error {
	m := new(ipc.WorkerStats)
	if err := rec.Decode(m); err != nil {
		return err
	}
	if !w.counting.asked.Load() {
		return violation("WORKER_STATS that nobody asked for")
	}
	w.counting.last.Store(&look{m, time.Now()})
	w.counting.asked.Store(false)
	return nil
}

// counted is the last that is known of a worker: its last words, or what it
// said when it was asked.
func (w *worker) counted() (m *ipc.WorkerStats, at time.Time) {
	m = new(ipc.WorkerStats)
	if l := w.counting.last.Load(); l != nil {
		m, at = l.stats, l.at
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if last := w.end.stats; last != nil {
		return &ipc.WorkerStats{
			BytesUp: max(m.BytesUp, last.BytesUp), BytesDown: max(m.BytesDown, last.BytesDown), Counters: last.Counters,
		}, time.Now()
	}
	return m, at
}

// refresh asks workers for their counters and waits a little for the answers.
func refresh(ws []*worker) {
	began := time.Now()
	for _, w := range ws {
		w.askStats()
	}
	for time.Since(began) < statsWait {
		open := false
		for _, w := range ws {
			open = open || w.counting.asked.Load()
		}
		if !open {
			return
		}
		time.Sleep(time.Millisecond)
	}
}
