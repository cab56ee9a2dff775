package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"rocserv/test/e2e/lab"
)

// Clients of a contender's lab.
const (
	viaDTLS    = iota // an openconnect with DTLS
	viaTLS            // an openconnect without
	viaPath           // one with DTLS, by a bad path
	viaPathTLS        // one without, by it
	byLoad            // the load client's namespace
	clients
)

// pool has addresses for a thousand clients.
const pool = "10.66.0.0/20"

// settings are what both servers get beyond the lab's own.
var settings = []string{
	"ipv4-network = " + pool,
	"rate-limit-ms = 0", // ocserv would let in one connection every so often
	"cookie-timeout = 300",
}

// floor is test/floor: what a program with nothing of ours takes. Nobody logs in
// to it: any cookie will do. It is measured only where a row says so.
const floor lab.Kind = "floor"

// floorWith is test/floor with the libraries that rocserv is built of.
const floorWith lab.Kind = "libraries"

// contender is one server with its clients, in a lab of its own.
type contender struct {
	label   string // in results
	program lab.Program
	lab     *lab.Lab
	state   *lab.State
	srv     *lab.Server
	pin     string // of its certificate
	open    [byLoad]*lab.Client
	paths   [byLoad]*badPath
	moved   time.Time // when bytes for the memory row were last moved
}

func (c *contender) name() string { return c.label }

func (c *contender) isFloor() bool { return c.program.Kind == floor || c.program.Kind == floorWith }

// start makes the lab, the server and its clients.
func (c *contender) start() error {
	var err error
	if c.lab, err = lab.Open(clients); err != nil {
		return err
	}
	if err := c.lab.OpenPing(true); err != nil {
		return err
	}
	// No path is to be judged by what was learned of it as another one.
	for _, ns := range append([]lab.Netns{c.lab.Srv}, c.lab.Cli...) {
		if err := ns.Sysctl("net/ipv4/tcp_no_metrics_save=1"); err != nil {
			return err
		}
	}
	if c.state, err = c.lab.MakeState("state", slices.Concat(settings, flowLimits)...); err != nil {
		return err
	}
	if _, err := lab.StartTarget(c.lab.Tgt); err != nil {
		return err
	}
	for _, ns := range []lab.Netns{c.lab.Tgt, c.lab.Srv} {
		if _, err := ns.Start("iperf3", nil, nil, "iperf3", "-s"); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if _, err := c.lab.Tgt.Start("flood", strings.NewReader("{}"), nil, self, "__flood"); err != nil {
		return err
	}
	// A server with a kernel tun needs the way back.
	if err := c.lab.Tgt.IP("route add " + pool + " via " + lab.SrvIn4); err != nil {
		return err
	}
	return c.startServer()
}

func (c *contender) startServer() (err error) {
	if c.isFloor() {
		return c.startFloor()
	}
	c.pin = c.state.Pin
	// The last -d counts. At 2 both say that they have started, and nothing of packets.
	if c.srv, err = c.lab.StartServer(c.program, c.state, "-d", "2"); err != nil {
		if c.srv != nil {
			err = fmt.Errorf("%w\n%s", err, c.srv.Story())
		}
		return err
	}
	return nil
}

// client connects a client if it is not connected.
func (c *contender) client(via int) (*lab.Client, error) {
	if o := c.open[via]; o != nil && o.Running() {
		return o, nil
	}
	d := lab.Dial{
		From: c.lab.Cli[via], To: lab.ServerAt(lab.Srv4), Pin: c.pin,
		User: lab.User, Input: []string{lab.Password},
	}
	if c.isFloor() {
		d.User, d.Input, d.Args = "", []string{"webvpn=any"}, []string{"--cookie-on-stdin"}
	}
	if via == viaPath || via == viaPathTLS {
		if err := c.openPath(via); err != nil {
			return nil, err
		}
		d.To = lab.ServerAt(pathSrv(via))
	}
	withTLS := via == viaTLS || via == viaPathTLS
	if withTLS {
		d.Args = append(d.Args, "--no-dtls")
	}
	o, err := c.lab.Connect(d)
	if err != nil {
		return nil, err
	}
	c.open[via] = o
	if withTLS {
		err = o.WaitUp()
	} else {
		err = o.WaitDTLS()
	}
	if err != nil {
		return nil, fmt.Errorf("%w\n%s\n%s", err, o.Story(), c.srv.Story())
	}
	return o, nil
}

// disconnect ends all clients.
func (c *contender) disconnect() {
	for via := range c.open {
		c.hangUp(via)
	}
}

// hangUp ends a client if it is connected.
func (c *contender) hangUp(via int) {
	if o := c.open[via]; o != nil && o.Running() {
		o.Quit()
	}
	c.open[via] = nil
}

// close ends the clients, then the server, then the lab.
func (c *contender) close() error {
	if c.lab == nil {
		return nil
	}
	c.disconnect()
	for _, p := range c.paths {
		if p != nil {
			p.close()
		}
	}
	var err error
	if c.srv != nil && c.srv.Running() {
		if _, e := c.srv.End(syscall.SIGTERM, 20*time.Second); e != nil {
			err = e
		}
	}
	return errors.Join(err, c.lab.Close())
}

// worker is the process that serves one of the clients.
func (c *contender) worker(via int) (lab.Proc, error) {
	if _, err := c.client(via); err != nil {
		return lab.Proc{}, err
	}
	return c.srv.Worker(lab.ClientAddr4(via))
}

// reapWait lets main collect workers that have just ended: only then what they
// have used is counted.
const reapWait = 200 * time.Millisecond

// cpu runs what is to be measured and returns what the server has used
// meanwhile.
func (c *contender) cpu(run func() error) (time.Duration, error) {
	before, err := c.srv.CPU()
	if err != nil {
		return 0, err
	}
	if err := run(); err != nil {
		return 0, err
	}
	time.Sleep(reapWait)
	after, err := c.srv.CPU()
	return after - before, err
}
