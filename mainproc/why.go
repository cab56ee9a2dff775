package mainproc

import (
	"context"
	"sync"
	"time"

	"rocserv/internal/control"
	"rocserv/internal/ipc"
)

// whyTimeout is how long an operator waits for a worker that asks for a name
// and connects: longer than it gives itself.
const whyTimeout = 20 * time.Second

// asking is an operator's question that a worker has to answer, one at a time.
type asking struct {
	mu   sync.Mutex
	open bool                // asked, and not answered
	to   chan *ipc.WhyAnswer // capacity 1
}

// owed says whether the worker has a question to answer.
func (a *asking) owed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open
}

// answerWhy takes what was asked for.
func (w *worker) answerWhy(rec *ipc.Record) error {
	m := new(ipc.WhyAnswer)
	if err := rec.Decode(m); err != nil {
		return err
	}
	w.asking.mu.Lock()
	defer w.asking.mu.Unlock()
	if !w.asking.open {
		return violation("WHY_ANSWER that nobody asked for")
	}
	w.asking.open = false
	w.asking.to <- m
	return nil
}

// ask puts a question; nil: the worker owes an answer already, or takes no
// message. Who gives up waiting leaves the question open until it is answered.
func (w *worker) ask(q *ipc.Why) chan *ipc.WhyAnswer {
	w.asking.mu.Lock()
	defer w.asking.mu.Unlock()
	if w.asking.open || !w.out.post(outgoing{typ: ipc.WhyT, msg: q}) {
		return nil
	}
	w.asking.open, w.asking.to = true, make(chan *ipc.WhyAnswer, 1)
	return w.asking.to
}

var whyProtocols = map[string]uint32{"": 6, "tcp": 6, "udp": 17, "icmp": 1}

// why asks the worker of a user's newest tunnel, which has the rules and the
// ways: main has neither.
func (c *console) why(ctx context.Context, a control.WhyArgs) (any, error) {
	proto, known := whyProtocols[a.Proto]
	switch {
	case a.User == "" || a.Host == "":
		return nil, control.Errorf(control.BadRequest, "name a user and a host")
	case !known:
		return nil, control.Errorf(control.BadRequest, "the protocol is tcp, udp or icmp")
	case a.Port < 0 || a.Port > 65535 || a.Dial && (proto != 6 || a.Port == 0):
		return nil, control.Errorf(control.BadRequest, "a port is a number up to 65535; to connect takes tcp and a port")
	}
	found, err := c.find(control.Target{User: a.User})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, control.Errorf(control.NotFound, "user '%s' has no tunnel: rules and ways are what its worker has", a.User)
	}
	h := found[len(found)-1] // the newest
	answer := h.worker.ask(&ipc.Why{Host: a.Host, Port: uint32(a.Port), Proto: proto, Dial: a.Dial})
	if answer == nil {
		return nil, control.Errorf(control.Busy, "another question to this worker is open")
	}
	limit := time.NewTimer(whyTimeout)
	defer limit.Stop()
	select {
	case m := <-answer:
		return whyOf(&a, h, m)
	case <-h.worker.gone:
		return nil, control.Errorf(control.NotFound, "the tunnel has ended")
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-limit.C:
		return nil, control.Errorf(control.Unavailable, "the worker does not answer")
	}
}

// whyOf shows a worker's answer.
func whyOf(a *control.WhyArgs, h held, m *ipc.WhyAnswer) (any, error) {
	if m.Error != "" {
		return nil, control.Errorf(control.Failed, "%s: %s", a.Host, m.Error)
	}
	w := control.Why{User: h.user, ID: h.worker.child.pid, Host: a.Host, Port: a.Port, Proto: a.Proto, Addresses: []control.WhyAddress{}}
	if w.Proto == "" {
		w.Proto = "tcp"
	}
	for _, x := range m.Addresses {
		to := control.WhyAddress{
			Address: ipc.Addr(x.Addr).String(), Allowed: x.Denied == "", Denied: x.Denied, Rule: x.Rule, Line: x.Line, Name: x.Told,
		}
		for _, way := range x.Ways {
			to.Ways = append(to.Ways, control.WhyWay{Name: way.Name, Up: way.Up, Carries: way.Carries, Error: way.Error})
		}
		if x.Dialled {
			to.Dial = &control.WhyDial{Works: x.Failure == "", Error: x.Failure, Seconds: (time.Duration(x.DialUs) * time.Microsecond).Seconds()}
		}
		w.Addresses = append(w.Addresses, to)
	}
	return w, nil
}
