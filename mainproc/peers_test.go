package mainproc

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"rocserv/internal/ipc"
)

// town is a server with sessions whose workers' other ends are the test's.
type town struct {
	t   *testing.T
	srv *server
}

func newTown(t *testing.T) *town {
	s := ghost()
	s.peering.changed = make(chan struct{}, 1)
	return &town{t, s}
}

// citizen is a session with its worker.
type citizen struct {
	*worker
	t    *testing.T
	far  *ipc.Conn
	addr netip.Addr
}

// settle opens a session. Without run nothing that is posted leaves the queue.
func (o *town) settle(id byte, n *site, run bool) *citizen {
	o.t.Helper()
	near, far := pair(o.t)
	w := &worker{srv: o.srv, out: newSender(near, workerQueue, func(error) {}), state: tunnel, conduct: newConduct()}
	if run {
		go w.out.run()
		o.t.Cleanup(w.out.close)
	}
	c := claimOf(id, "user", func(c *claim) { c.worker = w })
	won := mustAttach(o.t, o.srv.sessions, c)
	w.session = won.session
	if n != nil && n.pools == nil {
		n.pools = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}
	}
	if _, _, ok := o.srv.sessions.grant(w, won.session, won.generation, n); !ok {
		o.t.Fatal("not granted")
	}
	return &citizen{w, o.t, far, won.session.lease.IPv4}
}

// ask is PEER_REQ.
func (c *citizen) ask(a netip.Addr) error {
	c.t.Helper()
	near, far := pair(c.t)
	far.Send(ipc.PeerReqT, 0, &ipc.Peer{Asked: ipc.PutAddr(a)})
	rec, err := near.Recv()
	if err != nil {
		c.t.Fatal(err)
	}
	return c.answerPeer(&rec)
}

// hears is the next message that the worker gets.
func (c *citizen) hears(want ipc.Type) (*ipc.Peer, int) {
	c.t.Helper()
	rec, err := c.far.Recv()
	if err != nil || rec.Type != want {
		c.t.Fatalf("%v, %v instead of %v", rec.Type, err, want)
	}
	m := new(ipc.Peer)
	if err := rec.Decode(m); err != nil {
		c.t.Fatal(err)
	}
	if len(rec.FDs) == 0 {
		return m, -1
	}
	fd := rec.TakeFD(0)
	c.t.Cleanup(func() { unix.Close(fd) })
	return m, fd
}

func openSite(behind ...string) *site {
	n := &site{open: true}
	for _, b := range behind {
		n.behind = append(n.behind, netip.MustParsePrefix(b))
	}
	return n
}

// Both workers get an end of one pair, and the truth about each other.
func TestPeerPair(t *testing.T) {
	o := newTown(t)
	a, b := o.settle(1, openSite("192.168.1.0/24"), true), o.settle(2, openSite("192.168.2.0/24"), true)
	for i, asked := range []netip.Addr{b.addr, netip.MustParseAddr("192.168.2.9")} {
		if err := a.ask(asked); err != nil {
			t.Fatal(err)
		}
		rep, one := a.hears(ipc.PeerRepT)
		told, two := b.hears(ipc.PeerPairT)
		if rep.Result != ipc.PeerResult_PEER_OPEN || ipc.Addr(rep.Asked) != asked || ipc.Addr(rep.Addrs[0]) != b.addr ||
			ipc.Prefix(rep.Behind[0]) != netip.MustParsePrefix("192.168.2.0/24") || rep.Serial != uint64(i+1) {
			t.Errorf("who asked hears %v", rep)
		}
		if ipc.Addr(told.Addrs[0]) != a.addr || ipc.Prefix(told.Behind[0]) != netip.MustParsePrefix("192.168.1.0/24") || told.Serial != rep.Serial || len(told.Asked) != 0 {
			t.Errorf("the other hears %v", told)
		}
		unix.Write(one, []byte("hello"))
		buf := make([]byte, 9)
		if n, err := unix.Read(two, buf); err != nil || string(buf[:n]) != "hello" {
			t.Errorf("%q, %v", buf[:n], err)
		}
	}
}

// Every answer that is no pair, and that the other hears nothing of it.
func TestPeerRefused(t *testing.T) {
	o := newTown(t)
	open, other := o.settle(1, openSite(), true), o.settle(2, openSite("192.168.2.0/24", "192.168.0.0/16", "10.0.0.0/8"), true)
	closed := o.settle(3, &site{}, true)
	elsewhere := o.settle(4, &site{open: true, vhost: "other", behind: []netip.Prefix{netip.MustParsePrefix("172.16.0.0/12")}}, true)
	away := o.settle(5, openSite("192.168.5.0/24"), true)
	o.srv.sessions.detach(away.worker, away.session)
	unknown := o.settle(6, nil, true) // of a main before that did not know of this
	deaf := o.settle(7, openSite(), false)
	nobody := netip.MustParseAddr("10.0.0.254") // leases are drawn by lot
	for slices.ContainsFunc([]*citizen{open, other, closed, elsewhere, away, unknown, deaf}, func(c *citizen) bool { return c.addr == nobody }) {
		nobody = nobody.Prev()
	}
	for range workerQueue / 2 {
		deaf.out.postSpare(outgoing{typ: ipc.PeerNetsT, msg: new(ipc.PeerNets)})
	}
	for _, tt := range []struct {
		name string
		who  *citizen
		addr netip.Addr
		want ipc.PeerResult
	}{
		{"nobody's address", open, nobody, ipc.PeerResult_PEER_NOBODY},
		{"the world's address", open, netip.MustParseAddr("192.0.2.1"), ipc.PeerResult_PEER_NOBODY},
		{"behind a client of another virtual host", open, netip.MustParseAddr("172.16.0.1"), ipc.PeerResult_PEER_NOBODY},
		{"its own", open, open.addr, ipc.PeerResult_PEER_AWAY},
		{"to who may not", open, closed.addr, ipc.PeerResult_PEER_PROHIBITED},
		{"from who may not", closed, open.addr, ipc.PeerResult_PEER_PROHIBITED},
		{"of another virtual host", open, elsewhere.addr, ipc.PeerResult_PEER_PROHIBITED},
		{"from another virtual host", elsewhere, open.addr, ipc.PeerResult_PEER_PROHIBITED},
		{"who is away", open, away.addr, ipc.PeerResult_PEER_AWAY},
		{"behind who is away, rather than a wider network", open, netip.MustParseAddr("192.168.5.5"), ipc.PeerResult_PEER_AWAY},
		{"of whom nothing is known", open, unknown.addr, ipc.PeerResult_PEER_PROHIBITED},
		{"from whom nothing is known", unknown, open.addr, ipc.PeerResult_PEER_AWAY},
		{"who does not read", open, deaf.addr, ipc.PeerResult_PEER_AWAY},
	} {
		if err := tt.who.ask(tt.addr); err != nil {
			t.Fatal(tt.name, err)
		}
		if m, fd := tt.who.hears(ipc.PeerRepT); m.Result != tt.want || fd >= 0 || len(m.Addrs)+len(m.Behind) > 0 {
			t.Errorf("%s: %v, descriptor %d", tt.name, m, fd)
		}
	}
	if open.ask(other.addr) != nil {
		t.Fatal("refused")
	}
	if _, fd := other.hears(ipc.PeerPairT); fd < 0 { // the first that it hears
		t.Error("no pair")
	}
}

// A worker that asks too much ends, one that keeps to what workers know does not.
func TestPeerQuestions(t *testing.T) {
	o := newTown(t)
	a := o.settle(1, openSite(), true)
	for i := range 2*ipc.PeerBurst + 10 {
		err := a.ask(netip.MustParseAddr("10.0.0.254"))
		if i < ipc.PeerBurst && err != nil {
			t.Fatalf("question %d: %v", i, err)
		}
		if err != nil {
			if !errors.Is(err, ipc.ErrViolation) {
				t.Error(err)
			}
			break
		}
		if i == 2*ipc.PeerBurst+9 {
			t.Error("it may ask without end")
		}
	}
	b := o.settle(2, openSite(), true)
	if err := b.ask(netip.Addr{}); !errors.Is(err, ipc.ErrViolation) {
		t.Errorf("no address: %v", err)
	}
	b.move(tunnel, keeper)
	if err := b.ask(a.addr); err != nil { // crossed with RETIRE
		t.Error(err)
	}
}

// Of several clients with one network behind them: who is connected, then who came last.
func TestPeerBehind(t *testing.T) {
	o := newTown(t)
	network, host := "192.168.2.0/24", netip.MustParseAddr("192.168.2.9")
	a := o.settle(1, openSite(), true)
	first, second := o.settle(2, openSite(network), true), o.settle(3, openSite(network), true)
	second.session.since = epoch.Add(1)
	find := func() *session {
		s, _, _ := o.srv.sessions.peerOf(a.session, a.worker, host)
		return s
	}
	if find() != second.session {
		t.Error("not who came last")
	}
	o.srv.sessions.detach(second.worker, second.session)
	if find() != first.session {
		t.Error("not who is connected")
	}
}

// The networks that workers are told of follow the sessions.
func TestPeerNets(t *testing.T) {
	o := newTown(t)
	s := o.srv.sessions
	last := make(map[string]*ipc.PeerNets)
	texts := func(late ...*worker) (list []string) {
		for _, w := range s.toTell(last, late) {
			list = append(list, fmt.Sprintf("%s %v %v", w.worker.session.safeID, ipc.Prefixes(w.nets.Pools), ipc.Prefixes(w.nets.Behind)))
		}
		slices.Sort(list)
		return list
	}
	expect := func(what string, got []string, want ...string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q", what, got)
		}
	}
	a := o.settle(1, openSite(), true)
	expect("first", texts(), "safe-B [10.0.0.0/24] []")
	expect("nothing new", texts())
	expect("late", texts(a.worker), "safe-B [10.0.0.0/24] []")
	o.settle(2, openSite(), true)
	expect("another of the same pool", texts())
	b := o.settle(3, openSite("192.168.2.0/24"), true)
	expect("a network behind", texts(), "safe-B [10.0.0.0/24] [192.168.2.0/24]", "safe-C [10.0.0.0/24] [192.168.2.0/24]", "safe-D [10.0.0.0/24] [192.168.2.0/24]")
	o.settle(4, &site{open: true, vhost: "v", pools: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}}, true)
	expect("another virtual host", texts(), "safe-B [10.0.0.0/24 10.1.0.0/24] [192.168.2.0/24]", "safe-C [10.0.0.0/24 10.1.0.0/24] [192.168.2.0/24]",
		"safe-D [10.0.0.0/24 10.1.0.0/24] [192.168.2.0/24]", "safe-E [10.0.0.0/24 10.1.0.0/24] []")
	s.detach(b.worker, b.session)
	expect("its client is away", texts())
	moved := false
	s.moved = func() { moved = true }
	s.invalidate("safe-D")
	if !moved {
		t.Error("nobody is told")
	}
	expect("its cookie is void", texts(), "safe-B [10.0.0.0/24 10.1.0.0/24] []", "safe-C [10.0.0.0/24 10.1.0.0/24] []")
}
