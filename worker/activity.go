package worker

import (
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// activity says when something was last heard. The data path only sets a flag;
// the clock is read when the timers look, so a time is known as well as the
// timers are often.
type activity struct {
	cstp, dtls mark // anything authentic by that channel
	data       mark // packets that keep a session from being idle
}

// start makes now the time at which everything was last heard.
func (a *activity) start(now tcpip.MonotonicTime) {
	a.cstp.last, a.dtls.last, a.data.last = now, now, now
}

// mark is touched on the data path and read by the timers.
type mark struct {
	touched atomic.Bool
	last    tcpip.MonotonicTime // owned by the timers
}

func (m *mark) touch() {
	if !m.touched.Load() { // a shared cache line is written once per look
		m.touched.Store(true)
	}
}

// look returns how long nothing was heard, to the accuracy of the looks.
func (m *mark) look(now tcpip.MonotonicTime) time.Duration {
	if m.touched.Swap(false) {
		m.last = now
	}
	return now.Sub(m.last)
}
