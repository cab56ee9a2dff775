package secmod

import (
	"bytes"
	"net/netip"
	"testing"

	"rocserv/internal/ipc"
)

// TestGolden is a login with a tunnel, as doc.go tells it.
func TestGolden(t *testing.T) {
	st := newSite(t, hashOf(t, "anna", "staff,ops", "secret"))
	st.add("route = 10.1.0.0/255.255.0.0", "route = fd00::/8", "dns = 10.1.0.1", "dpd = 60", "max-same-clients = 2",
		"custom-header = X-User: %{U}/%{G}", "predictable-ips = true", "banner = Welcome")
	r := boot(t, st)

	c, id := r.handshaken(home)
	first := authInit(t, c, &ipc.AuthInit{User: "anna"})
	if status(first) != "MSG" || len(first.Sid) != 32 || first.Message != "Please enter your password." || first.PasswordCounter != 0 {
		t.Fatalf("AUTH_INIT: %v", first)
	}
	wrong := authCont(t, c, first.Sid, "guess")
	if status(wrong) != "MSG" || !bytes.Equal(wrong.Sid, first.Sid) || wrong.Message != "Login failed.\nPlease enter your password." {
		t.Fatalf("wrong password: %v", wrong)
	}
	if n := r.bans()[home]; n != 10 {
		t.Errorf("%d points for a wrong password", n)
	}
	ok := authCont(t, c, first.Sid, "secret")
	if status(ok) != "OK" || len(ok.Sid) != 32 || ok.User != "anna" || ok.Group != "staff" {
		t.Fatalf("right password: %v", ok)
	}
	if bytes.Equal(ok.Sid, first.Sid) {
		t.Error("the cookie is the SID of the login")
	}

	rep, conf := r.openSession(ok.Sid, id)
	if !rep.Ok || rep.User != "anna" || rep.Group != "staff" || rep.MaxSameClients != 2 || rep.CookieTimeoutS != 300 || len(rep.SafeId) != 28 {
		t.Fatalf("SECM_SESSION_OPEN: %v", rep)
	}
	if l := rep.Lease; ipc.Prefix(l.Ipv4Network) != netip.MustParsePrefix("10.9.0.0/16") || !l.Predictable || l.Seed != "anna" {
		t.Errorf("lease %v", l)
	}
	if len(conf.Routes) != 2 || conf.Routes[0] != "10.1.0.0/255.255.0.0" || conf.Routes[1] != "fd00::/8" || conf.TunnelAllDns ||
		len(conf.Dns) != 1 || conf.DpdS != 60 || conf.Hostname != "laptop" || conf.Banner != "Welcome" ||
		len(conf.CustomHeaders) != 1 || conf.CustomHeaders[0] != "X-User: anna/staff" {
		t.Errorf("configuration %v", conf)
	}
	for _, n := range []uint64{1000, 3000, 2000} {
		if err := c.Send(ipc.CliStatsT, 0, &ipc.CliStats{BytesUp: n, BytesDown: 2 * n}); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	end := r.closeSession(rep.SafeId, id, ipc.Reason_REASON_DPD_TIMEOUT)
	if end.BytesUp != 3000 || end.BytesDown != 6000 || end.Invalidated || end.ExpiresUnixMs <= r.clock.now().UnixMilli() {
		t.Errorf("SECM_SESSION_CLOSE: %v", end)
	}

	// The client comes back from another network.
	c2, id2 := r.handshaken("2001:db8::1")
	again, _ := r.openSession(ok.Sid, id2)
	if !again.Ok || again.SafeId != rep.SafeId || again.LoginUnixMs != rep.LoginUnixMs {
		t.Fatalf("reopen: %v", again)
	}
	c2.Send(ipc.CliStatsT, 0, &ipc.CliStats{BytesUp: 1, BytesDown: 1})
	c2.Close()
	end = r.closeSession(rep.SafeId, id2, ipc.Reason_REASON_USER)
	if end.BytesUp != 3001 || end.BytesDown != 6001 || !end.Invalidated {
		t.Errorf("the end: %v", end)
	}
	_, id3 := r.handshaken(home)
	if rep, _ := r.openSession(ok.Sid, id3); rep.Ok || rep.Unavailable {
		t.Errorf("a cookie that is gone: %v", rep)
	}
	if n := r.s.counts.violations.Load() + r.s.counts.panics.Load(); n != 0 {
		t.Errorf("%d violations and panics: %s", n, r.log)
	}
}
