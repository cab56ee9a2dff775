package mainproc

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"rocserv/internal/control"
)

func TestLocalPorts(t *testing.T) {
	for _, tt := range []struct {
		between, except string
		want            int
	}{
		{"32768\t60999\n", "\n", 28232},
		{"", "", 28232},
		{"60999 32768", "", 28232},
		{"1024 70000", "", 28232},
		{"40000 40099\n", "40010-40019,40050,50000-50010\n", 89},
		{"40000 40099", "39990-40009,40090-40110,x,5-1,-", 80},
		{"40000 40000", "40000", 0},
		{"40000 40001", "1-65535,40000", 0},
	} {
		if n := localPorts(tt.between, tt.except); n != tt.want {
			t.Errorf("%q but %q: %d ports, want %d", tt.between, tt.except, n, tt.want)
		}
	}
}

// Everybody can have the least, and the rest goes to who asks first.
func TestPortsAreDivided(t *testing.T) {
	c := new(credits)
	c.size(1000, 10)
	now := time.Unix(1e9, 0)
	ws := make([]*worker, 10)
	for i := range ws {
		ws[i] = new(worker)
	}
	greedy, late := ws[0], ws[9]
	if n := c.open(greedy, nil); n != portBlock {
		t.Errorf("%d ports at first, want %d", n, portBlock)
	}
	if n, _ := c.more(greedy, 320, 300, now); n != 268 {
		t.Errorf("%d more for who may have 300 in all and has 32", n)
	}
	if n, say := c.more(greedy, 10000, 10000, now); n != 1000-9*portBlock-300 || !say {
		t.Errorf("%d more, %v; want all but the least of nine others, and that it is said", n, say)
	}
	if n, say := c.more(greedy, 32, 10000, now.Add(time.Minute)); n != 0 || say {
		t.Errorf("%d more, %v: of no ports, which has just been said", n, say)
	}
	for _, w := range ws[1:] {
		if n := c.open(w, nil); n != portBlock {
			t.Errorf("%d ports for a worker that comes late", n)
		}
	}
	if total, held, refused := c.look(); total != 1000 || held != 1000 || refused != 3 {
		t.Errorf("%d of %d held, %d times refused", held, total, refused)
	}
	if c.back(greedy, 713) || !c.back(greedy, 96) {
		t.Error("gave back what it had not, or not what it had")
	}
	if n, _ := c.more(late, 128, 10000, now); n != 96 {
		t.Errorf("%d of 96 that were given back", n)
	}
	if !c.back(late, 128) {
		t.Error("all given back")
	}
	if n, _ := c.more(greedy, 512, 10000, now); n != 96 {
		t.Errorf("%d: the least of who gave it back is lent", n)
	}
	if n, say := c.more(late, 32, 10000, now.Add(time.Hour)); n != 32 || say {
		t.Errorf("%d: who gave back has lost its least", n)
	}
	c.leave(greedy)
	if n, _ := c.more(late, 10000, 10000, now); n != 1000-10*portBlock {
		t.Errorf("%d after who had the rest is gone", n)
	}
}

// With fewer ports than that the least is what there is for everybody.
func TestPortsOfSmallHost(t *testing.T) {
	for _, tt := range []struct{ total, workers, least int }{
		{21174, 100, 32}, {21174, 1000, 10}, {150, 100, 1}, {99, 100, 0}, {0, 100, 0}, {0, 0, 0},
	} {
		c := new(credits)
		c.size(tt.total, tt.workers)
		w := new(worker)
		if n := c.open(w, nil); n != tt.least {
			t.Errorf("%d ports, %d workers: %d at first, want %d", tt.total, tt.workers, n, tt.least)
		}
		most := tt.total - tt.least*max(tt.workers-1, 0)
		if n, _ := c.more(w, 1<<16, 1<<16, time.Now()); n+tt.least != most {
			t.Errorf("%d ports, %d workers: one has %d, want %d", tt.total, tt.workers, n+tt.least, most)
		}
		c.size(most/2, tt.workers) // it keeps what it has
		if n, _ := c.more(w, 32, 1<<16, time.Now()); n != 0 || c.of(w) != most {
			t.Errorf("%d ports, %d workers: %d more of half of them", tt.total, tt.workers, n)
		}
	}
}

// heldPorts is what the server says is held, all in all and by each tunnel.
func heldPorts(t *testing.T, ctl *control.Client) string {
	t.Helper()
	st := ask[control.Status](t, ctl, control.CmdStatus, nil)
	list := []uint64{st.Gauges["udp_ports_held"]}
	for _, s := range ask[control.Sessions](t, ctl, control.CmdSessions, nil).Sessions {
		list = append(list, s.Traffic.More["udp_ports"])
	}
	return fmt.Sprint(list)
}

// What a worker holds is the next worker's of its session, stays when main is
// replaced, and is free when the worker is killed. One in the pool holds none.
func TestPortsOfWorkers(t *testing.T) {
	r, ctl := controlled(t)
	if got := heldPorts(t, ctl); got != "[0]" {
		t.Errorf("held before there is a tunnel: %s", got)
	}
	sid := testSID(sidGood, 1, 0, false, 1)
	first, second := r.dial(), r.dial()
	first.ask("keep")
	least, _ := strconv.Atoi(value(first.open(sid), "ports"))
	if least < 1 || least > portBlock {
		t.Fatalf("%d ports at first", least)
	}
	if got := first.ask("ports 64 0"); got != "ports 64" {
		t.Errorf("64 more: %q", got)
	}
	first.ask("ports 0 32")
	want := func(what string, n int) {
		t.Helper()
		eventually(t, what, func() bool { return heldPorts(t, ctl) == fmt.Sprintf("[%d %d]", n, n) })
	}
	want("a block given back", least+32)
	if got := second.open(sid); value(got, "ports") != strconv.Itoa(least+32) {
		t.Errorf("the newest worker has not what the keeper had, %d: %q", least+32, got)
	}
	first.line() // retire
	first.ask("ports 0 9999")
	want("only the newest worker's", least+32)
	ctl = r.upgrade(ctl, 1)
	second.line() // another sec-mod
	want("the same after an upgrade", least+32)
	second.send("ports 32 0")
	if got := second.line(); got != "ports 32" {
		t.Errorf("the next main grants %q", got)
	}
	pid, _ := strconv.Atoi(value(second.ask("hello"), "pid"))
	syscall.Kill(pid, syscall.SIGKILL)
	eventually(t, "nothing held by who is dead", func() bool { return heldPorts(t, ctl) == "[0]" })
	third := r.dial()
	third.open(sid)
	if got := third.ask("ports 65536 0"); strings.TrimPrefix(got, "ports ") != strconv.Itoa(usualFlows+portBlock-least) {
		t.Errorf("more than a client can use: %q", got)
	}
	if st := ask[control.Status](t, ctl, control.CmdStatus, nil); st.Counters["main"]["udp_ports_refused"] != 1 || st.Gauges["udp_ports"] == 0 {
		t.Errorf("status %v, %v", st.Counters["main"], st.Gauges)
	}
	third.send("ports 0 9999")
	third.closed()
	r.waitLog("gives back 9999 ports of")
	r.stop()
}
