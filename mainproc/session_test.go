package mainproc

import (
	"encoding/hex"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"rocserv/internal/ipc"
)

// Tests of sessions through real processes; sessions_test.go has the table alone.

func TestOpen(t *testing.T) {
	r := start(t, defaults())
	sid := testSID(sidGood, 7, 0, false, 1)
	c := r.dial()
	got := c.open(sid)
	if !strings.HasPrefix(got, "ok 10.9.0.") || !strings.Contains(got, " user7 "+safeID(sid)[:6]+" gen=1 ") || !strings.HasSuffix(got, "psk= banner=welcome") {
		t.Errorf("open: %q", got)
	}
	if app, _ := hex.DecodeString(value(got, "app")); len(app) != 32 {
		t.Errorf("App-ID of %d bytes", len(app))
	}
	// A worker that fails its session loses it, and nobody else.
	for kind, want := range map[byte]string{
		sidRefused:     "COOKIE_REFUSED ",
		sidUnavailable: "COOKIE_UNAVAILABLE store is down",
	} {
		if got := r.dial().open(testSID(kind, 8, 0, false, kind)); got != want {
			t.Errorf("kind %d: %q, want %q", kind, got, want)
		}
	}
	// Nobody waits for somebody else's answer: the first is held for the other.
	slow := r.dial()
	slow.send("open %x", testSID(sidHeld, 9, 0, false, 1))
	quick := r.dial()
	if got := quick.open(testSID(sidGood, 10, 0, false, 1)); !strings.HasPrefix(got, "ok") {
		t.Errorf("quick: %q", got)
	}
	if got := slow.line(); !strings.HasPrefix(got, "ok") {
		t.Errorf("slow: %q", got)
	}
	r.stop()
}

// The last CONNECT wins, with the same address, and only after the worker
// before it is gone.
func TestReconnect(t *testing.T) {
	r := start(t, defaults())
	sid := testSID(sidGood, 1, 0, false, 1)
	a := r.dial()
	first := a.open(sid)
	psk := strings.Repeat("ab", 32)
	a.ask("info %s", psk)
	a.ask("ports 1 0") // answered by main, which has read what was before
	b := r.dial()
	second := b.open(sid)
	if !strings.HasPrefix(second, "ok") {
		t.Fatalf("second: %q", second)
	}
	if got := a.line(); got != "retire gen=2" {
		t.Errorf("the first was told %q", got)
	}
	a.closed()
	if strings.Fields(first)[1] != strings.Fields(second)[1] {
		t.Errorf("another address: %q, %q", first, second)
	}
	if value(second, "gen") != "2" || value(second, "app") == value(first, "app") || value(second, "psk") != psk || !strings.Contains(second, "welcome,") {
		t.Errorf("first %q, second %q", first, second)
	}
	r.waitLog(msgReconnected)
	r.waitLog("reason=REASON_REPLACED")

	// A worker that does not obey is killed, and the new one gets its answer.
	if b.ask("deaf") != "done" {
		t.Fatal("no answer")
	}
	c := r.dial()
	c.send("open %x", sid)
	if got := b.line(); got != "retire gen=3" {
		t.Errorf("the second was told %q", got)
	}
	b.closed()
	r.stop()
}

// Workers with flows stay behind the newest one, at most two of them, each with
// a pair to it; and wait for the client without one.
func TestKeepers(t *testing.T) {
	r := start(t, defaults())
	sid := testSID(sidGood, 1, 0, false, 1)
	pid := func(p *peer) string { return value(p.ask("hello"), "pid") }
	open := func(keepers ...string) *peer {
		t.Helper()
		p := r.dial()
		p.ask("keep")
		got := p.open(sid)
		if want := strings.Join(append([]string{"banner=welcome"}, keepers...), ","); !strings.HasPrefix(got, "ok") || !strings.HasSuffix(got, want) {
			t.Fatalf("got %q, want %s", got, want)
		}
		return p
	}
	told := func(p *peer, want string) {
		t.Helper()
		if got := p.line(); got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	}
	a := open()
	pidA := pid(a)
	b := open(pidA)
	told(a, "retire gen=2")
	pidB := pid(b)
	c := open(pidA, pidB)
	told(a, "retire gen=3")
	told(b, "retire gen=3")
	pidC := pid(c)
	d := open(pidB, pidC)
	told(a, "terminate REASON_REPLACED false")
	a.closed()
	// The newest loses its client: sec-mod hears why, once, and its process stays.
	pidD := pid(d)
	d.ask("detach %d", ipc.Reason_REASON_DPD_TIMEOUT)
	r.waitLog("reason=REASON_DPD_TIMEOUT")
	told(b, "retire gen=4")
	told(c, "retire gen=4")
	e := open(pidC, pidD)
	told(b, "terminate REASON_REPLACED false")
	told(c, "retire gen=5")
	told(d, "retire gen=5")
	d.send("exit %d", ipc.Reason_REASON_USER)
	d.closed()
	eventually(t, "an end each of a, b, c and d", func() bool { return strings.Count(r.log.String(), "session close") >= 4 })
	if n := strings.Count(r.log.String(), "session close"); n != 4 {
		t.Errorf("sec-mod was told of %d ends, not of a, b, c and d once each", n)
	}

	// The user leaves: the cookie is void, and whoever keeps flows of it goes.
	e.send("exit %d", ipc.Reason_REASON_USER)
	told(c, "terminate REASON_SERVER true")
	c.closed()
	r.stop()
}

// Where all places are taken, the oldest keeper gives its own to a login.
func TestKeeperMakesRoom(t *testing.T) {
	cfg := defaults()
	cfg.Config.Global.MaxClients = 2 // and four more workers may connect
	r := start(t, cfg)
	var away []*peer
	for i := range byte(6) {
		p := r.dial()
		if got := p.open(testSID(sidGood, i, 0, false, i)); !strings.HasPrefix(got, "ok") {
			t.Fatalf("client %d: %q", i, got)
		}
		p.ask("detach %d", ipc.Reason_REASON_CONNECTION_LOST)
		eventually(t, "away", func() bool { return strings.Count(r.log.String(), msgDetached) == int(i)+1 })
		away = append(away, p)
	}
	r.dial().ask("hello")
	if got := away[0].line(); got != "terminate REASON_CONNECTION_LOST false" {
		t.Errorf("the oldest was told %q", got)
	}
	away[1].send("log still here")
	if got := away[1].line(); got != "done" {
		t.Errorf("the second oldest was told %q", got)
	}
	r.stop()
}

// Several at once for one cookie: one has it in the end, and all others are gone.
func TestReconnectRace(t *testing.T) {
	r := start(t, defaults())
	sid := testSID(sidGood, 1, 0, false, 1)
	const n = 6
	peers := make([]*peer, n)
	for i := range peers {
		peers[i] = r.dial()
		peers[i].ask("hello")
	}
	for _, p := range peers {
		p.send("open %x", sid)
	}
	up := make(chan int, n)
	for i, p := range peers {
		go func() {
			for {
				p.SetReadDeadline(time.Now().Add(4 * time.Second))
				s, err := p.in.ReadString('\n')
				if ne, ok := err.(net.Error); ok && ne.Timeout() {
					up <- i // still there
					return
				}
				if err != nil {
					up <- -1
					return
				}
				_ = s
			}
		}()
	}
	winners := 0
	for range n {
		if <-up >= 0 {
			winners++
		}
	}
	if winners != 1 {
		t.Errorf("%d workers have the session", winners)
	}
	r.stop()
}

func TestLeases(t *testing.T) {
	cfg := defaults()
	cfg.SecMod.Network = "10.9.0.0/29" // five addresses
	r := start(t, cfg)
	seen := make(map[string]bool)
	var peers []*peer
	for i := range byte(5) {
		p := r.dial()
		got := p.open(testSID(sidGood, i, 0, false, i))
		if !strings.HasPrefix(got, "ok") {
			t.Fatalf("client %d: %q", i, got)
		}
		seen[strings.Fields(got)[1]] = true
		peers = append(peers, p)
	}
	if len(seen) != 5 {
		t.Errorf("addresses %v", seen)
	}
	if got := r.dial().open(testSID(sidGood, 9, 0, false, 9)); got != "COOKIE_UNAVAILABLE No address left" {
		t.Errorf("without an address: %q", got)
	}
	r.waitLog("reason=REASON_ERROR") // sec-mod was told that nothing came of it
	// Gone by timeout: the cookie lives and keeps its address.
	peers[0].send("exit %d", ipc.Reason_REASON_DPD_TIMEOUT)
	r.waitLog("reason=REASON_DPD_TIMEOUT")
	if got := r.dial().open(testSID(sidGood, 9, 0, false, 9)); got != "COOKIE_UNAVAILABLE No address left" {
		t.Errorf("the address of a living cookie was given away: %q", got)
	}
	// Gone by the user's wish: sec-mod says that the cookie is void.
	peers[1].send("exit %d", ipc.Reason_REASON_USER)
	r.waitLog("reason=REASON_USER")
	eventually(t, "an address again", func() bool {
		return strings.HasPrefix(r.dial().open(testSID(sidGood, 9, 0, false, 9)), "ok")
	})
	r.stop()
}

// A worker that is gone before sec-mod has answered leaves nothing open.
func TestGoneWhileOpening(t *testing.T) {
	cfg := defaults()
	cfg.SecMod.Network = "10.9.0.0/30" // two addresses, one is the server's
	r := start(t, cfg)
	c := r.dial()
	sid := testSID(sidSlow, 1, 0, false, 1)
	c.send("open %x\nexit %d", sid, ipc.Reason_REASON_USER)
	c.closed()
	r.waitLog(fmt.Sprintf("session close safe_id=%s conn=1 reason=REASON_ERROR", strconv.Quote(safeID(sid))))
	if got := r.dial().open(testSID(sidGood, 2, 0, false, 2)); !strings.HasPrefix(got, "ok") {
		t.Errorf("the address is held by nobody: %q", got)
	}
	r.stop()
}

func TestEndedBySecMod(t *testing.T) {
	cfg := defaults()
	cfg.SecMod.Network = "10.9.0.0/30" // two of them, one is the server's
	r := start(t, cfg)
	c := r.dial()
	if got := c.open(testSID(sidEnds, 1, 0, false, 1)); !strings.HasPrefix(got, "ok") {
		t.Fatalf("open: %q", got)
	}
	if got := c.line(); got != "terminate REASON_SERVER true" {
		t.Errorf("the worker was told %q", got)
	}
	c.closed()
	r.waitLog("reason=REASON_SERVER")
	eventually(t, "the address is free", func() bool {
		return strings.HasPrefix(r.dial().open(testSID(sidGood, 2, 0, false, 2)), "ok")
	})
	r.stop()
}

func TestSameClients(t *testing.T) {
	r := start(t, defaults())
	a := r.dial()
	a.open(testSID(sidGood, 1, 2, false, 1))
	r.dial().open(testSID(sidGood, 1, 2, false, 2))
	if got := r.dial().open(testSID(sidGood, 1, 2, false, 3)); got != "COOKIE_REFUSED " {
		t.Errorf("third of two: %q", got)
	}
	if got := r.dial().open(testSID(sidGood, 2, 2, false, 4)); !strings.HasPrefix(got, "ok") {
		t.Errorf("another user: %q", got)
	}
	if got := r.dial().open(testSID(sidGood, 1, 2, true, 5)); !strings.HasPrefix(got, "ok") {
		t.Errorf("replace-oldest: %q", got)
	}
	if got := a.line(); got != "terminate REASON_SERVER true" {
		t.Errorf("the oldest was told %q", got)
	}
	r.stop()
}

// hello is a DTLS 1.2 ClientHello with a session id and a mark at its end.
func hello(app []byte, random, mark byte) []byte {
	body := []byte{0xfe, 0xfd}
	for range 32 {
		body = append(body, random)
	}
	body = append(body, byte(len(app)))
	body = append(body, app...)
	body = append(body, 0)                      // cookie
	body = append(body, 0, 2, 0, 0xa8)          // TLS_PSK_WITH_AES_128_GCM_SHA256
	body = append(body, 1, 0)                   // compression
	body = append(body, 0, 5, 0xff, mark, 0, 1) // an extension that nobody knows
	body = append(body, mark)
	n := len(body)
	hs := append([]byte{1, 0, byte(n >> 8), byte(n), 0, 0, 0, 0, 0, 0, byte(n >> 8), byte(n)}, body...)
	rec := []byte{22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(hs) >> 8), byte(len(hs))}
	return append(rec, hs...)
}

func (r *running) udpDial() *net.UDPConn {
	r.t.Helper()
	a, err := net.ResolveUDPAddr("udp", r.udp)
	must(err)
	c, err := net.DialUDP("udp", nil, a)
	must(err)
	r.t.Cleanup(func() { c.Close() })
	return c
}

func TestUDP(t *testing.T) {
	r := start(t, defaults())
	c := r.dial()
	got := c.open(testSID(sidGood, 1, 0, false, 1))
	app, _ := hex.DecodeString(value(got, "app"))
	u := r.udpDial()
	unknown := append([]byte(nil), app...)
	unknown[0]++
	u.Write(hello(unknown, 1, '?'))
	u.Write([]byte("noise"))
	h := hello(app, 1, 'A')
	u.Write(h)
	u.Write([]byte("x")) // may come before or after the socket
	want := fmt.Sprintf("UDP_FD %v %v %d:A", u.LocalAddr(), r.udp, len(h))
	if got := c.line(); !strings.HasPrefix(got, want) {
		t.Fatalf("worker got %q, want %q", got, want)
	}
	// The x comes to the worker by one of three ways: with the hello, after
	// it through main, or straight. Then everything goes straight.
	u.Write([]byte("ping"))
	buf := make([]byte, 100)
	for {
		u.SetReadDeadline(time.Now().Add(patience))
		n, err := u.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if string(buf[:n]) == "echo ping" {
			break
		}
	}
	// From another port, and with a new random: a second socket, then no third
	// within ten seconds.
	u2 := r.udpDial()
	u2.Write(hello(app, 2, 'B'))
	for {
		got := c.line()
		if strings.HasPrefix(got, fmt.Sprintf("UDP_FD %v", u2.LocalAddr())) {
			break
		}
		if !strings.HasPrefix(got, "UDP_DATAGRAMS") {
			t.Fatalf("worker got %q", got)
		}
	}
	u3 := r.udpDial()
	u3.Write(hello(app, 3, 'C'))
	// With a new CONNECT the old id is void and a new one is good.
	d := r.dial()
	got = d.open(testSID(sidGood, 1, 0, false, 1))
	u3.Write(hello(app, 4, 'D'))
	app, _ = hex.DecodeString(value(got, "app"))
	u3.Write(hello(app, 5, 'E'))
	if got := d.line(); !strings.HasPrefix(got, fmt.Sprintf("UDP_FD %v", u3.LocalAddr())) || !strings.HasSuffix(got, ":E") {
		t.Errorf("the new worker got %q", got)
	}
	r.stop()
	if strings.Contains(r.log.String(), "died") {
		t.Errorf("somebody died:\n%s", r.log)
	}
}

// A worker that does nothing any more is killed once it is in the way, and
// holds up nobody meanwhile.
func TestStalledWorker(t *testing.T) {
	r := start(t, defaults())
	c := r.dial()
	got := c.open(testSID(sidGood, 1, 0, false, 1))
	app, _ := hex.DecodeString(value(got, "app"))
	u := r.udpDial()
	u.Write(hello(app, 1, 'A'))
	c.line()
	if c.ask("stall") != "done" {
		t.Fatal("no answer")
	}
	other := r.dial()
	begin := time.Now()
	if got := other.open(testSID(sidGood, 2, 0, false, 2)); !strings.HasPrefix(got, "ok") {
		t.Errorf("another client: %q", got)
	}
	if time.Since(begin) > 2*time.Second {
		t.Error("another client was held up")
	}
	// Its session is wanted by a new worker: the stalled one is in the way.
	if got := r.dial().open(testSID(sidGood, 1, 0, false, 1)); value(got, "gen") != "2" {
		t.Errorf("the session's next worker: %q", got)
	}
	c.closed()
	r.stop()
}
