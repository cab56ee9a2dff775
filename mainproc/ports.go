package mainproc

import (
	"bytes"
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/config"
)

// ports is what the server listens on.
type ports struct {
	tcp   []*net.TCPListener
	udp   []*net.UDPConn
	demux atomic.Pointer[demux] // nil: no DTLS

	accepting sync.WaitGroup // of tcp
	// shared: a socket of udp is another uid's, and those of clients must be let in beside it.
	shared   bool
	warnings []string
}

// openPorts binds everything, so that a mistake shows before anything else is
// started. Connections wait in the kernel until serve.
// Where a service manager has passed sockets, no other ones of their kind are opened.
func openPorts(g *config.Global, from passed, log *slog.Logger) (*ports, error) {
	p := new(ports)
	err := p.adopt(from)
	if err == nil {
		err = p.open(g)
	}
	if err == nil {
		err = p.control(g.Congestion)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	for _, w := range p.warnings {
		log.Warn(w)
	}
	for _, l := range p.tcp {
		log.Info(fmt.Sprintf(msgListeningTCP, l.Addr()))
	}
	for _, c := range p.udp {
		log.Info(fmt.Sprintf(msgListeningUDP, c.LocalAddr()))
	}
	return p, nil
}

func (p *ports) open(g *config.Global) error {
	if len(p.tcp) == 0 {
		addrs, optional, err := bindAddrs(g.Listen, g.TCPPort)
		if err != nil {
			return err
		}
		if p.tcp, err = listenAll(addrs, optional, listenTCP); err != nil {
			return err
		}
	}
	if g.UDPPort == 0 || len(p.udp) > 0 {
		return nil
	}
	hosts := g.UDPListen
	if len(hosts) == 0 {
		hosts = g.Listen
	}
	addrs, optional, err := bindAddrs(hosts, g.UDPPort)
	if err != nil {
		return err
	}
	p.udp, err = listenAll(addrs, optional, listenUDP)
	return err
}

// preferred is the congestion control that is asked for where the configuration
// names none: with one packet in a thousand lost on 40 ms it carried ten times
// what Reno did (doc/decisions/0012).
const preferred = "bbr"

// control chooses the congestion control of connections that are yet to come:
// they have it from the listener (tcp_ca_openreq_child in the kernel).
func (p *ports) control(name string) error {
	if name == "default" {
		return nil
	}
	for _, l := range p.tcp {
		c, err := l.SyscallConn()
		if err != nil {
			return err
		}
		if e := c.Control(func(fd uintptr) {
			err = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, cmp.Or(name, preferred))
		}); e != nil {
			return e
		}
		if err != nil && name != "" {
			return explainCongestion(name, err)
		}
	}
	return nil
}

// explainCongestion says which there are: an ordinary user has a choice of those
// that the administrator allows.
func explainCongestion(name string, err error) error {
	allowed, e := os.ReadFile("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
	if e != nil {
		allowed = []byte("not known")
	}
	return fmt.Errorf("tcp-congestion-control = %s: %w; allowed here (net.ipv4.tcp_allowed_congestion_control): %s",
		name, err, bytes.TrimSpace(allowed))
}

// serve starts to let clients in.
func (p *ports) serve(s *server) {
	for _, l := range p.tcp {
		p.accepting.Go(func() { s.door.accept(l) })
	}
	if len(p.udp) == 0 {
		return
	}
	d := newDemux(s.log, func(id []byte) udpTarget {
		if w := s.sessions.byAppID(id); w != nil {
			return w
		}
		return nil
	}, time.Now)
	d.hellos.take(s.before.hellos)
	if p.shared {
		d.connect = connectShared
	}
	d.offers.clients = s.sessions.channels
	p.demux.Store(d)
	for _, c := range p.udp {
		go d.serve(c)
	}
}

// pause reads nothing any more. Who comes waits in the kernel.
func (p *ports) pause() {
	past := time.Now().Add(-time.Second)
	for _, l := range p.tcp {
		l.SetDeadline(past)
	}
	for _, c := range p.udp {
		c.SetReadDeadline(past)
	}
	p.accepting.Wait()
}

// inheritPorts takes over what the main before has opened.
func inheritPorts(v portsState) (*ports, error) {
	p := new(ports)
	for _, fd := range v.TCP {
		f := os.NewFile(uintptr(fd), "listener")
		l, err := net.FileListener(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%w: listener: %w", errState, err)
		}
		p.tcp = append(p.tcp, l.(*net.TCPListener))
	}
	for _, fd := range v.UDP {
		f := os.NewFile(uintptr(fd), "socket")
		c, err := net.FilePacketConn(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%w: UDP socket: %w", errState, err)
		}
		p.udp = append(p.udp, c.(*net.UDPConn))
	}
	p.shared = v.Shared
	return p, nil
}

// closeTCP lets nobody in any more; close ends the datagrams too.
func (p *ports) closeTCP() {
	for _, l := range p.tcp {
		l.Close()
	}
}

func (p *ports) close() {
	p.closeTCP()
	for _, c := range p.udp {
		c.Close()
	}
}
