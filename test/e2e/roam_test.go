//go:build e2e

package e2e

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// A client changes its network three times, its address and twice the interface
// too, each time with a new openconnect that has nothing but the cookie: what was
// running before goes on. First the
// old connection ends with a word of the kernel's, then it just falls silent,
// for its address is no more.
func TestRoam(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	cookie := r.cookie()
	cli := r.Cli[0]
	c := r.connect(with(cookie, cli))
	before := r.addresses(c)

	talk, err := lab.StartTalk(cli, lab.Tgt6) // as of a remote shell, and a UDP exchange
	r.must(err)
	t.Cleanup(talk.Close)
	r.must(talk.Exchange())
	r.must(hello4.run(r, c))
	workers := r.workers() // the pool is full again

	const seconds, rate = 20, megabyte / 2
	mark := r.tgt.Mark()
	arrived := make(chan error, 1)
	go func() {
		arrived <- transfer(c,
			lab.Transfer{Host: lab.Tgt4, Bytes: seconds * rate, Rate: rate},
			lab.Transfer{Host: lab.Tgt6, Bytes: seconds * rate, Rate: rate},
			lab.Transfer{Host: lab.Tgt4, Bytes: seconds * rate, Rate: rate, Upload: true})
	}()
	if _, err := r.tgt.ExpectAfter(mark, "^sending ", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	r.must(r.AddInterface(0, "eth1"))
	address, device := lab.ClientAddr4(0), "eth0"
	for i, onto := range []string{"eth0", "eth1", "eth0"} {
		time.Sleep(time.Second) // the transfers are going
		next := fmt.Sprintf("10.77.1.%d", 111+i)
		move := func() {
			if onto != device {
				r.must(cli.IP("link set "+device+" down", "link set "+onto+" up"))
			}
			r.must(cli.IP("addr del "+address+"/24 dev "+device, "addr add "+next+"/24 dev "+onto))
		}
		if i > 0 {
			move()
		}
		_, err := c.End(syscall.SIGKILL, 10*time.Second)
		r.must(err)
		if i == 0 {
			move()
		}
		address, device = next, onto
		c = r.connect(with(cookie, cli))
		if now := r.addresses(c); now != before {
			t.Errorf("addresses were %s, are %s", before, now)
		}
		r.must(hello4.run(r, c)) // what is new takes the short way
		r.must(hello6.run(r, c))
		if keepersBuilt || server.Kind == lab.Ocserv {
			r.must(talk.Exchange())
		}
	}
	r.goesOn(func() error { return <-arrived })
	talk.Close()
	r.workersLeave(workers)
}

// workers is how many there are, with those of the pool.
func (r *rig) workers() int {
	r.Helper()
	roles, err := r.srv.Processes()
	r.must(err)
	return len(roles[lab.RoleWorker])
}

// workersLeave wants that many workers at last: keepers go when their flows
// are over, those that are only closing after a minute.
func (r *rig) workersLeave(n int) {
	r.Helper()
	for end := time.Now().Add(80 * time.Second); r.workers() != n; time.Sleep(time.Second) {
		if time.Now().After(end) {
			r.Fatalf("there are %d workers, not %d", r.workers(), n)
		}
	}
}
