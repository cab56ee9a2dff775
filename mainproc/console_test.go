package mainproc

import (
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rocserv/internal/control"
)

// controlled starts a server with a control socket.
func controlled(t *testing.T) (*running, *control.Client) {
	t.Helper()
	c := defaults()
	c.Config.Global.UseControl, c.Config.Global.ControlFile, c.Config.Global.Device = true, "ctl", "vpns"
	c.Config.Global.StatsReset, c.Config.Global.MaxBanScore, c.Config.Global.BanTime, c.Config.Global.BanResetTime = time.Hour, 50, time.Hour, time.Hour
	r := start(t, c)
	return r, r.ctl()
}

func (r *running) ctl() *control.Client {
	r.t.Helper()
	c, err := control.Dial(filepath.Join(r.dir, "ctl"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

func ask[T any](t *testing.T, c *control.Client, cmd string, args any) (v T) {
	t.Helper()
	if err := c.Call(cmd, args, &v); err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	return v
}

func refused(t *testing.T, c *control.Client, cmd string, args any, want control.Code) *control.Error {
	t.Helper()
	var e *control.Error
	if err := c.Call(cmd, args, nil); !errors.As(err, &e) || e.Code != want {
		t.Fatalf("%s %v: %v, want %s", cmd, args, err, want)
	}
	return e
}

func TestConsoleShowsTunnels(t *testing.T) {
	r, c := controlled(t)
	if got := ask[control.Sessions](t, c, control.CmdSessions, nil); got.Sessions == nil || len(got.Sessions) != 0 {
		t.Fatalf("sessions of an idle server: %+v", got)
	}
	events := r.ctl()
	if err := events.Listen(); err != nil {
		t.Fatal(err)
	}
	p := r.dial()
	hello := p.ask("hello")
	line := p.open(testSID(sidGood, 1, 0, false, 1))
	if !strings.HasPrefix(line, "ok ") {
		t.Fatal(line)
	}
	p.ask("info 00")
	e, err := events.Next()
	if err != nil || e.Type != control.EventConnected || e.Session.User != "user1" || e.Session.IPv4 == "" {
		t.Fatalf("event %+v, %v", e, err)
	}
	var s control.Session
	eventually(t, "the session as its worker describes it", func() bool {
		got := ask[control.Sessions](t, c, control.CmdSessions, control.Target{User: "user1"}).Sessions
		if len(got) != 1 {
			t.Fatalf("sessions: %+v", got)
		}
		s = got[0]
		return s.MTU == 1400
	})
	if value(hello, "pid") != strconv.Itoa(s.ID) || s.Device != "vpns0" || s.Hostname != "laptop" || s.UserAgent != "fake/1" || s.Group != "staff" ||
		s.RemoteIP != "127.0.0.1" || s.LocalIP != "127.0.0.1" || s.MTU != 1400 || s.Channel.TLS != "(TLS1.3)" || s.Login.UnixMilli() != 1000 ||
		!slices.Equal(s.Config.Routes, []string{"10.0.0.0/255.0.0.0"}) || !slices.Equal(s.Config.DNS, []string{"9.9.9.9"}) ||
		!slices.Equal(s.Config.RestrictedToPorts, []string{"!tcp(443)", "!icmp()"}) || s.Config.DPD != 90 {
		t.Errorf("%+v", s)
	}
	// The counters are those of the moment: the worker was asked for them.
	if s.Traffic.RX == 0 || s.Traffic.RX%100 != 0 || s.Traffic.TX != 7 || time.Since(s.Traffic.At) > time.Second || s.Traffic.More["flows_tcp"] != 4 {
		t.Errorf("traffic %+v", s.Traffic)
	}
	for _, target := range []control.Target{{User: "user2"}, {ID: 1}, {Session: "none"}} {
		if got := ask[control.Sessions](t, c, control.CmdSessions, target); len(got.Sessions) != 0 {
			t.Errorf("%+v finds %+v", target, got)
		}
	}
	if got := ask[control.Sessions](t, c, control.CmdSessions, control.Target{Session: s.Session[:4]}); len(got.Sessions) != 1 {
		t.Errorf("not found by its id")
	}
	refused(t, c, control.CmdSessions, control.Target{User: "a", ID: 1}, control.BadRequest)

	// The session keeps its label and its counters over a reconnect.
	before := ask[control.Sessions](t, c, control.CmdSessions, nil).Sessions[0].Traffic
	p2 := r.dial()
	if line := p2.open(testSID(sidGood, 1, 0, false, 1)); !strings.HasPrefix(line, "ok ") {
		t.Fatal(line)
	}
	after := ask[control.Sessions](t, c, control.CmdSessions, nil).Sessions
	if len(after) != 1 || after[0].Device != "vpns0" || after[0].ID == s.ID || after[0].Traffic.TotalRX <= after[0].Traffic.RX ||
		after[0].Traffic.TotalTX < before.TotalTX+7 {
		t.Errorf("after a reconnect %+v, before %+v", after, before)
	}
	r.stop()
}

func TestConsoleEndsTunnels(t *testing.T) {
	r, c := controlled(t)
	events := r.ctl()
	if err := events.Listen(control.EventDisconnected); err != nil {
		t.Fatal(err)
	}
	p := r.dial()
	p.open(testSID(sidGood, 1, 0, false, 1))
	refused(t, c, control.CmdDisconnect, control.Target{User: "nobody"}, control.NotFound)
	refused(t, c, control.CmdDisconnect, nil, control.BadRequest)
	done := ask[control.Ended](t, c, control.CmdDisconnect, control.Target{User: "user1"})
	if len(done.Sessions) != 1 {
		t.Fatalf("%+v", done)
	}
	if line := p.line(); line != "terminate REASON_SERVER true" {
		t.Errorf("the worker is told %q", line)
	}
	e, err := events.Next()
	if err != nil || e.Reason != "server disconnected" || e.Session.User != "user1" || e.Session.Traffic.RX == 0 {
		t.Fatalf("event %+v, %v", e, err)
	}
	eventually(t, "the session is gone", func() bool { return ask[control.Status](t, c, control.CmdStatus, nil).ActiveSessions == 0 })
	st := ask[control.Status](t, c, control.CmdStatus, nil)
	if st.Total.Sessions != 1 || st.Period.Sessions != 1 || st.Total.RX == 0 || st.Total.AuthFailures != 2 || st.Period.AvgAuthTime != 1.5 ||
		st.Period.MaxAuthTime != 2.5 || st.PID != r.cmd.Process.Pid || st.SecModPID == 0 || st.Version != "test" || st.AwaySessions != 0 {
		t.Errorf("%+v", st)
	}
	if len(st.Counters["workers"]) < 40 || st.Counters["main"]["connections"] != 1 || st.Counters["secmod"]["logins"] != 3 || st.Gauges["goroutines"] == 0 {
		t.Errorf("counters %v, gauges %v", st.Counters, st.Gauges)
	}
	r.stop()
}

func TestConsoleCookies(t *testing.T) {
	r, c := controlled(t)
	all := ask[control.Cookies](t, c, control.CmdCookies, nil).Cookies
	if len(all) != 3 || all[0].State != control.StateAuthenticated || all[2].State != control.StatePreAuth {
		t.Fatalf("%+v", all)
	}
	if got := ask[control.Cookies](t, c, control.CmdCookies, control.CookiesArgs{Valid: true}).Cookies; len(got) != 2 {
		t.Errorf("valid ones: %+v", got)
	}
	if got := ask[control.Cookies](t, c, control.CmdCookies, control.CookiesArgs{Session: "abcdef2"}).Cookies; len(got) != 1 {
		t.Errorf("one of them: %+v", got)
	}
	if e := refused(t, c, control.CmdTerminate, control.Target{Session: "abc"}, control.Ambiguous); len(e.Candidates) != 2 {
		t.Errorf("candidates %v", e.Candidates)
	}
	refused(t, c, control.CmdTerminate, control.Target{Session: "xyz"}, control.NotFound)
	refused(t, c, control.CmdTerminate, control.Target{User: "nobody"}, control.NotFound)
	refused(t, c, control.CmdTerminate, control.Target{ID: 1}, control.NotFound)
	refused(t, c, control.CmdTerminate, nil, control.BadRequest)
	if got := ask[control.Ended](t, c, control.CmdTerminate, control.Target{Session: "abcdef1"}); !slices.Equal(got.Live, []string{"abcdef1"}) {
		t.Errorf("%+v", got)
	}
	if got := ask[control.Ended](t, c, control.CmdTerminate, control.Target{User: "user1"}); !slices.Equal(got.Sessions, []string{"of-user1"}) || len(got.Live) != 0 {
		t.Errorf("%+v", got)
	}
	r.stop()
}

func TestConsoleOrders(t *testing.T) {
	r, c := controlled(t)
	events := r.ctl()
	if err := events.Listen(control.EventReloaded); err != nil {
		t.Fatal(err)
	}
	if err := c.Call(control.CmdReload, nil, nil); err != nil {
		t.Fatal(err)
	}
	if e, err := events.Next(); err != nil || e.Type != control.EventReloaded {
		t.Fatalf("%+v, %v", e, err)
	}
	if err := c.Call(control.CmdStop, nil, nil); err != nil {
		t.Fatal(err)
	}
	if status := r.wait(); status != 0 {
		t.Errorf("status %d", status)
	}
	if _, err := control.Dial(filepath.Join(r.dir, "ctl")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("after the end: %v", err)
	}
}

func TestConsoleBans(t *testing.T) {
	r, c := controlled(t)
	p := r.dial()
	p.open(testSID(sidBan, 1, 0, false, 1))
	var bans []control.Ban
	eventually(t, "points", func() bool { bans = ask[control.Bans](t, c, control.CmdBans, nil).Bans; return len(bans) == 1 })
	if bans[0].IP != "127.0.0.1" || !bans[0].Banned || time.Until(bans[0].Expires) < time.Minute {
		t.Errorf("%+v", bans)
	}
	refused(t, c, control.CmdUnban, control.UnbanArgs{IP: "nonsense"}, control.BadRequest)
	refused(t, c, control.CmdUnban, control.UnbanArgs{IP: "192.0.2.1"}, control.NotFound)
	if err := c.Call(control.CmdUnban, control.UnbanArgs{IP: "127.0.0.1"}, nil); err != nil {
		t.Fatal(err)
	}
	if got := ask[control.Bans](t, c, control.CmdBans, nil).Bans; len(got) != 0 {
		t.Errorf("after unban: %+v", got)
	}
	r.stop()
}

// A worker that does not answer costs a question its wait and nobody else.
// TestConsoleLimits: what sec-mod says of who is held off, and an order to it.
func TestConsoleLimits(t *testing.T) {
	r, c := controlled(t)
	got := ask[control.Limits](t, c, control.CmdLimits, nil)
	want := control.Limits{More: 5, Limits: []control.Limit{{User: "anna", Until: time.UnixMilli(2000)}, {IP: "2001:db8::/64", Until: time.UnixMilli(1000)}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("- want, + got:\n%s", diff)
	}
	for _, a := range []control.UnlimitArgs{{User: "anna"}, {IP: "2001:db8::/64"}, {IP: "2001:db8::"}} {
		if err := c.Call(control.CmdUnlimit, a, nil); err != nil {
			t.Errorf("%+v: %v", a, err)
		}
	}
	for a, why := range map[control.UnlimitArgs]control.Code{
		{}: control.BadRequest, {User: "anna", IP: "192.0.2.1"}: control.BadRequest, {IP: "nonsense"}: control.BadRequest,
		{User: "bert"}: control.NotFound, {IP: "192.0.2.1"}: control.NotFound,
	} {
		refused(t, c, control.CmdUnlimit, a, why)
	}
	r.stop()
}

func TestConsoleAndDeafWorker(t *testing.T) {
	r, c := controlled(t)
	p := r.dial()
	p.open(testSID(sidGood, 1, 0, false, 1))
	p.ask("stall")
	for range 3 {
		if got := ask[control.Sessions](t, c, control.CmdSessions, nil); len(got.Sessions) != 1 {
			t.Fatalf("%+v", got)
		}
	}
	r.cmd.Process.Kill()
	<-r.exit
}
