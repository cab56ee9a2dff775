package mainproc

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/ipc"
)

// fakeTarget takes datagrams in the place of a worker.
type fakeTarget struct {
	mu     sync.Mutex
	fds    []int
	peers  []netip.AddrPort // of UDP_FD
	got    [][]byte         // with UDP_FD
	later  [][]byte         // with UDP_DATAGRAMS
	offers []netip.AddrPort
	refuse bool
}

func (f *fakeTarget) takeUDP(m *ipc.UdpFd, fd int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse {
		unix.Close(fd)
		return false
	}
	f.fds = append(f.fds, fd)
	f.peers = append(f.peers, ipc.AddrPort(m.Peer))
	f.got = append(f.got, m.Datagrams...)
	return true
}

func (f *fakeTarget) takeDatagrams(m *ipc.UdpFd) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.later = append(f.later, m.Datagrams...)
	return !f.refuse
}

func (f *fakeTarget) takeOffer(m *ipc.UdpFd) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.offers = append(f.offers, ipc.AddrPort(m.Peer))
	return true
}

func (f *fakeTarget) home() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 2}) }

func (f *fakeTarget) counts() (sockets, later int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.fds), len(f.later)
}

func (f *fakeTarget) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	closeAll(f.fds)
	f.fds = nil
}

var quiet = slog.New(slog.DiscardHandler)

func app(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

// bench is a demux with sessions 1 to n and, if wanted, a socket of main's.
type bench struct {
	*demux
	targets []*fakeTarget // by the first byte of the App-ID
	now     atomic.Int64
	local   endpoint
}

func newBench(t testing.TB, n int) *bench {
	b := &bench{targets: make([]*fakeTarget, n+1)}
	for i := range b.targets {
		b.targets[i] = new(fakeTarget)
		t.Cleanup(b.targets[i].close)
	}
	b.demux = newDemux(quiet, func(id []byte) udpTarget {
		if len(id) == 32 && id[0] > 0 && int(id[0]) <= n && id[31] == id[0] {
			return b.targets[id[0]]
		}
		return nil
	}, func() time.Time { return epoch.Add(time.Duration(b.now.Load())) })
	return b
}

func (b *bench) listen(t testing.TB, addr string) {
	t.Helper()
	c, err := listenUDP(netip.MustParseAddrPort(addr))
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT) {
		t.Skip("no IPv6 here")
	}
	if err != nil {
		t.Fatal(err)
	}
	b.local.addr = c.LocalAddr().(*net.UDPAddr).AddrPort()
	done := make(chan struct{})
	go func() { b.serve(c); close(done) }()
	t.Cleanup(func() { c.Close(); <-done })
}

func (b *bench) give(from string, data []byte) {
	b.receive(endpoint{addr: netip.MustParseAddrPort(from)}, b.local, data, epoch.Add(time.Duration(b.now.Load())))
}

// The rules, with sockets on loopback but datagrams given by hand.
func TestRoute(t *testing.T) {
	port := freeUDPPort()
	local := endpoint{addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port))}
	const from, other = "127.0.0.2:4000", "127.0.0.3:4000"
	type step struct {
		at            time.Duration
		from          string
		data          []byte
		sockets, more int // of session 1, afterwards
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"a hello opens", []step{{0, from, hello(app(1), 1, 'A'), 1, 0}}},
		{"noise does nothing", []step{
			{0, from, nil, 0, 0}, {0, from, []byte("noise"), 0, 0}, {0, from, hello(app(9), 1, 'A'), 0, 0},
			{0, from, hello(app(1)[:31], 1, 'A'), 0, 0}, {0, from, hello(nil, 1, 'A'), 0, 0}, {0, from, hello(app(1), 0, 'A'), 0, 0},
		}},
		{"a retransmitted hello goes to the same worker", []step{
			{0, from, hello(app(1), 1, 'A'), 1, 0}, {time.Second, from, hello(app(1), 1, 'A'), 1, 1},
		}},
		{"what was in flight goes there too", []step{
			{0, from, hello(app(1), 1, 'A'), 1, 0}, {0, from, []byte("record"), 1, 1},
		}},
		{"but only for a while", []step{
			{0, from, hello(app(1), 1, 'A'), 1, 0}, {recentTime + 1, from, []byte("record"), 1, 0},
		}},
		{"a new random is a new association", []step{
			{0, from, hello(app(1), 1, 'A'), 1, 0}, {0, from, hello(app(1), 2, 'A'), 2, 0},
		}},
		{"the same from elsewhere is a replay, now and later", []step{
			{0, from, hello(app(1), 1, 'A'), 1, 0}, {0, other, hello(app(1), 1, 'A'), 1, 0}, {time.Hour, other, hello(app(1), 1, 'A'), 1, 0},
		}},
		{"from where the client is, it is a retransmission", []step{
			{0, from, hello(app(1), 1, 'A'), 1, 0}, {0, "127.0.0.2:4001", hello(app(1), 1, 'A'), 2, 0},
		}},
		{"even if somebody was faster", []step{
			{0, other, hello(app(1), 1, 'A'), 1, 0}, {0, from, hello(app(1), 1, 'A'), 2, 0},
		}},
		{"elsewhere gets one in ten seconds, so that the client has one", []step{
			{0, other, hello(app(1), 1, 'A'), 1, 0}, {1 * time.Second, other, hello(app(1), 2, 'A'), 1, 0},
			{2 * time.Second, "127.0.0.4:1", hello(app(1), 3, 'A'), 1, 0}, {3 * time.Second, from, hello(app(1), 4, 'A'), 2, 0},
			{11 * time.Second, other, hello(app(1), 5, 'A'), 3, 0},
		}},
		{"two in ten seconds, however they are spread", []step{
			{0, from, hello(app(1), 1, 'A'), 1, 0}, {6 * time.Second, from, hello(app(1), 2, 'A'), 2, 0},
			{9 * time.Second, from, hello(app(1), 3, 'A'), 2, 0}, {10 * time.Second, from, hello(app(1), 4, 'A'), 3, 0},
			{15 * time.Second, from, hello(app(1), 5, 'A'), 3, 0}, {16 * time.Second, from, hello(app(1), 6, 'A'), 4, 0},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, 1)
			b.local = local
			for i, s := range tt.steps {
				b.now.Store(int64(s.at))
				b.give(s.from, s.data)
				if sockets, later := b.targets[1].counts(); sockets != s.sockets || later != s.more {
					t.Fatalf("step %d: %d sockets and %d later datagrams, want %d and %d", i, sockets, later, s.sockets, s.more)
				}
			}
		})
	}
}

// What a fresh socket took of others goes through all rules once more, and what
// it took of its own goes along with it.
func TestRedispatch(t *testing.T) {
	b := newBench(t, 3)
	b.local = endpoint{addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(freeUDPPort()))}
	end := func(s string) endpoint { return endpoint{addr: netip.MustParseAddrPort(s)} }
	me, second, third := end("127.0.0.2:1"), end("127.0.0.3:1"), end("127.0.0.4:1")
	b.give("127.0.0.4:1", hello(app(3), 1, 'C')) // a peer handed over before
	takes := map[endpoint]func(got func(endpoint, []byte)){
		me: func(got func(endpoint, []byte)) {
			got(me, []byte("more of mine"))
			got(second, hello(app(2), 1, 'B'))
			got(third, []byte("record"))
			got(end("127.0.0.9:9"), []byte("noise"))
			for range 100 {
				got(me, make([]byte, 1000)) // more than a message holds
			}
		},
		second: func(got func(endpoint, []byte)) { got(third, hello(app(3), 1, 'C')) },
	}
	b.connect = func(local, peer endpoint, got func(endpoint, []byte)) (int, error) {
		if f := takes[peer]; f != nil {
			f(got)
		}
		return connectUDP(local, peer, got)
	}
	b.give("127.0.0.2:1", hello(app(1), 1, 'A'))
	for i, want := range [][2]int{1: {1, 0}, 2: {1, 0}, 3: {1, 2}} {
		if sockets, later := b.targets[i].counts(); i > 0 && (sockets != want[0] || later != want[1]) {
			t.Errorf("session %d: %d sockets, %d later, want %v", i, sockets, later, want)
		}
	}
	mine, size := b.targets[1].got, 0
	for _, d := range mine {
		size += len(d)
	}
	if string(mine[1]) != "more of mine" || size > maxForwarded || len(mine) < 40 {
		t.Errorf("%d datagrams, %d bytes with the socket", len(mine), size)
	}
	if b.targets[2].peers[0] != second.addr {
		t.Errorf("session 2's peer is %v", b.targets[2].peers[0])
	}
	if b.count.redispatched.Load() != 4 || b.count.unknown.Load() != 1 || b.again != nil {
		t.Errorf("redispatched %d, unknown %d", b.count.redispatched.Load(), b.count.unknown.Load())
	}
}

func TestRouteRefusedByTarget(t *testing.T) {
	b := newBench(t, 1)
	b.local = endpoint{addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(freeUDPPort()))}
	b.targets[1].refuse = true
	b.give("127.0.0.2:4000", hello(app(1), 1, 'A'))
	if len(b.recent) != 0 {
		t.Error("a peer is remembered whose socket nobody has")
	}
	b.targets[1].refuse = false
	b.give("127.0.0.2:4000", hello(app(1), 1, 'A'))
	if n, _ := b.targets[1].counts(); n != 1 {
		t.Error("the retransmission did not open")
	}
}

func TestBounds(t *testing.T) {
	b := newBench(t, 0)
	peer := func(i int) endpoint {
		return endpoint{addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)}
	}
	for i := range maxRecent * 2 {
		b.remember(&handover{peer: peer(i), target: new(fakeTarget), until: epoch.Add(recentTime)})
	}
	if len(b.recent) != maxRecent || len(b.order) != maxRecent {
		t.Errorf("%d recent peers, %d in order", len(b.recent), len(b.order))
	}
	if b.recent[peer(maxRecent*2-1)] == nil || b.recent[peer(0)] != nil {
		t.Error("not the oldest went")
	}
	b.remember(&handover{peer: peer(1), until: epoch.Add(3 * recentTime)})
	if len(b.recent) != 1 || len(b.order) != 1 {
		t.Errorf("%d expired ones kept", len(b.recent)-1)
	}
	// One source gets so many sockets, for whatever sessions.
	allowed := 0
	for i := range 2 * hellosPerHost {
		id := appID{byte(i), byte(i >> 8)}
		if b.hellos.judge(id, [32]byte{1}, peer(7).addr.Addr(), netip.Addr{}, epoch) == helloWelcome {
			allowed++
		}
	}
	if allowed != hellosPerHost {
		t.Errorf("%d sockets for one source", allowed)
	}
	for i := range 2 * maxHosts {
		b.hellos.judge(appID{1, byte(i), byte(i >> 8)}, [32]byte{1}, peer(i).addr.Addr(), netip.Addr{}, epoch)
	}
	if len(b.hellos.hosts) > maxHosts {
		t.Errorf("%d sources remembered", len(b.hellos.hosts))
	}
	b.hellos.judge(appID{2}, [32]byte{1}, peer(1).addr.Addr(), netip.Addr{}, epoch.Add(helloWindow))
	if len(b.hellos.hosts) != 1 || len(b.hellos.apps) != 1 {
		t.Errorf("%d sources and %d sessions kept after the window", len(b.hellos.hosts), len(b.hellos.apps))
	}
	for i := range 10 * knownRandoms {
		b.hellos.opened(appID{2}, [32]byte{byte(i), byte(i >> 8)})
	}
	if n := len(b.hellos.apps[appID{2}].randoms); n != knownRandoms {
		t.Errorf("%d randoms of a session kept", n)
	}
}

// With real sockets: the worker's one answers from the address the client used.
func TestServeUDP(t *testing.T) {
	for _, tt := range []struct{ listen, dial string }{
		{"127.0.0.1:0", "127.0.0.1"},
		{"0.0.0.0:0", "127.0.0.7"}, // another address than the kernel would choose
		{"[::]:0", "::1"},
	} {
		t.Run(tt.listen, func(t *testing.T) {
			b := newBench(t, 1)
			b.listen(t, tt.listen)
			to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(tt.dial), b.local.addr.Port()))
			c, err := net.DialUDP("udp", nil, to)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.Write(hello(app(1), 1, 'A'))
			eventually(t, "a socket", func() bool { n, _ := b.targets[1].counts(); return n == 1 })
			if got := b.targets[1].peers[0]; got != c.LocalAddr().(*net.UDPAddr).AddrPort() {
				t.Errorf("peer %v, want %v", got, c.LocalAddr())
			}
			unix.Write(b.targets[1].fds[0], []byte("answer"))
			buf := make([]byte, 10)
			c.SetReadDeadline(time.Now().Add(patience))
			n, err := c.Read(buf) // only from the address it sent to
			if err != nil || string(buf[:n]) != "answer" {
				t.Errorf("got %q, %v", buf[:n], err)
			}
		})
	}
}

// Many clients at once, each with a hello and retransmissions of it: what
// sockets take of each other's between bind and connect comes to light again,
// and nothing is lost. There are no more at once than a socket has room for, even
// while nobody reads it.
func TestNothingIsLost(t *testing.T) {
	const clients, packets, atOnce = 100, 6, 20
	b := newBench(t, clients)
	b.listen(t, "127.0.0.1:0")
	arrived, foreign := 0, 0
	for first := 1; first <= clients; first += atOnce {
		var wg sync.WaitGroup
		for i := first; i < first+atOnce; i++ {
			wg.Go(func() {
				c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(b.local.addr))
				if err != nil {
					t.Error(err)
					return
				}
				t.Cleanup(func() { c.Close() }) // not before: another would get its port
				for range packets {
					c.Write(hello(app(byte(i)), 1, byte(i)))
				}
			})
		}
		wg.Wait()
		eventually(t, "all that was sent", func() bool {
			arrived, foreign = b.received()
			return arrived == (first+atOnce-1)*packets
		})
	}
	// The kernel finds a socket and then queues: on another processor that can
	// be before connect and after the drain. Workers ignore such a datagram.
	if foreign > clients/10 {
		t.Errorf("%d of %d with another client's worker", foreign, arrived)
	}
}

// received counts what has reached the targets, and what of it was another's.
func (b *bench) received() (arrived, foreign int) {
	for i, f := range b.targets {
		for _, d := range f.all() {
			arrived++
			if int(d[len(d)-1]) != i {
				foreign++
			}
		}
	}
	return arrived, foreign
}

// all returns every datagram that reached the target, by whatever way.
func (f *fakeTarget) all() [][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fd := range f.fds { // what came straight
		var buf [datagramSize]byte
		for {
			n, err := unix.Read(fd, buf[:])
			if err != nil {
				break
			}
			f.later = append(f.later, bytes.Clone(buf[:n]))
		}
	}
	return slices.Concat(f.got, f.later)
}

// The window made long: what a half-open socket took is sorted out.
func TestConnectUDPDrains(t *testing.T) {
	main, err := listenUDP(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer main.Close()
	local := endpoint{addr: main.LocalAddr().(*net.UDPAddr).AddrPort()}
	dial := func() (*net.UDPConn, endpoint) {
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(local.addr))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c, endpoint{addr: c.LocalAddr().(*net.UDPAddr).AddrPort()}
	}
	peer, from := dial()
	stranger, foreign := dial()

	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	la, _ := local.sockaddr()
	if err := unix.Bind(fd, la); err != nil {
		t.Fatal(err)
	}
	// Half open, it is one of two of the port: some of these come to it.
	const each = 200
	for i := range each {
		peer.Write([]byte{'p', byte(i)})
		stranger.Write([]byte{'s', byte(i)})
		if i%10 == 0 { // new ports, so that some hash to it
			c, _ := dial()
			c.Write([]byte{'o', byte(i)})
		}
	}
	pa, _ := from.sockaddr()
	if err := unix.Connect(fd, pa); err != nil {
		t.Fatal(err)
	}
	counts := make(map[byte]int)
	drain(fd, func(e endpoint, data []byte) {
		counts[data[0]]++
		if data[0] == 'p' && e != from || data[0] == 's' && e != foreign {
			t.Errorf("%q from %v", data, e)
		}
	})
	if counts['p']+counts['s']+counts['o'] == 0 {
		t.Error("it took nothing: the test proves nothing")
	}
	peer.Write([]byte("p!"))
	stranger.Write([]byte("s!"))
	after := 0
	eventually(t, "the peer's next", func() bool {
		drain(fd, func(e endpoint, data []byte) {
			after++
			if e != from {
				t.Errorf("%q of a stranger after connect", data)
			}
		})
		return after > 0
	})
}

// With SO_REUSEPORT nobody else can take the port, whatever he sets.
func TestPortCannotBeTaken(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs a second user")
	}
	c, err := listenUDP(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	addr := c.LocalAddr().(*net.UDPAddr).AddrPort()
	try := func(uid int, options ...int) error {
		result := make(chan error)
		go func() {
			// The thread is not given back: it has another uid.
			result <- asUID(uid, func() error {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					return err
				}
				defer unix.Close(fd)
				for _, o := range options {
					unix.SetsockoptInt(fd, unix.SOL_SOCKET, o, 1)
				}
				sa, _ := (endpoint{addr: addr}).sockaddr()
				return unix.Bind(fd, sa)
			})
		}()
		return <-result
	}
	for _, options := range [][]int{{}, {unix.SO_REUSEPORT}, {unix.SO_REUSEADDR}, {unix.SO_REUSEADDR, unix.SO_REUSEPORT}} {
		if err := try(65534, options...); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("another user with options %v: %v", options, err)
		}
	}
	if err := try(0, unix.SO_REUSEPORT); err != nil {
		t.Errorf("our own worker's socket: %v", err)
	}
}

// What nobody asked for costs no memory.
func TestUnknownAllocates(t *testing.T) {
	b := newBench(t, 1)
	peer := endpoint{addr: netip.MustParseAddrPort("192.0.2.1:4000")}
	for name, data := range map[string][]byte{
		"noise": []byte("noise"), "record": {23, 0xfe, 0xfd, 0, 1, 0, 0}, "unknown hello": hello(app(9), 1, 'A'), "empty": nil,
	} {
		if n := testing.AllocsPerRun(100, func() { b.receive(peer, b.local, data, epoch) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if got := b.count.unknown.Load(); got != 4*101 {
		t.Errorf("%d counted", got)
	}
}

func TestBatchAllocates(t *testing.T) {
	c, err := listenUDP(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, err := newBatch(c)
	if err != nil {
		t.Fatal(err)
	}
	out, err := net.DialUDP("udp", nil, c.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	msg := []byte("datagram")
	n := testing.AllocsPerRun(100, func() {
		out.Write(msg)
		n, err := b.read()
		if err != nil || n != 1 {
			t.Fatal(n, err)
		}
		peer, local, data, ok := b.at(0)
		if !ok || string(data) != "datagram" || local.addr.Addr() != netip.AddrFrom4([4]byte{127, 0, 0, 1}) || peer.addr.Port() == 0 {
			t.Fatal(peer, local, data, ok)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
	out.Write(make([]byte, datagramSize+1))
	if _, err := b.read(); err != nil {
		t.Fatal(err)
	}
	if _, _, _, ok := b.at(0); ok {
		t.Error("a cut datagram is taken for whole")
	}
}

func BenchmarkUnknown(b *testing.B) {
	d := newBench(b, 1)
	peer, data := endpoint{addr: netip.MustParseAddrPort("192.0.2.1:4000")}, hello(app(9), 1, 'A')
	b.ReportAllocs()
	for b.Loop() {
		d.receive(peer, d.local, data, epoch)
	}
}
