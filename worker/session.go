package worker

import (
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"rocserv/egress"
	"rocserv/internal/ipc"
	"rocserv/internal/wire"
	"rocserv/netstack"
	"rocserv/netstack/datagram"
	"rocserv/netstack/gateway"
	"rocserv/netstack/shape"
	"rocserv/worker/cstp"
)

// byeTimeout bounds how long the last words to a client may take.
const byeTimeout = 2 * time.Second

// session is one client's tunnel: its channels, its netstack, its timers.
type session struct {
	*client
	offer   *offer
	tunnel  tunnel
	cstp    *cstp.Channel
	dtls    associations
	stack   *netstack.Stack
	relay   *datagram.Relay
	gateway *gateway.Gateway
	policy  *egress.Policy
	names   *egress.Names
	outside Outside
	timers  *timers
	mtu     tunnelMTU
	rate    rates
	done    chan ending     // capacity 1: the first reason counts
	orders  chan ending     // main's TERMINATE; capacity 1
	retire  chan retirement // main's RETIRE; capacity 1: it waits for the answer
	stop    chan struct{}
	closing sync.Once
}

// tunnelMTU is what was told of the tunnel's MTU.
type tunnelMTU struct {
	now      atomic.Int64 // to everybody here
	reported int64        // to main; owned by the timers once the session runs
}

// rates keep what goes through the tunnel within rx-data-per-sec and
// tx-data-per-sec; nil: there is no such limit.
type rates struct{ up, down *shape.Limiter }

// ending is why a session ends and what the client is told.
type ending struct {
	reason ipc.Reason
	tell   bool // with a DISCONNECT: the client does not come back by itself
	text   string
}

// newSession makes everything a tunnel needs; nothing runs yet but the stack's
// and the egress' own goroutines.
func newSession(c *client, o *offer) (*session, error) {
	s := &session{
		client: c, offer: o, done: make(chan ending, 1), orders: make(chan ending, 1),
		retire: make(chan retirement, 1), stop: make(chan struct{}), names: egress.NewNames(nil),
	}
	s.cstp = cstp.New(c.secure.conn, c.raw)
	s.tunnel.lease = o.lease
	s.tunnel.packing = o.packing
	s.tunnel.cstp.to = packed(s.cstp, o.packing.cstp, o.packing.limit)
	s.tunnel.putOff = make(chan struct{}, 1)
	s.tunnel.thawed = sync.NewCond(&s.tunnel.sinkMu)
	s.dtls = associations{
		tunnel: &s.tunnel, keys: o.dtls, suites: o.suites, outer: outerOf(o), mtu: o.tunnel.MTU.Tunnel, discover: o.cfg.TryMtuDiscovery, clock: c.Clock, log: c.Log,
		changed: s.dtlsChanged, resized: s.resize, soon: func() { s.timers.soon() },
	}
	s.mtu.now.Store(int64(o.tunnel.MTU.Tunnel))
	s.dtls.outer.setTCP(c)
	host := c.link.hostInfo()
	var err error
	if s.policy, err = policyOf(o.cfg, host, s.names); err != nil {
		return nil, err
	}
	if s.outside, err = c.Outside(OutsideConfig{Policy: s.policy, Names: s.names, Host: host, Egress: o.cfg.Egress, Sign: c.sec.WaySigner, Log: c.Log}); err != nil {
		return nil, err
	}
	if err := s.makeInner(); err != nil {
		s.outside.Close()
		return nil, err
	}
	s.mtu.reported = s.mtu.now.Load()
	s.timers = newTimers(c.Clock, timeoutsOf(o.cfg, o.mobile, time.UnixMilli(o.rep.LoginUnixMs)), s)
	return s, nil
}

// makeInner makes the three parts of the netstack.
func (s *session) makeInner() error {
	l, mtu := s.offer.lease, s.offer.tunnel.MTU.Tunnel
	limits := s.offer.cfg.Limits
	if limits == nil {
		limits = new(ipc.Limits)
	}
	s.rate = rates{up: shape.New(s.offer.cfg.RxBytesPerS, s.Clock), down: shape.New(s.offer.cfg.TxBytesPerS, s.Clock)}
	intercept := s.offer.cfg.Egress.GetClientDns() == "intercept"
	s.gateway = gateway.New(gateway.Config{
		Addr4: l.gateway4, Addr6: l.gateway6, Sink: &s.tunnel, Resolver: s.outside.Resolver, MTU: mtu, Now: s.Clock.Now,
		InterceptDNS: intercept, Forwards: forwardsOf(s.offer.cfg.Egress, s.outside.Dial),
	})
	s.relay = datagram.New(datagram.Config{
		Net: s.outside.Net, Sink: &s.tunnel, Gateway4: l.gateway4, Gateway6: l.gateway6, MTU: mtu,
		Up: s.rate.up, Down: s.rate.down, Limits: datagramLimits(limits), Ports: s.ports(), FullCone: s.offer.cfg.FullCone, Now: s.Clock.Now, Log: s.Log,
	})
	stack, err := netstack.New(netstack.Config{
		Addrs: l.addrs(), Gateway4: l.gateway4, Gateway6: l.gateway6, MTU: mtu, Sink: &s.tunnel, Net: s.outside.Net,
		Up: s.rate.up, Down: s.rate.down, Limits: streamLimits(limits),
		GatewayTCP: s.gateway.DialTCP, InterceptDNS: intercept, Datagram: s.tunnel.reassembled, Lossless: true, Clock: s.Clock, Log: s.Log,
	})
	if err != nil {
		return err
	}
	s.stack = stack
	s.tunnel.inner = inner{stack: stack, relay: s.relay, gateway: s.gateway, peers: s.makePeers()}
	return nil
}

// run carries packets until the session ends, and stays as long as there are
// flows to keep for when the client comes back.
func (s *session) run() {
	s.tunnel.seen.start(s.Clock.NowMonotonic())
	s.report()
	go s.tunnel.runFlusher(s.stop)
	if s.tunnel.kept != nil {
		s.tunnel.kept.serve(s.Log.Debug)
	}
	go s.serve()
	s.timers.start()
	select {
	case e := <-s.done:
		s.goodbye(e)
		if s.staysAfter(e) {
			s.loseChannels()
			s.keep(nil, s.account(e))
			s.close()
			return
		}
		s.close()
		s.lastWords(s.account(e))
	case e := <-s.orders:
		s.goodbye(e)
		s.close()
		s.lastWords(s.account(e))
	case r := <-s.retire:
		s.timers.stop()
		s.loseChannels()
		s.keep(&r, s.account(ending{reason: ipc.Reason_REASON_REPLACED}))
		s.close()
	}
}

// staysAfter says whether the client may come back for flows that it has.
func (s *session) staysAfter(e ending) bool {
	switch e.reason {
	case ipc.Reason_REASON_CONNECTION_LOST, ipc.Reason_REASON_DPD_TIMEOUT, ipc.Reason_REASON_TEMPORARY, ipc.Reason_REASON_ERROR:
		return s.stack.Unfinished() > 0 || s.relay.Flows() > 0
	}
	return false
}

// loseChannels closes the client's channels without a word; what sends to the
// client stands still.
func (s *session) loseChannels() {
	s.tunnel.inner.peers.Close() // whom other clients' packets are for is not here any more
	s.tunnel.freeze()
	s.raw.Close()
	s.dtls.close()
	s.tunnel.upMu.Lock() // until a batch that has begun is done
	s.tunnel.deaf = true
	s.tunnel.upMu.Unlock()
}

// serve reads the CSTP channel.
func (s *session) serve() {
	err := s.cstp.Serve(fromCSTP{t: &s.tunnel, disconnect: s.disconnected})
	e := ending{reason: ipc.Reason_REASON_CONNECTION_LOST}
	if errors.Is(err, cstp.ErrFrame) {
		e.reason = ipc.Reason_REASON_ERROR
	}
	if !errors.Is(err, io.EOF) {
		s.Log.Debug("CSTP channel ended", "err", err)
	}
	s.finish(e)
}

// disconnected takes the client's goodbye.
func (s *session) disconnected(payload []byte) {
	code, text := wire.ParseDisconnect(payload)
	reason := ipc.Reason_REASON_TEMPORARY
	if code.Ends() {
		reason = ipc.Reason_REASON_USER
	}
	s.Log.Info("client disconnects", slog.Int("code", int(code)), slog.String("text", text))
	s.finish(ending{reason: reason})
}

// terminate ends the session and all it keeps: main has said so, or is gone.
func (s *session) terminate(e ending) {
	select {
	case s.orders <- e:
	default:
	}
}

// finish ends the session's channels, from any goroutine.
func (s *session) finish(e ending) {
	select {
	case s.done <- e:
	default:
	}
}

// goodbye tells the client, within bounds, that it is not to come back.
func (s *session) goodbye(e ending) {
	s.timers.stop()
	s.raw.SetWriteDeadline(time.Now().Add(byeTimeout)) // frees whoever is parked
	if e.tell {
		s.tunnel.cstp.send(wire.Disconnect, wire.AppendDisconnect(nil, e.text))
	}
}

// close frees everything. It may be called for a session that never ran.
func (s *session) close() {
	s.closing.Do(func() {
		s.timers.stop()
		close(s.stop)
		s.tunnel.inner.peers.Close()
		s.tunnel.thaw(nil) // whoever waits finds the channels closed
		s.cstp.Close()
		s.dtls.close()
		s.tunnel.leaveKeepers()
		s.stack.Close()
		s.relay.Close()
		s.gateway.Close()
		s.outside.Close()
	})
}

// account tells sec-mod how it was, who hears no more of this worker, and
// returns what main is to be told.
func (s *session) account(e ending) *ipc.SessionStats {
	up, down := s.tunnel.counters.bytesUp.Load(), s.tunnel.counters.bytesDown.Load()
	if err := s.sec.FinalStats(up, down, e.reason); err != nil {
		s.Log.Debug("final statistics", "err", err)
	}
	s.sec.Close()
	s.Log.Info("session ended", "reason", reasonText(e.reason), "up", up, "down", down,
		"spoofed", s.tunnel.counters.spoofed.Load(), "malformed", s.tunnel.counters.malformed.Load())
	return &ipc.SessionStats{BytesUp: up, BytesDown: down, Reason: e.reason, Counters: s.counters()}
}

// lastWords are those to main.
func (s *session) lastWords(m *ipc.SessionStats) { s.link.conn.Send(ipc.SessionStatsT, 0, m) }

// report tells main what the tunnel is.
func (s *session) report() {
	cs := s.secure.conn.ConnectionState()
	info := &ipc.SessionInfo{
		TlsSuite:        tlsName(&cs),
		Mtu:             uint32(s.mtu.now.Load()),
		CstpCompression: string(s.offer.packing.cstp),
	}
	if psk := s.offer.dtls.PSK; !psk.IsZero() {
		sum := sha256.Sum256(psk.Reveal())
		info.PskSha256 = sum[:]
	}
	if d := s.tunnel.dtls.Load(); d != nil {
		info.DtlsSuite, info.DtlsPeer = d.ch.Suite(), ipc.PutAddrPort(d.peer())
		info.DtlsCompression = string(s.offer.packing.dtls)
	}
	s.link.conn.Send(ipc.SessionInfoT, 0, info)
}

// dtlsChanged is told when the channel in use for sending is another one.
func (s *session) dtlsChanged(d *dtlsLane, elsewhere bool) {
	s.stack.SetLossless(d == nil)
	if elsewhere {
		s.stack.Moved()
	}
	s.report()
}

// resize tells everybody that the tunnel's MTU is another than was thought. Main
// hears of it when the timers look: only people want to know there, and routers'
// reports may come often.
func (s *session) resize(mtu int) {
	if s.mtu.now.Swap(int64(mtu)) == int64(mtu) {
		return
	}
	s.Log.Info("tunnel MTU changes", "mtu", mtu)
	s.stack.SetMTU(mtu)
	s.relay.SetMTU(mtu)
	s.gateway.SetMTU(mtu)
	s.tunnel.inner.peers.SetMTU(mtu)
	s.timers.soon()
	go s.tellKeepers(mtu) // who calls may be in the midst of sending
}

// reportMTU tells main.
func (s *session) reportMTU() {
	if mtu := s.mtu.now.Load(); mtu != s.mtu.reported {
		s.mtu.reported = mtu
		s.link.conn.Send(ipc.TunMTUT, 0, &ipc.TunMtu{Mtu: uint32(mtu)})
	}
}

func (s *session) tellKeepers(mtu int) {
	s.tunnel.upMu.Lock()
	k := s.tunnel.kept
	s.tunnel.upMu.Unlock()
	if k != nil {
		k.tellMTU(mtu)
	}
}

// setHost takes what main found out about the host since.
func (s *session) setHost(m *ipc.HostInfo) {
	s.policy.SetHost(hostOf(m))
	if s.outside.SetHost != nil {
		s.outside.SetHost(m)
	}
}

// What the timers ask of a session.

func (s *session) silent(now tcpip.MonotonicTime) silence {
	a := &s.tunnel.seen
	return silence{cstp: a.cstp.look(now), dtls: a.dtls.look(now), data: a.data.look(now), hasDTLS: s.tunnel.dtls.Load() != nil}
}

func (s *session) askCSTP() { go s.tunnel.cstp.send(wire.DPDReq, nil) }

// askDTLS asks with a full packet: what does not fit the path gets no answer
// (ocserv worker-vpn.c probes so).
func (s *session) askDTLS() {
	if d := s.tunnel.dtls.Load(); d != nil {
		if s.offer.cfg.TryMtuDiscovery {
			d.probe.confirm()
		} else {
			go d.send(wire.DPDReq, make([]byte, d.limit.Load()))
		}
	}
}

func (s *session) quietDTLS() {
	if d := s.tunnel.dtls.Load(); d != nil {
		d.quiet.Store(true)
	}
}

func (s *session) dropDTLS() {
	if d := s.tunnel.dtls.Load(); d != nil {
		s.Log.Info("DTLS channel is dead, going on by CSTP")
		d.ch.Close()
	}
}

func (s *session) reportStats() {
	s.sec.Stats(s.tunnel.counters.bytesUp.Load(), s.tunnel.counters.bytesDown.Load())
}

func (s *session) upkeep() (busy bool) {
	s.relay.Tick(s.Clock.Now())
	s.tunnel.inner.peers.Tick()
	busy = s.relay.Flows() > 0
	if d := s.tunnel.dtls.Load(); d != nil && d.probe.look(s.tunnel.counters.bytesDown.Load()+s.tunnel.counters.bytesUp.Load()) {
		busy = true
	}
	s.reportMTU()
	return busy
}

// trim gives memory back that traffic has taken (measured: 7 MB after 100 MB of
// download, 3.5 MB after this).
func (s *session) trim() {
	s.cstp.Trim()
	if d := s.tunnel.dtls.Load(); d != nil {
		d.mu.Lock()
		d.ch.Trim()
		d.mu.Unlock()
	}
	s.tunnel.upMu.Lock()
	s.gateway.Trim()
	s.tunnel.tcp, s.tunnel.unpacker = nil, unpacker{}
	s.tunnel.upMu.Unlock()
	s.stack.Trim()
	if s.outside.Trim != nil {
		s.outside.Trim()
	}
	if s.memory != nil {
		s.memory.trim()
	}
}

func (s *session) end(reason ipc.Reason, text string) {
	tell := reason == ipc.Reason_REASON_IDLE_TIMEOUT || reason == ipc.Reason_REASON_SESSION_TIMEOUT
	s.finish(ending{reason: reason, tell: tell, text: text})
}

// reasonText is ocserv's word for a reason.
func reasonText(r ipc.Reason) string {
	switch r {
	case ipc.Reason_REASON_USER:
		return "user disconnected"
	case ipc.Reason_REASON_TEMPORARY:
		return "anyconnect client disconnected"
	case ipc.Reason_REASON_SERVER:
		return "server disconnected"
	case ipc.Reason_REASON_IDLE_TIMEOUT:
		return "idle timeout"
	case ipc.Reason_REASON_DPD_TIMEOUT:
		return "DPD timeout"
	case ipc.Reason_REASON_SESSION_TIMEOUT:
		return "session timeout"
	case ipc.Reason_REASON_HEALTH_PROBE:
		return "TCP health probe"
	case ipc.Reason_REASON_REPLACED:
		return "replaced by a newer connection"
	case ipc.Reason_REASON_CONNECTION_LOST:
		return "connection lost"
	case ipc.Reason_REASON_ERROR:
		return "unspecified error"
	}
	return "unspecified"
}
