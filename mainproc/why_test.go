package mainproc

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"rocserv/internal/control"
	"rocserv/internal/ipc"
)

// whyAnswer is what the fake worker says: the question, and all that can be said.
func whyAnswer(q *ipc.Why) *ipc.WhyAnswer {
	if q.Host == "none.example" {
		return &ipc.WhyAnswer{Error: "no such name"}
	}
	a := &ipc.WhyAddress{
		Addr: ipc.PutAddr(netip.MustParseAddr("192.0.2.7")), Rule: "allow any", Line: "corp for any", Told: q.Host, Dialled: q.Dial, DialUs: 1500000,
		Ways: []*ipc.WhyWay{{Name: "corp", Carries: q.Proto == 6, Error: "down"}, {Name: "direct", Up: true, Carries: true}},
	}
	if q.Dial {
		a.Failure = "connection refused"
	}
	return &ipc.WhyAnswer{Addresses: []*ipc.WhyAddress{a, {Addr: ipc.PutAddr(netip.MustParseAddr("10.0.0.1")), Denied: "private address"}}}
}

// The worker of the tunnel is asked, and what it says is shown; what makes no
// sense is asked of nobody.
func TestConsoleWhy(t *testing.T) {
	r, c := controlled(t)
	refused(t, c, control.CmdWhy, control.WhyArgs{User: "user1", Host: "www.example"}, control.NotFound)
	p := r.dial()
	if line := p.open(testSID(sidGood, 1, 0, false, 1)); !strings.HasPrefix(line, "ok ") {
		t.Fatal(line)
	}
	got := ask[control.Why](t, c, control.CmdWhy, control.WhyArgs{User: "user1", Host: "www.example", Port: 443, Dial: true})
	want := control.Why{User: "user1", ID: got.ID, Host: "www.example", Port: 443, Proto: "tcp", Addresses: []control.WhyAddress{
		{Address: "192.0.2.7", Allowed: true, Rule: "allow any", Line: "corp for any", Name: "www.example",
			Ways: []control.WhyWay{{Name: "corp", Carries: true, Error: "down"}, {Name: "direct", Up: true, Carries: true}},
			Dial: &control.WhyDial{Error: "connection refused", Seconds: 1.5}},
		{Address: "10.0.0.1", Denied: "private address"},
	}}
	if !reflect.DeepEqual(got, want) || got.ID == 0 {
		t.Errorf("%+v", got)
	}
	got = ask[control.Why](t, c, control.CmdWhy, control.WhyArgs{User: "user1", Host: "192.0.2.7", Port: 53, Proto: "udp"})
	if got.Proto != "udp" || got.Addresses[0].Dial != nil || got.Addresses[0].Ways[0].Carries {
		t.Errorf("%+v", got)
	}
	for _, a := range []control.WhyArgs{{Host: "x"}, {User: "user1"}, {User: "user1", Host: "x", Proto: "gre"}, {User: "user1", Host: "x", Port: 65536},
		{User: "user1", Host: "x", Dial: true}, {User: "user1", Host: "x", Port: 53, Proto: "udp", Dial: true}} {
		refused(t, c, control.CmdWhy, a, control.BadRequest)
	}
	if e := refused(t, c, control.CmdWhy, control.WhyArgs{User: "user1", Host: "none.example"}, control.Failed); e.Message != "none.example: no such name" {
		t.Errorf("%q", e.Message)
	}
	r.stop()
}

// A question that is open when the program is replaced may be answered to the new
// one, once.
func TestWhyAcrossUpgrade(t *testing.T) {
	r, c := controlled(t)
	p := r.dial()
	if line := p.open(testSID(sidGood, 1, 0, false, 1)); !strings.HasPrefix(line, "ok ") {
		t.Fatal(line)
	}
	asker := r.ctl()
	done := make(chan error, 1)
	go func() {
		done <- asker.Call(control.CmdWhy, control.WhyArgs{User: "user1", Host: "late.example"}, new(control.Why))
	}()
	if line := p.line(); line != "why" {
		t.Fatal(line)
	}
	c = r.upgrade(c, 1)
	if err := <-done; err == nil {
		t.Error("somebody has answered")
	}
	if line := p.line(); line != "secmod" {
		t.Fatal(line)
	}
	refused(t, c, control.CmdWhy, control.WhyArgs{User: "user1", Host: "www.example"}, control.Busy)
	p.ask("why")
	again := control.WhyArgs{User: "user1", Host: "www.example"}
	eventually(t, "an answer", func() bool { return c.Call(control.CmdWhy, again, new(control.Why)) == nil })
	p.send("misbehave why-unasked")
	p.closed()
	r.stop()
}
