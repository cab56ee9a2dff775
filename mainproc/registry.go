package mainproc

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// registry is the set of workers that have not been buried.
type registry struct {
	mu    sync.Mutex
	all   map[*worker]bool // whether it has a client
	named int              // how many have
	left  chan struct{}    // gets a token when one is removed

	violations atomic.Uint64 // workers that broke the protocol
}

func newRegistry() *registry {
	return &registry{all: make(map[*worker]bool), left: make(chan struct{}, 1)}
}

func (r *registry) add(w *worker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all[w] = false
}

func (r *registry) name(w *worker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if has, ok := r.all[w]; ok && !has {
		r.all[w] = true
		r.named++
	}
}

func (r *registry) remove(w *worker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all[w] {
		r.named--
	}
	delete(r.all, w)
	select {
	case r.left <- struct{}{}:
	default:
	}
}

// clients is how many workers have a client.
func (r *registry) clients() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.named
}

// list returns the workers, or only those with a client.
func (r *registry) list(onlyNamed bool) []*worker {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*worker, 0, len(r.all))
	for w, named := range r.all {
		if named || !onlyNamed {
			list = append(list, w)
		}
	}
	return list
}

// assigned returns the workers that have a client.
func (r *registry) assigned() []*worker { return r.list(true) }

// wait waits until no worker that counts is left, stop is closed, or the time
// is over. It says whether none is left.
func (r *registry) wait(onlyNamed bool, timeout time.Duration, stop <-chan struct{}) bool {
	t := time.NewTimer(timeout)
	defer t.Stop()
	for len(r.list(onlyNamed)) > 0 {
		select {
		case <-r.left:
		case <-stop:
			return false
		case <-t.C:
			return false
		}
	}
	return true
}

// find returns the worker that serves the connection, nil if it is gone.
func (r *registry) find(connID uint64) *worker {
	for _, w := range r.assigned() {
		w.mu.Lock()
		id := w.who.conn
		w.mu.Unlock()
		if id == connID {
			return w
		}
	}
	return nil
}

// inLogin returns the workers whose client has no tunnel and for whose peer
// the condition holds.
func (r *registry) inLogin(cond func(identity) bool) []*worker {
	return slices.DeleteFunc(r.assigned(), func(w *worker) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.state&(login|opening) == 0 || !cond(w.who)
	})
}
