package mainproc

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"rocserv/internal/capacity"
	"rocserv/internal/config"
	"rocserv/internal/lease"
	"rocserv/internal/sandbox"
)

// Check looks at what main needs of the host to start with a configuration: it
// resolves names, asks whether addresses, folders and programs are there, and
// leases an address. The error is about what keeps the server from starting. Of an
// address any free port is bound for a moment, and not the one of the configuration:
// a server may be running.
func Check(cfg *config.Config) (warnings []string, err error) {
	c := &check{cfg: cfg}
	c.fail("require-confinement", checkConfinement(&cfg.Global, sandbox.Report{}))
	c.ports()
	c.files()
	c.scripts()
	c.networks()
	return c.warnings, errors.Join(c.errs...)
}

type check struct {
	cfg      *config.Config
	warnings []string
	errs     []error
}

func (c *check) warn(option, format string, args ...any) {
	c.warnings = append(c.warnings, c.cfg.Place("", option, 0)+": "+fmt.Sprintf(format, args...))
}

func (c *check) fail(option string, err error) {
	if err != nil {
		c.errs = append(c.errs, fmt.Errorf("%s: %w", c.cfg.Place("", option, 0), err))
	}
}

func (c *check) ports() {
	g := &c.cfg.Global
	c.port("TCP", "listen-host", g.Listen, "tcp-port", g.TCPPort)
	if g.UDPPort == 0 {
		return
	}
	if slices.Equal(g.UDPListen, g.Listen) { // the names have been looked up
		c.port("UDP", "udp-listen-host", nil, "udp-port", g.UDPPort)
	} else {
		c.port("UDP", "udp-listen-host", g.UDPListen, "udp-port", g.UDPPort)
	}
}

// port checks where one protocol listens.
func (c *check) port(proto, where string, hosts []string, option string, port int) {
	if first := firstFreePort(); port < first && !mayBindAll() {
		c.warn(option, "%s = %d: uid %d cannot bind ports below %d, unless a service manager passes the socket: use a higher port, map it from outside, or set the sysctl net.ipv4.ip_unprivileged_port_start=%d",
			option, port, os.Getuid(), first, port)
	}
	addrs, optional, err := bindAddrs(hosts, 0)
	if err != nil {
		c.fail(where, err)
		return
	}
	_, err = listenAll(addrs, optional, func(a netip.AddrPort) (struct{}, error) {
		conn, err := new(net.ListenConfig).ListenPacket(context.Background(), network("udp", a), a.String()) // any free port of it
		if err != nil {
			return struct{}{}, explainBind(proto, a, err)
		}
		return struct{}{}, conn.Close()
	})
	c.fail(where, err)
}

// mayBindAll says whether this process has CAP_NET_BIND_SERVICE.
func mayBindAll() bool {
	var data [2]unix.CapUserData
	err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0])
	return err == nil && data[0].Effective&(1<<unix.CAP_NET_BIND_SERVICE) != 0
}

// files checks what main writes.
func (c *check) files() {
	g := &c.cfg.Global
	if g.PIDFile != "" {
		if err := writable(g.PIDFile); err != nil {
			c.fail("pid-file", fmt.Errorf("pid-file = %s: %w", g.PIDFile, err))
		}
	}
	if g.SessionStore != "" {
		if err := writable(g.SessionStore); err != nil {
			c.warn("session-store", "session-store = %s: %v: cookies, leases and bans will not outlive the server", g.SessionStore, err)
		}
	}
	if dir := filepath.Dir(g.ControlFile); g.UseControl && g.ControlFile != "" && unix.Access(dir, unix.W_OK) != nil {
		c.warn("occtl-socket-file", "occtl-socket-file = %s: no socket can be made in %s by uid %d: it will be at another place", g.ControlFile, dir, os.Getuid())
	}
}

// writable says whether a file can be written, or made.
func writable(name string) error {
	err := unix.Access(name, unix.R_OK|unix.W_OK)
	if err == unix.ENOENT {
		if err = unix.Access(filepath.Dir(name), unix.W_OK); err != nil {
			return fmt.Errorf("cannot be made by uid %d: %w", os.Getuid(), err)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot be written by uid %d: %w", os.Getuid(), err)
	}
	return nil
}

func (c *check) scripts() {
	for _, s := range scriptsOf(&c.cfg.Global) {
		if err := s.executable(); err != nil {
			c.warn(s.option, "%v", err)
		}
	}
	if u := c.cfg.Global.RunAsUser; u != "" && !isUser(u, os.Getuid()) {
		c.warn("run-as-user", "run-as-user = %s has no effect: the server keeps the uid it is started with, here %d", u, os.Getuid())
	}
}

// networks leases an address of every virtual host, and counts what there is.
func (c *check) networks() {
	most := c.cfg.Global.MaxClients
	n, by := capacity.Read(os.DirFS("/"), os.Getuid()).Workers()
	if most > n {
		c.warn("max-clients", "max-clients = %d is more than this machine allows: %d (%s)", most, n, by)
	}
	for _, v := range c.cfg.Vhosts {
		u := &v.User
		_, err := lease.New(rand.Reader).Take("check", lease.Request{
			Net4: u.IPv4Network, Net6: u.IPv6Network, SubnetBits6: u.IPv6SubnetBits, Predictable: true, Seed: "check",
			Want4: u.IPv4Network.IsValid(), Want6: u.IPv6Network.IsValid(),
		})
		option := "ipv4-network"
		if !u.IPv4Network.IsValid() {
			option = "ipv6-network"
		}
		if err != nil {
			c.errs = append(c.errs, fmt.Errorf("%s: no client can be given an address: %w", c.cfg.Place(v.Name, option, 0), err))
			continue
		}
		const kept = 3 // the network's, the server's, broadcast
		if p := u.IPv4Network; p.IsValid() && p.Bits() < 31 && most > 1<<(32-p.Bits())-kept {
			c.warnings = append(c.warnings, fmt.Sprintf("%s: %s has %d addresses for clients, max-clients is %d", c.cfg.Place(v.Name, option, 0), p, 1<<(32-p.Bits())-kept, most))
		}
	}
}
