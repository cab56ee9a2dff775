//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// The path becomes narrower while a download and uploads go through the tunnel:
// they go on, by datagrams, and the server says what it found. A router may tell or not, and
// without try-mtu-discovery may cut what is too long. What begins later goes both
// ways.
func TestPathBecomesNarrow(t *testing.T) {
	t.Parallel()
	const header4, header6, udp, record = 20, 40, 8, 38
	discover := []string{"try-mtu-discovery = true"}
	for _, k := range []struct {
		name     string
		settings []string
		to       string
		path     int  // bytes of an IP packet
		told     bool // the router says so
		mtu      int  // what is to be found; 0: nothing
		less     int  // by which it may be missed
	}{
		{"told", discover, lab.Srv4, 1400, true, 1400 - header4 - udp - record, 0},
		{"told, IPv6", discover, lab.Srv6, 1400, true, 1400 - header6 - udp - record, 0},
		{"not told", discover, lab.Srv4, 1300, false, 1300 - header4 - udp - record, 8},
		{"not told, IPv6 inside", discover, lab.Srv4, 1400, false, 1400 - header4 - udp - record, 8},
		{"cut", nil, lab.Srv4, 1400, true, 0, 0},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			l, err := lab.OpenDistant()
			if err != nil {
				t.Fatal(err)
			}
			r := newLabOf(t, l, k.settings...)
			r.start()
			c := r.connect(lab.Dial{To: lab.ServerAt(k.to)})
			r.must(hello4.run(r, c))
			arrived := r.steady(c, 25)
			uploaded, uploaded6 := func() error { return nil }, func() error { return nil }
			if k.to == lab.Srv4 { // openconnect ends its channel itself if IPv6 refuses what it sends
				uploaded = r.uploading(c, lab.Tgt4, 25)
				if k.mtu >= 1280 {
					uploaded6 = r.uploading(c, lab.Tgt6, 25)
				}
			}
			time.Sleep(time.Second)
			mark := r.srv.Mark()
			r.must(r.Distant.Narrow(k.path, k.told))
			if k.mtu > 0 {
				r.within(30*time.Second, func() error {
					m, err := r.srv.ExpectAfter(mark, `tunnel MTU changes.*mtu=(\d+)`, 30*time.Second)
					if err != nil {
						return err
					}
					mark++ // at least: it was found once
					var n int
					fmt.Sscan(m[1], &n)
					if n > k.mtu || n < k.mtu-k.less {
						return fmt.Errorf("MTU %d, want %d", n, k.mtu)
					}
					return nil
				})
			}
			r.must(arrived())
			r.must(uploaded())
			r.must(uploaded6())
			r.must(transfer(c, lab.Transfer{Host: lab.Tgt4, Bytes: 5 * megabyte}, lab.Transfer{Host: lab.Tgt4, Upload: true, Bytes: 5 * megabyte}))
			if k.mtu >= 1280 {
				r.must(transfer(c, lab.Transfer{Host: lab.Tgt6, Bytes: 5 * megabyte}, lab.Transfer{Host: lab.Tgt6, Upload: true, Bytes: 5 * megabyte}))
			}
			before := r.datagrams(c)
			r.must(transfer(c, lab.Transfer{Host: lab.Tgt4, Bytes: 5 * megabyte}))
			if k.to == lab.Srv4 {
				if n := r.datagrams(c) - before; n < 5*megabyte/1500 {
					t.Errorf("%d datagrams came to the client", n)
				}
			}
			if c.Has(lineDTLSLost) || c.Has(`(?i)reconnect`) {
				t.Error("DTLS did not stay up")
			}
		})
	}
}
