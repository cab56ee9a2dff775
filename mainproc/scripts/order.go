package scripts

import (
	"sync"
	"time"
)

// Order runs what belongs to one key one after the other, in the order it
// came, and different keys side by side. The zero Order is ready for use.
type Order struct {
	mu      sync.Mutex
	waiting map[string][]func() // a key is there while something of it runs
	idle    chan struct{}       // closed when nothing runs; nil while nobody waits
}

// Add has f run, at once if nothing of that key does. It does not wait.
func (o *Order) Add(key string, f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if queue, runs := o.waiting[key]; runs {
		o.waiting[key] = append(queue, f)
		return
	}
	if o.waiting == nil {
		o.waiting = make(map[string][]func())
	}
	o.waiting[key] = nil
	go o.run(key, f)
}

func (o *Order) run(key string, f func()) {
	for f != nil {
		f()
		f = o.next(key)
	}
}

// next is what runs after one of the key is done; nil if there is nothing.
func (o *Order) next(key string) (f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if queue := o.waiting[key]; len(queue) > 0 {
		f, o.waiting[key] = queue[0], queue[1:]
		return f
	}
	delete(o.waiting, key)
	if len(o.waiting) == 0 && o.idle != nil {
		close(o.idle)
		o.idle = nil
	}
	return nil
}

// Wait waits until nothing runs, so long at most, or until hurry is closed. It
// says whether nothing runs.
func (o *Order) Wait(limit time.Duration, hurry <-chan struct{}) bool {
	o.mu.Lock()
	if len(o.waiting) == 0 {
		o.mu.Unlock()
		return true
	}
	if o.idle == nil {
		o.idle = make(chan struct{})
	}
	idle := o.idle
	o.mu.Unlock()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-idle:
		return true
	case <-hurry:
		return false
	case <-t.C:
		return false
	}
}
