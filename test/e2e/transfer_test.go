//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

const megabyte = 1000 * 1000

// steady is a download that takes some seconds, at a pace that never matters,
// while the test does something to the tunnel. It is under way when steady
// returns; wait waits for its end and says whether every byte arrived.
func (r *rig) steady(c *lab.Client, seconds int64) (wait func() error) {
	r.Helper()
	const rate = megabyte / 2
	done := make(chan error, 1)
	mark := r.tgt.Mark()
	go func() {
		done <- transfer(c, lab.Transfer{Host: lab.Tgt4, Bytes: seconds * rate, Rate: rate})
	}()
	if _, err := r.tgt.ExpectAfter(mark, "^sending ", 10*time.Second); err != nil {
		r.Fatal(err)
	}
	return func() error { return <-done }
}

// uploading is an upload of the same kind.
func (r *rig) uploading(c *lab.Client, host string, seconds int64) (wait func() error) {
	r.Helper()
	const rate = megabyte / 2
	done := make(chan error, 1)
	mark := r.tgt.Mark()
	go func() {
		done <- transfer(c, lab.Transfer{Host: host, Upload: true, Bytes: seconds * rate, Rate: rate})
	}()
	if _, err := r.tgt.ExpectAfter(mark, "^taking ", 10*time.Second); err != nil {
		r.Fatal(err)
	}
	return func() error { return <-done }
}

// transfer runs transfers through a client's tunnel, at the same time.
func transfer(c *lab.Client, all ...lab.Transfer) error {
	results, err := lab.Fetch(c.From, 3*time.Minute, all...)
	if err != nil {
		return err
	}
	for i, got := range results {
		if got.Err != "" {
			return fmt.Errorf("%+v: %s", all[i], got.Err)
		}
	}
	return nil
}

// Long transfers, each byte of which arrives.
func TestBulk(t *testing.T) {
	r := newRig(t, 1)
	for _, k := range []struct {
		name string
		dtls bool
	}{{"DTLS", true}, {"TLS", false}} {
		t.Run(k.name, func(t *testing.T) {
			r := r.in(t)
			connect := r.connectTLS
			if k.dtls {
				connect = r.connect
			}
			c := connect(lab.Dial{})
			before := r.datagrams(c)
			for _, upload := range []bool{false, true} {
				used, err := r.srv.CPU()
				r.must(err)
				began := time.Now()
				r.must(transfer(c, lab.Transfer{Host: lab.Tgt4, Upload: upload, Bytes: 500 * megabyte}))
				took := time.Since(began)
				usedNow, err := r.srv.CPU()
				r.must(err)
				t.Logf("upload %v: %.0f Mbit/s, server %.1f s/GB", upload, 8*500/took.Seconds(), 2*(usedNow-used).Seconds())
			}
			r.must(transfer(c, lab.Transfer{Host: lab.Tgt6, Bytes: 50 * megabyte}, lab.Transfer{Host: lab.Tgt6, Upload: true, Bytes: 50 * megabyte}))
			if k.dtls && c.Has(lineDTLSLost) {
				t.Error("DTLS did not stay up")
			}
			// The tunnel's packets are datagrams, or they are not.
			const least = 500 * megabyte / 1500
			if n := r.datagrams(c) - before; k.dtls != (n >= least) {
				t.Errorf("%d datagrams came to the client", n)
			}
		})
	}
}

// datagrams is the number that came to the client's host by UDP over IPv4.
func (r *rig) datagrams(c *lab.Client) int {
	r.Helper()
	out, err := c.From.Run("cat", "/proc/net/snmp")
	r.must(err)
	m := udpCounters.FindStringSubmatch(out)
	if m == nil {
		r.Fatalf("no UDP counters in\n%s", out)
	}
	n, err := strconv.Atoi(m[1])
	r.must(err)
	return n
}

var udpCounters = regexp.MustCompile(`(?m)^Udp: (\d+) `)
