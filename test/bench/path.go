package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"rocserv/test/e2e/lab"
	"rocserv/test/relay"
)

// badPath is the relay between a client and the server.
type badPath struct {
	devices  [2]*os.File // the client's, the server's
	up, down *relay.Direction
}

// Addresses of a bad path's two ends.
func pathCli(via int) string { return fmt.Sprintf("10.77.7.%d", 4*via+2) }
func pathSrv(via int) string { return fmt.Sprintf("10.77.7.%d", 4*via+1) }

// openPath makes the path of a client that is reached by one. It begins as a wire.
func (c *contender) openPath(via int) error {
	if c.paths[via] != nil {
		return nil
	}
	p := new(badPath)
	cli, srv := c.lab.Cli[via], c.lab.Srv
	name := fmt.Sprintf("wan%d", via)
	var err error
	if p.devices[0], err = (relay.Device{Namespace: cli.Name, Name: name}).Open(); err != nil {
		return err
	}
	if p.devices[1], err = (relay.Device{Namespace: srv.Name, Name: name}).Open(); err != nil {
		return errors.Join(err, p.devices[0].Close())
	}
	p.up = relay.NewDirection(p.devices[0], p.devices[1], 1)
	p.down = relay.NewDirection(p.devices[1], p.devices[0], 2)
	c.paths[via] = p
	if err := cli.IP("addr add "+pathCli(via)+"/30 dev "+name, "link set "+name+" up txqueuelen 10000"); err != nil {
		return err
	}
	if err := srv.IP("addr add "+pathSrv(via)+"/30 dev "+name, "link set "+name+" up txqueuelen 10000"); err != nil {
		return err
	}
	go p.up.Run()
	go p.down.Run()
	return nil
}

func (p *badPath) close() {
	for _, d := range p.devices {
		d.Close()
	}
}

// Every path has this rate and this queue in each direction.
const (
	pathRate  = 200e6 / 8 // bytes per second
	pathQueue = 100 * time.Millisecond
)

// set makes both directions a path.
func (p *badPath) set(to relay.Path) {
	p.up.Set(to)
	p.down.Set(to)
}

// come makes the path of a client and connects it anew by it: who controls
// congestion would believe in the round trip of another path for ten seconds.
func (c *contender) come(via int, p relay.Path) (*badPath, *lab.Client, error) {
	if err := c.openPath(via); err != nil {
		return nil, nil, err
	}
	whole := p
	whole.Loss, whole.Late = 0, 0 // a lost handshake is not what is measured
	c.paths[via].set(whole)
	c.hangUp(via)
	o, err := c.client(via)
	c.paths[via].set(p)
	return c.paths[via], o, err
}

// overPath measures a flow of TCP by a bad path, from the fifth second on. cc is
// the congestion control of the host, or of the client for up.
func overPath(via int, p relay.Path, cc string, down bool) func(*contender, plan) (sample, error) {
	p.Rate, p.Queue = pathRate, pathQueue
	return func(c *contender, plan plan) (sample, error) {
		way, o, err := c.come(via, p)
		if err != nil {
			return nil, err
		}
		defer way.set(relay.Path{})
		before := way.down.Counts()
		args := []string{"-O", "4", "-C", cc}
		if down {
			args = append(args, "-R")
		}
		r, err := runIperf(o.From, plan.seconds, args...)
		if err != nil {
			return nil, err
		}
		wait := way.down.Counts().Since(before).Wait()
		return sample{throughput: r.End.SumReceived.Bps / 1e6, queueDelay: float64(wait) / 1e6}, nil
	}
}

// fairRate is the bottleneck of the rows of fairness, in bytes per second.
const fairRate = 50e6 / 8

// beside measures a download through the tunnel beside one that comes by the same
// bottleneck without it, from the server's own host with that congestion control.
func beside(cc string) func(*contender, plan) (sample, error) {
	return func(c *contender, plan plan) (sample, error) {
		way, o, err := c.come(viaPath, relay.Path{Delay: 20 * time.Millisecond, Rate: fairRate, Queue: pathQueue})
		if err != nil {
			return nil, err
		}
		defer way.set(relay.Path{})
		seconds := 3 * plan.seconds
		before := way.down.Counts()
		other := make(chan float64, 1)
		go func() {
			r, err := iperfTo(o.From, pathSrv(viaPath), seconds, "-O", "4", "-R", "-C", cc)
			if err != nil {
				progress("the flow outside: %v", err)
			}
			other <- r.End.SumReceived.Bps / 1e6
		}()
		r, err := runIperf(o.From, seconds, "-O", "4", "-R", "-C", cc)
		theirs := <-other
		if err != nil {
			return nil, err
		}
		ours := r.End.SumReceived.Bps / 1e6
		if theirs == 0 {
			return nil, errors.New("the flow outside the tunnel carried nothing")
		}
		wait := way.down.Counts().Since(before).Wait()
		return sample{throughput: ours, share: 100 * ours / (ours + theirs), shareOutside: 100 * theirs / (ours + theirs), queueDelay: float64(wait) / 1e6}, nil
	}
}

// pathRows are the rows of long and lossy paths.
func pathRows() []row {
	const oneWay40, oneWay100 = 20 * time.Millisecond, 50 * time.Millisecond
	var rows []row
	add := func(name, title string, via int, p relay.Path, cc string, down bool, must, aim float64) {
		rows = append(rows, row{
			name: "path-" + name, title: title, measure: overPath(via, p, cc, down),
			goals: []goal{atLeast(throughput, must, aim)}, also: []figure{queueDelay},
		})
	}
	add("40-down", "200 Mbit/s, 40 ms, DTLS down", viaPath, relay.Path{Delay: oneWay40}, "bbr", true, 1, 0)
	add("40-up", "200 Mbit/s, 40 ms, DTLS up", viaPath, relay.Path{Delay: oneWay40}, "bbr", false, 1, 0)
	for _, loss := range []struct {
		name string
		part float64
	}{{"0.1", .001}, {"0.5", .005}, {"1", .01}} {
		p := relay.Path{Delay: oneWay40, Loss: loss.part}
		add("40-loss-"+loss.name+"-bbr", "40 ms, "+loss.name+" % lost, host with BBR, down", viaPath, p, "bbr", true, 0.5, 1)
		add("40-loss-"+loss.name+"-cubic", "40 ms, "+loss.name+" % lost, host with CUBIC, down", viaPath, p, "cubic", true, 1, 0)
	}
	late := relay.Path{Delay: oneWay40, Late: .01, By: 3 * time.Millisecond}
	add("40-late", "40 ms, 1 % reordered by 3 ms, down", viaPath, late, "cubic", true, 0.8, 1)
	rows = append(rows, row{name: courseRow, title: "40 ms, while 2 % are lost (the path changes), down", measure: overChange,
		goals: []goal{atLeast(throughput, 0.5, 1)}})
	for _, cc := range []string{"cubic", "bbr"} {
		rows = append(rows, row{name: "path-fair-" + cc, title: "50 Mbit/s, 40 ms, beside a flow outside the tunnel with " + strings.ToUpper(cc) + ", down",
			measure: beside(cc), goals: []goal{itself(share, true, 20, 0), itself(shareOutside, true, 20, 0)}, also: []figure{throughput, queueDelay}})
	}
	add("100-down", "200 Mbit/s, 100 ms, DTLS down", viaPath, relay.Path{Delay: oneWay100}, "bbr", true, 1, 0)
	add("100-up", "200 Mbit/s, 100 ms, DTLS up", viaPath, relay.Path{Delay: oneWay100}, "bbr", false, 1, 0)
	add("tls-40-down", "200 Mbit/s, 40 ms, TLS down", viaPathTLS, relay.Path{Delay: oneWay40}, "bbr", true, 1, 0)
	add("tls-40-loss-0.1", "40 ms, 0.1 % lost, TLS down", viaPathTLS, relay.Path{Delay: oneWay40, Loss: .001}, "bbr", true, 1, 0)
	return rows
}
