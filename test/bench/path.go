package main

import (
	"errors"
	"fmt"
	"os"
	"time"

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

// overPath measures a flow of TCP by a bad path, from the fifth second on. cc is
// the congestion control of the host, or of the client for up.
func overPath(via int, p relay.Path, cc string, down bool) func(*contender, plan) (sample, error) {
	p.Rate, p.Queue = pathRate, pathQueue
	return func(c *contender, plan plan) (sample, error) {
		if err := c.openPath(via); err != nil {
			return nil, err
		}
		way := c.paths[via]
		way.up.Set(p)
		way.down.Set(p)
		defer way.up.Set(relay.Path{})
		defer way.down.Set(relay.Path{})
		// The client comes by the path as it will be: who controls congestion
		// would believe in the round trip of another one for ten seconds.
		c.hangUp(via)
		o, err := c.client(via)
		if err != nil {
			return nil, err
		}
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
	add("100-down", "200 Mbit/s, 100 ms, DTLS down", viaPath, relay.Path{Delay: oneWay100}, "bbr", true, 1, 0)
	add("100-up", "200 Mbit/s, 100 ms, DTLS up", viaPath, relay.Path{Delay: oneWay100}, "bbr", false, 1, 0)
	add("tls-40-down", "200 Mbit/s, 40 ms, TLS down", viaPathTLS, relay.Path{Delay: oneWay40}, "bbr", true, 1, 0)
	add("tls-40-loss-0.1", "40 ms, 0.1 % lost, TLS down", viaPathTLS, relay.Path{Delay: oneWay40, Loss: .001}, "bbr", true, 1, 0)
	return rows
}
