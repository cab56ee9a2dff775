package dtls

import (
	"runtime"
	"testing"
	"time"

	"rocserv/internal/wire"
)

// Under load the reading goroutine says so, and takes it back when the load ends.
func TestBusy(t *testing.T) {
	checkLeaks(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	p := newPair(t, "udp4", "127.0.0.1:0", aes128, nil)
	seen := false
	p.rec.onPackets = func(c *Channel, _ []wire.Packet) { seen = seen || c.Busy() }
	p.serve(t)
	for end := time.Now().Add(testWait); time.Now().Before(end) && !p.c.Busy(); {
		for range 200 {
			p.write(t, p.data(t, "\x00x"))
		}
		runtime.Gosched()
	}
	if !p.c.Busy() && !seen {
		t.Skip("this machine does not reach the rate")
	}
	for end := time.Now().Add(testWait); p.c.Busy(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("busy for ever")
		}
	}
}
