package mainproc

import (
	"sync"
	"time"
)

// hall is where connections are that have no worker yet. It can be closed: then
// those in it stay as they are, for another main.
type hall struct {
	mu     sync.Mutex
	inside map[*visitor]bool
	closed bool
	stay   []*visitor
	empty  sync.WaitGroup
}

// enter is false once the hall is closed.
func (h *hall) enter(v *visitor) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	if h.inside == nil {
		h.inside = make(map[*visitor]bool)
	}
	h.inside[v] = true
	h.empty.Add(1)
	return true
}

// leave says whether the visitor stays for another main: it has found no worker
// because the hall was closed. err is why it has none.
func (h *hall) leave(v *visitor, err error) (stays bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer h.empty.Done()
	delete(h.inside, v)
	// A header of which a part was read cannot be read again.
	if !h.closed || err == nil || !v.held() || v.proxied && !v.from.proxy.IsValid() {
		return false
	}
	h.stay = append(h.stay, v)
	return true
}

// close has everybody stay and returns who does.
func (h *hall) close() []*visitor {
	h.mu.Lock()
	h.closed = true
	for v := range h.inside {
		v.conn.SetReadDeadline(time.Now().Add(-time.Second))
		v.cancel()
	}
	h.mu.Unlock()
	h.empty.Wait()
	return h.stay
}

// held says whether the connection is still open on our side.
func (v *visitor) held() bool { return descriptor(v.conn) >= 0 }
