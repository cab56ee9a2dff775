package worker

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	"rocserv/internal/ipc"
	"rocserv/internal/pipe"
	"rocserv/internal/wire"
	"rocserv/netstack"
)

// keeperLook is how often a keeper looks whether what it keeps is still there.
const keeperLook = time.Second

// keeper is what becomes of a session that has lost its client's channels but
// has flows:
//
//	      channels lost              RETIRE                  RETIRE again
//	tunnel ───────────▶ detached ───────────▶ paired ──┐◀────────────────┐
//	   │     frozen        ▲                     │     └─────────────────┘
//	   │                   └─── the newest ends ─┘
//	   └────────────────────── RETIRE ──────────▲
//
// Detached, nothing is sent: who wants to, waits in tunnel.Begin, and so the
// stack's flows and the host's sockets stand still. Paired, the newest worker
// sends the packets of the flows it was told of and gets what the flows send;
// UDP and echo mappings it has taken over. It ends with the last flow, or when
// main says so.
type keeper struct {
	s    *session
	pipe *pipe.Pipe // to the newest worker; nil: detached
	out  *lane      // the sending side of pipe

	named  map[netstack.Flow]bool // flows the newest was told of that have not ended
	gone   bool                   // the mappings have been handed over
	ended  chan *pipe.Pipe        // pairs that came to an end
	stop   chan struct{}
	served sync.WaitGroup
}

// pairSender is a pair as a lane's sender.
type pairSender struct{ *pipe.Pipe }

func (p pairSender) Add(_ wire.PacketType, n int) { p.Pipe.Add(n) }

// Busy: a batch of the stack is a record, and a record a wake-up.
func (pairSender) Busy() bool { return false }

// retirement is main's RETIRE: an end of a pair to the newest worker.
type retirement struct{ fd int }

// keep is the session's life after its channels. last is what was counted so far.
func (s *session) keep(r *retirement, last *ipc.SessionStats) {
	k := &keeper{s: s, ended: make(chan *pipe.Pipe), stop: make(chan struct{})}
	defer k.close()
	if r == nil {
		k.sayDetached(last)
	} else {
		k.attach(*r, last)
	}
	t := time.NewTicker(keeperLook)
	defer t.Stop()
	for k.worthIt() {
		select {
		case <-s.orders: // TERMINATE, or main is gone
			return
		case r := <-s.retire:
			k.attach(r, nil)
		case p := <-k.ended:
			if p == k.pipe {
				k.detach()
			}
		case <-t.C:
			k.look()
		}
	}
}

// worthIt says whether there is anything to keep.
func (k *keeper) worthIt() bool {
	return k.s.stack.Unfinished() > 0 || !k.gone && k.s.relay.Flows() > 0 || k.pipe != nil && k.s.stack.Flows() > 0
}

func (k *keeper) sayDetached(last *ipc.SessionStats) {
	flows, mappings := k.s.stack.Flows(), k.s.relay.Flows()
	k.s.Log.Info("client is away, its flows are kept", "tcp", flows, "mappings", mappings)
	k.s.link.conn.Send(ipc.DetachedT, 0, &ipc.Detached{Stats: last, TcpFlows: uint32(flows), Mappings: uint32(mappings)})
}

// attach pairs with the newest worker. main is answered first: the newest one
// gets its end of the pair only then, and may have to read before we can write
// everything.
func (k *keeper) attach(r retirement, last *ipc.SessionStats) {
	k.detach()
	flows := k.s.stack.AppendFlows(nil)
	k.s.link.conn.Send(ipc.RetiredT, 0, &ipc.Retired{Stats: last, TcpFlows: uint32(len(flows))})
	p, err := pipe.New(r.fd, pipe.Config{Patience: pipe.Forever})
	if err == nil {
		err = k.handOver(p, flows)
	}
	if err != nil {
		k.s.Log.Info("flows not handed over", "err", err)
		if p != nil {
			p.Close()
		}
		return
	}
	k.s.stack.Retire()
	k.s.stack.SetLossless(false) // by which channel the newest sends is not known here
	k.s.stack.Moved()
	k.named = make(map[netstack.Flow]bool, len(flows))
	for _, f := range flows {
		k.named[f] = true
	}
	k.pipe, k.out = p, &lane{to: pairSender{p}}
	k.served.Go(func() {
		p.Serve(fromNewest{k.s})
		select {
		case k.ended <- p:
		case <-k.stop:
		}
	})
	k.s.tunnel.thaw(k.out)
	k.s.Log.Info("flows are kept for a newer connection", "tcp", len(flows))
}

// handOver says what there is.
func (k *keeper) handOver(p *pipe.Pipe, flows []netstack.Flow) error {
	if err := sendFlows(p, flows, handOverTimeout, keptFlowsNote); err != nil {
		return err
	}
	if !k.gone {
		k.gone = true
		if err := sendMappings(p, k.s.relay.Carry()); err != nil {
			return err
		}
	}
	return sendNote(p, &ipc.KeeperNote{Complete: true}, handOverTimeout)
}

// detach ends the pair, if there is one; everything stands still.
func (k *keeper) detach() {
	k.s.tunnel.freeze()
	if k.pipe != nil {
		k.pipe.Close()
		k.pipe, k.out = nil, nil
	}
}

// look tells the newest worker which flows have ended, so that their ports are
// free for new ones there.
func (k *keeper) look() {
	if !k.gone {
		k.s.relay.Tick(k.s.Clock.Now())
	}
	if k.pipe == nil {
		return
	}
	now := make(map[netstack.Flow]bool)
	for _, f := range k.s.stack.AppendFlows(nil) {
		now[f] = true
	}
	var ended []netstack.Flow
	for f := range k.named {
		if !now[f] {
			ended = append(ended, f)
		}
	}
	// A writer that waits for the newest worker has the lane: another time.
	if len(ended) == 0 || !k.out.mu.TryLock() {
		return
	}
	defer k.out.mu.Unlock()
	ended = slices.Clip(ended[:min(len(ended), flowsPerNote)])
	if sendFlows(k.pipe, ended, keeperLook/4, endedFlowsNote) == nil {
		for _, f := range ended {
			delete(k.named, f)
		}
	}
}

func (k *keeper) close() {
	close(k.stop)
	k.s.tunnel.thaw(nil) // whoever waits is freed, and what it sends is discarded
	if k.pipe != nil {
		k.pipe.Close()
	}
	k.served.Wait()
	k.s.Log.Info("kept flows have ended", slog.Int("left", k.s.stack.Flows()))
}

// fromNewest receives what the newest worker sends a keeper.
type fromNewest struct{ s *session }

func (r fromNewest) Packets(pkts [][]byte) { r.s.stack.Inject(pkts) }

func (r fromNewest) Message(b []byte, fds []int) error {
	closeFDs(fds)
	n, err := readNote(b)
	if err != nil {
		return err
	}
	if n.Mtu > 0 && n.Mtu <= maxTunnelMTU {
		r.s.stack.SetMTU(int(n.Mtu))
	}
	return nil
}

// maxTunnelMTU is above what any tunnel has.
const maxTunnelMTU = 1 << 16
