package main

import (
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"time"

	"rocserv/test/e2e/lab"
)

// pingLine is a reply in what ping prints.
var pingLine = regexp.MustCompile(`time=([0-9.]+) ms`)

// ping returns the round trip times in ms of echo requests 20 ms apart.
func ping(n lab.Netns, count int) ([]float64, error) {
	out, err := n.RunFor(time.Duration(count)*40*time.Millisecond+10*time.Second, "",
		"ping", "-n", "-i", "0.02", "-W", "1", "-c", strconv.Itoa(count), lab.Tgt4)
	if err != nil {
		return nil, err
	}
	var ms []float64
	for _, m := range pingLine.FindAllStringSubmatch(out, -1) {
		f, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			return nil, err
		}
		ms = append(ms, f)
	}
	if len(ms) < count*9/10 {
		return nil, fmt.Errorf("%d of %d pings came back", len(ms), count)
	}
	return ms, nil
}

// idlePing measures echo requests through an idle tunnel.
func idlePing(via int) func(*contender, plan) (sample, error) {
	return func(c *contender, p plan) (sample, error) {
		o, err := c.client(via)
		if err != nil {
			return nil, err
		}
		ms, err := ping(o.From, 50*p.seconds)
		if err != nil {
			return nil, err
		}
		return sample{p50: quantile(ms, 0.5), p99: quantile(ms, 0.99)}, nil
	}
}

// pingBeside measures echo requests beside a transfer of iperf3.
func pingBeside(via int, args ...string) func(*contender, plan) (sample, error) {
	return func(c *contender, p plan) (sample, error) {
		o, err := c.client(via)
		if err != nil {
			return nil, err
		}
		done := make(chan error, 1)
		go func() {
			_, err := runIperf(o.From, p.seconds, args...)
			done <- err
		}()
		time.Sleep(time.Second)                    // slow start
		ms, perr := ping(o.From, 40*(p.seconds-1)) // the transfer outlasts the pings
		if err := <-done; err != nil {
			return nil, err
		}
		if perr != nil {
			return nil, perr
		}
		return sample{mean: average(ms), p50: quantile(ms, 0.5)}, nil
	}
}

// trips asks for round trips to tgt's echo service, one after the other.
type trips struct {
	To      string
	Seconds int
}

// times are how long something took each time, in ms.
type times struct {
	Ms     []float64
	Errors int
	Error  string // the first
}

const tripSize = 64

func (t *times) add(d time.Duration) { t.Ms = append(t.Ms, float64(d)/1e6) }

func (t *times) failed(err error) {
	if t.Errors++; t.Errors == 1 {
		t.Error = err.Error()
	}
}

// roundTrips is the role: one connection.
func roundTrips(q trips) (times, error) {
	var t times
	c, err := net.Dial("tcp", q.To)
	if err != nil {
		return t, err
	}
	defer c.Close()
	b := make([]byte, tripSize)
	for end := time.Now().Add(time.Duration(q.Seconds) * time.Second); time.Now().Before(end); {
		began := time.Now()
		if err := trip(c, b); err != nil {
			return t, err
		}
		t.add(time.Since(began))
	}
	return t, nil
}

func trip(c net.Conn, b []byte) error {
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write(b); err != nil {
		return err
	}
	_, err := io.ReadFull(c, b)
	return err
}

// connects is the role: a new connection for each trip.
func connects(q trips) (times, error) {
	var t times
	b := make([]byte, tripSize)
	for end := time.Now().Add(time.Duration(q.Seconds) * time.Second); time.Now().Before(end); {
		began := time.Now()
		c, err := net.DialTimeout("tcp", q.To, 5*time.Second)
		if err == nil {
			err = trip(c, b)
			if err == nil {
				t.add(time.Since(began))
			}
			c.Close()
		}
		if err != nil {
			t.failed(err)
		}
	}
	return t, nil
}

// tripRow measures a role of round trips through a tunnel.
func tripRow(via int, name string) func(*contender, plan) (sample, error) {
	return func(c *contender, p plan) (sample, error) {
		o, err := c.client(via)
		if err != nil {
			return nil, err
		}
		q := trips{To: net.JoinHostPort(lab.Tgt4, strconv.Itoa(lab.PortEcho)), Seconds: max(p.seconds/2, 1)}
		var t times
		used, err := c.cpu(func() (err error) {
			t, err = ask[times](o.From, name, q, time.Duration(q.Seconds+20)*time.Second)
			return err
		})
		if err != nil {
			return nil, err
		}
		if len(t.Ms) == 0 || t.Errors > 0 {
			return nil, fmt.Errorf("%d done, %d failed, first: %s", len(t.Ms), t.Errors, t.Error)
		}
		return sample{
			p50: quantile(t.Ms, 0.5), p99: quantile(t.Ms, 0.99),
			cpuPerTrip: used.Seconds() * 1e6 / float64(len(t.Ms)),
		}, nil
	}
}
