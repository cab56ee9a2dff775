package worker

import (
	"context"
	"io"
	"net/netip"
	"testing"
	"time"

	"rocserv/internal/ipc"
	"rocserv/internal/wire"
	"rocserv/netstack/stacktest"
)

// rx-data-per-sec and tx-data-per-sec through a whole worker: TCP arrives whole,
// not sooner than the rate allows; a flood of datagrams is cut short and counted.
func TestRates(t *testing.T) {
	const rate, size = 400 << 10, 300 << 10
	w := newWorld(t, nil, func(_ *ipc.WorkerConfig, sc *ipc.SessionConfig) { sc.RxBytesPerS, sc.TxBytesPerS = rate, rate })
	dns := netip.MustParseAddrPort("192.0.2.53:5353")
	w.net.Serve(webHost, stacktest.Echo)
	w.net.ServeUDP(dns, func([]byte) []byte { return nil })
	c := w.dial()
	c.connect(c.login())
	begun := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, err := c.DialTCP(ctx, webHost)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		io.CopyN(conn, stacktest.Stream(7), size)
		conn.CloseWrite()
	}()
	got, n, err := stacktest.Checksum(conn)
	want, _, _ := stacktest.Checksum(io.LimitReader(stacktest.Stream(7), size))
	if err != nil || n != size || got != want {
		t.Errorf("%d bytes came back, %v", n, err)
	}
	const least = (size - 20<<10) * time.Second / rate
	if took := time.Since(begun); took < least {
		t.Errorf("%d bytes took %v, at the rate %v", size, took, least)
	}
	u, err := c.DialUDP(dns)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for range 500 { // more than a second's worth, in no time
		u.Write(make([]byte, 1000))
	}
	if _, err := c.Ping(ctx, gateV4, []byte("after them")); err != nil {
		t.Fatal(err)
	}
	c.frame(wire.Disconnect, []byte("\xb0bye"))
	if err := w.wait(); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	counted := ipc.TakeCounters(w.stats.GetCounters())
	if limited, sent := counted[ipc.CountPacketsLimited], counted[ipc.CountDatagramsUp]; limited == 0 || sent == 0 || limited+sent > 501 {
		t.Errorf("%d datagrams dropped, %d sent", limited, sent)
	}
}
