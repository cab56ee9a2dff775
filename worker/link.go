package worker

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"

	"rocserv/internal/ipc"
)

// link is the channel to main: one request at a time, and main's notifications
// in between. serve is its only reader.
type link struct {
	conn   *ipc.Conn
	log    *slog.Logger
	answer chan ipc.Record // to the request that is out; closed when main is gone

	mu      sync.Mutex
	host    *ipc.HostInfo
	nets    *ipc.PeerNets // where other clients are; nil: not known yet
	session *session      // set once there is a tunnel
	ended   bool          // TERMINATE came before there was a session
}

func newLink(conn *ipc.Conn, host *ipc.HostInfo, log *slog.Logger) *link {
	return &link{conn: conn, host: host, log: log, answer: make(chan ipc.Record, 1)}
}

// setHost takes what main found out about the host since.
func (l *link) setHost(m *ipc.HostInfo) {
	l.mu.Lock()
	l.host = m
	s := l.session
	l.mu.Unlock()
	if s != nil {
		s.setHost(m)
	}
}

// hostInfo is the latest.
func (l *link) hostInfo() *ipc.HostInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.host
}

// serve reads what main sends until main is gone, which ends the client.
func (l *link) serve(c *client) {
	defer close(l.answer)
	for {
		rec, err := l.conn.Recv()
		if err == nil {
			err = l.dispatch(c, &rec)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				l.log.Error("channel to main failed", "err", err)
			}
			l.terminate(c, &ipc.Terminate{Reason: ipc.Reason_REASON_SERVER})
			return
		}
	}
}

// dispatch does what one record asks.
func (l *link) dispatch(c *client, rec *ipc.Record) error {
	switch rec.Type {
	case ipc.AuthCookieRepT:
		l.answer <- *rec // its descriptors go along; capacity 1, one request out
		return nil
	case ipc.UDPFdT, ipc.UDPDatagramsT, ipc.UDPOfferT:
		defer rec.Close()
		return l.udp(rec)
	case ipc.SecModFdT:
		defer rec.Close()
		conn, err := ipc.NewConn(rec.TakeFD(0))
		if err != nil {
			return err
		}
		c.sec.Replace(conn)
		return nil
	case ipc.RetireT:
		defer rec.Close()
		return l.retire(rec)
	case ipc.HostInfoT:
		m := new(ipc.HostInfo)
		if err := rec.Decode(m); err != nil {
			return err
		}
		l.setHost(m)
		return nil
	case ipc.PeerNetsT:
		m := new(ipc.PeerNets)
		if err := rec.Decode(m); err != nil {
			return err
		}
		l.setPeerNets(m)
		return nil
	case ipc.PeerRepT, ipc.PeerPairT:
		defer rec.Close()
		return l.peer(rec)
	case ipc.PortsT:
		m := new(ipc.Ports)
		if err := rec.Decode(m); err != nil {
			return err
		}
		if s := l.current(); s != nil {
			s.relay.Granted(int(m.More))
		}
		return nil
	case ipc.WorkerStatsReqT:
		if s := l.current(); s != nil {
			l.conn.Send(ipc.WorkerStatsT, 0, s.stats())
		}
		return nil
	case ipc.WhyT:
		m := new(ipc.Why)
		if err := rec.Decode(m); err != nil {
			return err
		}
		go l.explain(m) // it may ask for names, and connect
		return nil
	case ipc.TerminateT:
		m := new(ipc.Terminate)
		if err := rec.Decode(m); err != nil {
			return err
		}
		l.terminate(c, m)
		return nil
	}
	rec.Close()
	l.log.Warn("main sent what this worker does not know", "message", rec.Type)
	return nil
}

// explain answers an operator's question.
func (l *link) explain(m *ipc.Why) {
	a := &ipc.WhyAnswer{Error: "the tunnel is not up"}
	if s := l.current(); s != nil {
		a = s.why(m)
	}
	l.conn.Send(ipc.WhyAnswerT, 0, a)
}

// udp gives a socket or datagrams to the session.
func (l *link) udp(rec *ipc.Record) error {
	m := new(ipc.UdpFd)
	if err := rec.Decode(m); err != nil {
		return err
	}
	s := l.current()
	if s == nil {
		return nil // the tunnel is gone or not there yet: as if lost on the way
	}
	peer := ipc.AddrPort(m.Peer)
	switch rec.Type {
	case ipc.UDPFdT:
		s.dtls.start(rec.TakeFD(0), peer, m.Datagrams)
	case ipc.UDPDatagramsT:
		s.dtls.inject(peer, m.Datagrams)
	case ipc.UDPOfferT:
		s.dtls.offer(peer, m.Datagrams)
	}
	return nil
}

// retire tells the session that there is a newer worker.
func (l *link) retire(rec *ipc.Record) error {
	if err := rec.Decode(new(ipc.Retire)); err != nil {
		return err
	}
	s := l.current()
	if s == nil {
		return nil // it is on its way out: main sees
	}
	r := retirement{rec.TakeFD(0)}
	select {
	case s.retire <- r:
	default:
		closeFDs([]int{r.fd})
		l.log.Warn("RETIRE before the last one was answered")
	}
	return nil
}

// terminate ends the session, or the connection if there is none yet.
func (l *link) terminate(c *client, m *ipc.Terminate) {
	l.mu.Lock()
	s := l.session
	l.ended = true
	l.mu.Unlock()
	if s == nil {
		c.raw.Close()
		return
	}
	s.terminate(ending{reason: m.Reason, tell: m.TellClient, text: m.Text})
}

// attach makes s the one notifications go to; false if the client has been
// terminated meanwhile.
func (l *link) attach(s *session) bool {
	l.mu.Lock()
	l.session = s
	host, nets, ended := l.host, l.nets, l.ended
	l.mu.Unlock()
	s.setHost(host) // it may have changed since the session was made
	if nets != nil {
		s.setPeerNets(nets)
	}
	return !ended
}

func (l *link) current() *session {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.session
}

// cookie asks main for the tunnel. It fails if main is gone.
func (l *link) cookie(req *ipc.AuthCookieReq) (ipc.Record, error) {
	if err := l.conn.Send(ipc.AuthCookieReqT, 0, req); err != nil {
		return ipc.Record{}, err
	}
	rec, ok := <-l.answer
	if !ok {
		return ipc.Record{}, io.EOF
	}
	return rec, nil
}
