package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"rocserv/test/client"
	"rocserv/test/e2e/lab"
)

// hands asks for TLS connections to a server, each with one request.
type hands struct {
	To      string
	Seconds int
	AtOnce  int // so many clients, each as fast as it can
	Paced   int // or so many connections a second; 0: as fast as they go
}

const answerLimit = 10 * time.Second

// handshakes is the role. It returns how long each connection took, from its
// first SYN to the first byte of the answer.
func handshakes(q hands) (times, error) {
	if q.Paced > 0 {
		return paced(q)
	}
	var mu sync.Mutex
	var t times
	var wg sync.WaitGroup
	end := time.Now().Add(time.Duration(q.Seconds) * time.Second)
	for range q.AtOnce {
		wg.Go(func() {
			for time.Now().Before(end) {
				d, err := firstAnswer(q.To)
				mu.Lock()
				if err == nil {
					t.add(d)
				} else {
					t.failed(err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return t, nil
}

func paced(q hands) (times, error) {
	var mu sync.Mutex
	var t times
	var wg sync.WaitGroup
	tick := time.NewTicker(time.Second / time.Duration(q.Paced))
	defer tick.Stop()
	for range q.Seconds * q.Paced {
		<-tick.C
		wg.Go(func() {
			d, err := firstAnswer(q.To)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				t.add(d)
			} else {
				t.failed(err)
			}
		})
	}
	wg.Wait()
	return t, nil
}

const firstRequest = "GET / HTTP/1.1\r\nHost: vpn.test\r\nUser-Agent: Open AnyConnect VPN Agent v9.01\r\n\r\n"

// firstAnswer makes one connection and asks for the first page.
func firstAnswer(to string) (time.Duration, error) {
	began := time.Now()
	raw, err := net.DialTimeout("tcp", to, answerLimit)
	if err != nil {
		return 0, err
	}
	defer raw.Close()
	raw.SetDeadline(began.Add(answerLimit))
	c := tls.Client(raw, client.Offer())
	if _, err := io.WriteString(c, firstRequest); err != nil {
		return 0, err
	}
	b := make([]byte, 4096)
	if _, err := c.Read(b); err != nil {
		return 0, err
	}
	took := time.Since(began)
	c.Close()
	return took, nil
}

// connectionRate measures new connections.
func connectionRate(atOnce, perSecond int) func(*contender, plan) (sample, error) {
	return func(c *contender, p plan) (sample, error) {
		q := hands{To: lab.ServerAt(lab.Srv4), Seconds: p.seconds, AtOnce: atOnce, Paced: perSecond}
		var t times
		used, err := c.cpu(func() (err error) {
			t, err = ask[times](c.lab.Cli[byLoad], "__rate", q, time.Duration(q.Seconds)*time.Second+2*answerLimit)
			return err
		})
		if err != nil {
			return nil, err
		}
		if len(t.Ms) == 0 || t.Errors > len(t.Ms)/100 {
			return nil, fmt.Errorf("%d connections, %d failed, first: %s", len(t.Ms), t.Errors, t.Error)
		}
		return sample{
			perSecondRate: float64(len(t.Ms)) / float64(p.seconds),
			p50:           quantile(t.Ms, 0.5), p99: quantile(t.Ms, 0.99),
			cpuPerConn: used.Seconds() * 1e3 / float64(len(t.Ms)),
		}, nil
	}
}
