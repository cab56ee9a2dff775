package worker

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"rocserv/internal/ipc"
	"rocserv/internal/rolelog"
	"rocserv/secmod/secclient"
	"rocserv/worker/cstp"
)

// Options is what Serve needs from outside.
type Options struct {
	Main, SecMod *ipc.Conn
	Log          *slog.Logger
	Level        *slog.LevelVar // of Log; set as the configuration says. May be nil
	Clock        tcpip.Clock    // nil: the real one
	Outside      OpenOutside    // nil: the host's sockets

	memory *collector // nil: the process is not the worker's alone
}

// Serve waits for a connection from main, serves its client until it is gone,
// and returns. The worker has no use after that.
func Serve(o Options) error {
	if o.Clock == nil {
		o.Clock = tcpip.NewStdClock()
	}
	if o.Outside == nil {
		o.Outside = hostOutside
	}
	c, err := receiveClient(o)
	if err != nil || c == nil {
		return err
	}
	defer c.raw.Close()
	defer c.sec.Close()
	go c.link.serve(c)
	if err := c.handshake(); err != nil {
		return err
	}
	connect, err := c.login()
	if err != nil || connect == nil {
		return err
	}
	defer connect.Clear()
	s, err := c.open(connect)
	if err != nil || s == nil {
		return err
	}
	s.run()
	return nil
}

// client is the connection a worker serves, from its first byte to CONNECT.
type client struct {
	Options
	id     identity
	cfg    *ipc.WorkerConfig
	raw    *cstp.Conn // the TCP connection
	link   *link      // to main
	sec    *secclient.Client
	secure secured // set by handshake
}

// identity says who the client is, by main's word.
type identity struct {
	connID      uint64
	peer, local string
	outer6      bool // the client came over IPv6
	start       time.Time
}

// receiveClient waits for WORKER_STARTUP. Nil without an error: main has no use
// for this worker any more.
func receiveClient(o Options) (*client, error) {
	rec, err := o.Main.Recv()
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("waiting for a connection: %w", err)
	}
	defer rec.Close()
	switch rec.Type {
	case ipc.WorkerStartupT:
	case ipc.TerminateT:
		return nil, nil
	default:
		return nil, fmt.Errorf("%w: %v before WORKER_STARTUP", ipc.ErrViolation, rec.Type)
	}
	var m ipc.WorkerStartup
	if err := rec.Decode(&m); err != nil {
		return nil, err
	}
	cfg := new(ipc.WorkerConfig)
	if err := ipc.ReadSealedMessage(rec.FDs[1], cfg); err != nil {
		return nil, err
	}
	if len(cfg.Vhosts) == 0 || m.Identity == nil {
		return nil, fmt.Errorf("%w: WORKER_STARTUP without a vhost or an identity", ipc.ErrViolation)
	}
	if o.Level != nil {
		o.Level.Set(rolelog.Level(int(cfg.LogLevel)))
	}
	conn, err := takeConn(rec.TakeFD(0))
	if err != nil {
		return nil, err
	}
	peer := ipc.AddrPort(m.Identity.Peer)
	host := m.Host
	if host == nil {
		host = new(ipc.HostInfo)
	}
	return &client{
		Options: o,
		id: identity{
			connID: m.Identity.ConnId, peer: peer.String(), local: ipc.AddrPort(m.Identity.Local).String(),
			outer6: peer.Addr().Is6() && !peer.Addr().Is4In6(), start: time.UnixMilli(m.Identity.StartUnixMs),
		},
		cfg:  cfg,
		raw:  cstp.NewConn(conn),
		link: newLink(o.Main, host, o.Log),
		sec:  secclient.New(o.SecMod),
	}, nil
}

// takeConn makes a connection of a received descriptor.
func takeConn(fd int) (net.Conn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("client's connection: %w", err)
	}
	f := os.NewFile(uintptr(fd), "client")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("client's connection: %w", err)
	}
	return conn, nil
}
