package mainproc

import (
	"errors"
	"strings"
	"testing"
	"time"

	"rocserv/internal/ipc"
)

// TestOwed: what main has asked for does not count against a worker's rate, however
// often the client comes back; what it has not asked for does.
func TestOwed(t *testing.T) {
	const returns = 3 * messageBurst
	w := &worker{srv: ghost(), state: keeper, conduct: newConduct(), timer: time.NewTimer(time.Hour)}
	for range returns {
		w.retiring = append(w.retiring, make(chan struct{}))
	}
	for i := range returns {
		if err := w.dispatch(&ipc.Record{Type: ipc.RetiredT}); err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
	}
	if err := w.dispatch(&ipc.Record{Type: ipc.RetiredT}); !errors.Is(err, ipc.ErrViolation) || !strings.Contains(err.Error(), "without RETIRE") {
		t.Errorf("one more: %v", err)
	}
	w.state = leaving
	var err error
	for range returns {
		if err = w.dispatch(&ipc.Record{Type: ipc.RetiredT}); err != nil {
			break
		}
	}
	if !errors.Is(err, ipc.ErrViolation) || !strings.Contains(err.Error(), "messages per second") {
		t.Errorf("a flood of answers to nothing: %v", err)
	}
}
