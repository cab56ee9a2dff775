package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"rocserv/test/client"
	"rocserv/test/e2e/lab"
)

// loadRole is the role of the load client. It says on a line each when its
// tunnels are open and when its work is done, ends early by a signal, and closes
// the tunnels a moment after it is done.
func loadRole(l client.Load) (client.Report, error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	say := func(word string, r client.Report) {
		b, _ := json.Marshal(r) // numbers and a string
		fmt.Printf("%s %s\n", word, b)
	}
	return client.Run(ctx, l, client.Told{
		Ready: func(r client.Report) { say("ready", r) },
		Done: func(r client.Report) {
			say("done", r)
			time.Sleep(reapWait)
		},
	})
}

// loading is a load client that runs.
type loading struct{ *lab.Process }

// startLoad starts a load client and waits until its tunnels are open.
func (c *contender) startLoad(l client.Load) (p loading, r client.Report, err error) {
	q, err := json.Marshal(l)
	if err != nil {
		return p, r, err
	}
	self, err := os.Executable()
	if err != nil {
		return p, r, err
	}
	if p.Process, err = c.lab.Cli[byLoad].Start("load", strings.NewReader(string(q)), nil, self, "__load"); err != nil {
		return p, r, err
	}
	r, err = p.report("ready", 180*time.Second)
	if err == nil && r.Failed > 0 {
		err = fmt.Errorf("%d tunnels failed, first: %s", r.Failed, r.FirstError)
	}
	if err != nil {
		p.Signal(syscall.SIGKILL)
	}
	return p, r, err
}

// report waits for a line of loadRole.
func (p loading) report(word string, limit time.Duration) (r client.Report, err error) {
	m, err := p.Expect("^"+word+" (.*)$", limit)
	if err != nil {
		return r, fmt.Errorf("%w\n%s", err, p.Story())
	}
	return r, json.Unmarshal([]byte(m[1]), &r)
}

// finished waits for the end, which is the server's time to close everything.
func (p loading) finished() error {
	status, err := p.Wait(60 * time.Second)
	if err == nil && status != 0 {
		err = fmt.Errorf("load client: status %d\n%s", status, p.Story())
	}
	time.Sleep(reapWait)
	return err
}

// runLoad runs a load and returns what the server used for it, without what
// opening and closing the tunnels takes.
func (c *contender) runLoad(l client.Load) (r client.Report, used time.Duration, err error) {
	p, _, err := c.startLoad(l)
	if err != nil {
		return r, 0, err
	}
	before, err := c.srv.CPU()
	if err != nil {
		return r, 0, err
	}
	if r, err = p.report("done", time.Duration(l.Seconds+30)*time.Second); err != nil {
		return r, 0, err
	}
	after, err := c.srv.CPU()
	if err != nil {
		return r, 0, err
	}
	if r.Broken > 0 {
		return r, 0, fmt.Errorf("%d tunnels broke", r.Broken)
	}
	return r, after - before, p.finished()
}

// load is what every load begins with.
func (c *contender) load() client.Load {
	return client.Load{Server: lab.ServerAt(lab.Srv4), User: lab.User, Password: lab.Password, DTLS: true, AtOnce: 8}
}

func tgtAt(port int) string { return net.JoinHostPort(lab.Tgt4, strconv.Itoa(port)) }

// ceiling measures flows of a client that is faster than openconnect.
func ceiling(dtls bool, mode client.Mode) func(*contender, plan) (sample, error) {
	return func(c *contender, p plan) (sample, error) {
		l := c.load()
		l.DTLS, l.Tunnels, l.Mode, l.Flows, l.Seconds = dtls, 1, mode, 4, float64(p.seconds)
		l.Target = tgtAt(portSink)
		if mode == client.Down {
			l.Target = tgtAt(portSource)
		}
		r, used, err := c.runLoad(l)
		if err != nil {
			return nil, err
		}
		gb := float64(r.Bytes) / 1e9
		if gb == 0 {
			return nil, fmt.Errorf("nothing was moved: %+v", r)
		}
		return sample{
			throughput: gb * 8e3 / r.Seconds,
			cpuPerGB:   used.Seconds() / gb,
			perCore:    8 / (used.Seconds() / gb),
		}, nil
	}
}

const echoTunnels = 50

// echoMany measures small datagrams there and back through many tunnels.
func echoMany(c *contender, p plan) (sample, error) {
	l := c.load()
	l.Tunnels, l.Mode, l.Target, l.Size, l.Rate, l.Seconds = echoTunnels, client.Echo, tgtAt(lab.PortEcho), 64, 10_000, float64(p.seconds)
	r, used, err := c.runLoad(l)
	if err != nil {
		return nil, err
	}
	if r.Back == 0 {
		return nil, fmt.Errorf("no datagram came back: %+v", r)
	}
	return sample{
		perSecondRate: float64(r.Opened) / r.OpenSeconds,
		p50:           r.OpenP50Ms,
		loss:          100 * float64(r.Sent-r.Back) / float64(r.Sent),
		cpuPerTrip:    used.Seconds() * 1e6 / float64(r.Back),
	}, nil
}

const manyClients = 1000

// thousand measures what a thousand idle clients cost.
func thousand(c *contender, p plan) (sample, error) {
	c.disconnect()
	before, err := available()
	if err != nil {
		return nil, err
	}
	l := c.load()
	l.Tunnels, l.Mode, l.Target, l.Size, l.Seconds = manyClients, client.Hold, tgtAt(lab.PortEcho), 64, 600
	proc, r, err := c.startLoad(l)
	if err != nil {
		return nil, err
	}
	time.Sleep(5 * time.Second)
	after, err := available()
	if err != nil {
		return nil, err
	}
	s, err := c.workersMemory()
	if err != nil {
		return nil, err
	}
	loads, err := lab.Private(proc.PID()) // the load client's own
	if err != nil {
		return nil, err
	}
	s[gigabytes] = float64(before-after-loads) / 1e9
	s[perSecondRate] = float64(r.Opened) / r.OpenSeconds
	if err := proc.Signal(syscall.SIGTERM); err != nil {
		return nil, err
	}
	if r, err = proc.report("done", 60*time.Second); err != nil {
		return nil, err
	}
	if r.Broken+r.Silent > 0 {
		return nil, fmt.Errorf("of %d tunnels %d broke and %d carried nothing at the end", r.Opened, r.Broken, r.Silent)
	}
	return s, proc.finished()
}

// workersMemory is the private memory of a worker on average.
func (c *contender) workersMemory() (sample, error) {
	roles, err := c.srv.Processes()
	if err != nil {
		return nil, err
	}
	var sum, n int64
	for _, w := range roles[lab.RoleWorker] {
		if m, err := lab.Private(w.PID); err == nil { // else it has just ended
			sum, n = sum+m, n+1
		}
	}
	if n < manyClients {
		return nil, fmt.Errorf("%d workers", n)
	}
	return sample{megabytes: float64(sum) / float64(n) / 1e6}, nil
}

// available is the machine's MemAvailable in bytes.
func available() (int64, error) {
	for line := range strings.Lines(content("/proc/meminfo") + "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "MemAvailable:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/meminfo has no MemAvailable")
}
