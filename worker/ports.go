package worker

import (
	"rocserv/internal/ipc"
	"rocserv/netstack/datagram"
)

// ports are the local UDP ports that main lets this worker use; nil: it does not
// count them.
func (s *session) ports() *datagram.Ports {
	held := s.offer.rep.GetPorts()
	if held == nil {
		return nil
	}
	return &datagram.Ports{Held: int(held.More), Say: func(more, back int) {
		// Who says it may be in the midst of a batch, and main may not read just
		// now. Of questions there is one at a time, and what is given back is
		// seldom.
		go s.link.conn.Send(ipc.PortsReqT, 0, &ipc.Ports{More: uint32(more), Back: uint32(back)})
	}}
}
