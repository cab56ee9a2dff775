//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// Many clients at once, each with its own transfers both ways.
func TestManyClients(t *testing.T) {
	const (
		hosts   = 5
		perHost = 10
		bytes   = 20 * megabyte
	)
	r := newRig(t, hosts)
	began := time.Now()
	var clients []*lab.Client
	for i := range hosts * perHost {
		clients = append(clients, r.dial(lab.Dial{
			From: r.Cli[i%hosts], Device: fmt.Sprintf("oc%d", i/hosts), Metric: 10 + i/hosts,
		}))
	}
	owner := map[string]int{}
	for i, c := range clients {
		if err := c.WaitDTLS(); err != nil {
			t.Fatalf("client %d of %d: %v", i, len(clients), err)
		}
		addrs := r.addresses(c)
		if other, taken := owner[addrs]; taken {
			t.Errorf("clients %d and %d both have %s", i, other, addrs)
		}
		owner[addrs] = i
	}
	t.Logf("%d clients connected after %v", len(clients), time.Since(began).Round(time.Millisecond))

	began = time.Now()
	done := make(chan error, hosts)
	for h := range hosts {
		var all []lab.Transfer
		for i := h; i < len(clients); i += hosts {
			all = append(all,
				lab.Transfer{Host: lab.Tgt4, Bytes: bytes, Device: clients[i].Device},
				lab.Transfer{Host: lab.Tgt4, Bytes: bytes, Device: clients[i].Device, Upload: true})
		}
		go func() { done <- transfer(clients[h], all...) }()
	}
	for range hosts {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d MB each way each: %v", bytes/megabyte, time.Since(began).Round(time.Millisecond))
	for i, c := range clients {
		if c.Has(lineDTLSLost) || c.Has("(?i)reconnect") {
			t.Errorf("client %d did not keep its tunnel", i)
		}
	}
	r.reportMemory()
}

// reportMemory says what the processes hold after all this; it judges nothing.
func (r *rig) reportMemory() {
	roles, err := r.srv.Processes()
	r.must(err)
	for role, procs := range roles {
		var sum int64
		for _, p := range procs {
			n, err := lab.Private(p.PID)
			r.must(err)
			sum += n
		}
		r.Logf("%d × %s: %.1f MB private each", len(procs), role, float64(sum)/float64(len(procs))/megabyte)
	}
}
