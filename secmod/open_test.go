package secmod

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/config"
	"rocserv/internal/ipc"
	"rocserv/internal/session"
)

// perUser makes a site with folders for users' and groups' files.
func perUser(t *testing.T) *site {
	st := newSite(t, "anna:staff:", "berta:staff,ops:", "..:*:", "a/b:*:", ".hidden:*:", "carl:*:")
	for _, dir := range []string{"u", "g"} {
		if err := os.Mkdir(st.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	st.add("route = 10.1.0.0/16", "dpd = 90", "dns = 10.0.0.1",
		"config-per-user = "+st.path("u"), "config-per-group = "+st.path("g"))
	return st
}

// tunnelOf logs in and opens the session; the reply is ok only if that succeeded.
func (r *rig) tunnelOf(user, group string) (*ipc.SecmSessionReply, *ipc.SessionConfig) {
	r.t.Helper()
	c, id := r.handshaken(home)
	rep := authInit(r.t, c, &ipc.AuthInit{User: user, Group: group})
	if status(rep) != "OK" {
		r.t.Fatalf("login of %q: %v", user, rep)
	}
	return r.openSession(rep.Sid, id)
}

func TestMerge(t *testing.T) {
	st := perUser(t)
	st.write("g/staff", "dpd = 30\nroute = 10.2.0.0/16\nmtu = 1300\n")
	st.write("u/anna", "route = 10.3.0.0/16\nroute = 10.4.0.0/16\nexplicit-ipv4 = 10.9.0.77\n")
	r := boot(t, st)
	for _, tt := range []struct {
		user, group string
		routes      string
		dpd, mtu    uint32
	}{
		{"anna", "", "[10.3.0.0/255.255.0.0 10.4.0.0/255.255.0.0]", 30, 1300},
		{"berta", "staff", "[10.2.0.0/255.255.0.0]", 30, 1300},
		{"berta", "ops", "[10.1.0.0/255.255.0.0]", 90, 0},
		{"carl", "", "[10.1.0.0/255.255.0.0]", 90, 0},
	} {
		rep, conf := r.tunnelOf(tt.user, tt.group)
		if !rep.Ok || fmt.Sprint(conf.Routes) != tt.routes || conf.DpdS != tt.dpd || conf.Mtu != tt.mtu {
			t.Errorf("%s of %q: %v %v", tt.user, tt.group, rep, conf)
		}
		if got := ipc.Addr(rep.GetLease().GetExplicitIpv4()); (tt.user == "anna") != (got == netip.MustParseAddr("10.9.0.77")) {
			t.Errorf("%s: explicit address %v", tt.user, got)
		}
	}
	// Files are read at every open.
	st.write("u/anna", "route = 10.5.0.0/16\n")
	if _, conf := r.tunnelOf("anna", ""); fmt.Sprint(conf.Routes) != "[10.5.0.0/255.255.0.0]" {
		t.Errorf("after a change: %v", conf.Routes)
	}
}

func TestAppendRoutes(t *testing.T) {
	st := perUser(t)
	st.add("append-routes = true")
	st.write("u/anna", "route = 10.3.0.0/16\n")
	r := boot(t, st)
	if _, conf := r.tunnelOf("anna", ""); fmt.Sprint(conf.Routes) != "[10.3.0.0/255.255.0.0 10.1.0.0/255.255.0.0]" {
		t.Errorf("routes %v", conf.Routes)
	}
}

func TestDefaultFiles(t *testing.T) {
	st := perUser(t)
	st.write("duser", "dpd = 11\n")
	st.write("dgroup", "mtu = 1400\n")
	st.add("default-user-config = "+st.path("duser"), "default-group-config = "+st.path("dgroup"))
	st.write("u/anna", "dpd = 12\n")
	r := boot(t, st)
	for _, tt := range []struct {
		user     string
		dpd, mtu uint32
	}{{"anna", 12, 1400}, {"berta", 11, 1400}, {"carl", 11, 0}} {
		if _, conf := r.tunnelOf(tt.user, ""); conf.DpdS != tt.dpd || conf.Mtu != tt.mtu {
			t.Errorf("%s: %v", tt.user, conf)
		}
	}
}

// TestUnsafeFiles: whatever is odd about a user's file refuses the session.
func TestUnsafeFiles(t *testing.T) {
	for _, tt := range []struct {
		name, user string
		prep       func(st *site)
	}{
		{"malformed", "anna", func(st *site) { st.write("u/anna", "route = not a route\n") }},
		{"malformed group", "anna", func(st *site) { st.write("g/staff", "mtu\n") }},
		{"symbolic link", "anna", func(st *site) { os.Symlink(st.write("elsewhere", "dpd = 5\n"), st.path("u/anna")) }},
		{"dangling link", "anna", func(st *site) { os.Symlink("nothing", st.path("u/anna")) }},
		{"link within the folder", "anna", func(st *site) { st.write("u/x", "dpd = 5\n"); os.Symlink("x", st.path("u/anna")) }},
		{"folder", "anna", func(st *site) { os.Mkdir(st.path("u/anna"), 0o700) }},
		{"fifo", "anna", func(st *site) { unix.Mkfifo(st.path("u/anna"), 0o600) }},
		{"too large", "anna", func(st *site) { st.write("u/anna", strings.Repeat("#\n", config.MaxUserFile)) }},
		{"the folder is gone", "anna", func(st *site) { os.RemoveAll(st.path("u")) }},
		{"name ..", "..", func(*site) {}},
		{"name with a slash", "a/b", func(*site) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st := perUser(t)
			r := boot(t, st)
			tt.prep(st)
			rep, _ := r.tunnelOf(tt.user, "")
			if rep.Ok || !rep.Unavailable || rep.Reason != "Server configuration error" {
				t.Errorf("%v", rep)
			}
			if n := r.s.sessions.Counts(); n.Unopened != 1 {
				t.Errorf("the session is entered as open: %+v", n)
			}
		})
	}
}

func TestHiddenNameIsAName(t *testing.T) {
	st := perUser(t)
	st.write("u/.hidden", "dpd = 7\n")
	r := boot(t, st)
	if rep, conf := r.tunnelOf(".hidden", ""); !rep.Ok || conf.DpdS != 7 {
		t.Errorf("%v", rep)
	}
}

func TestOpenRefusals(t *testing.T) {
	st := newSite(t, "anna:*:", hashOf(t, "berta", "*", "secret"))
	st.add("session-timeout = 1000")
	r := boot(t, st)
	r.reconfigured(func(v *vhost) {
		c := *v.Vhost
		c.User.DenyRoaming = true
		v.Vhost = &c
	})
	anna := func() ([]byte, *ipc.Conn, uint64) {
		c, id := r.handshaken(home)
		return r.login(c, "anna", ""), c, id
	}
	for _, tt := range []struct {
		name string
		do   func() *ipc.SecmSessionReply
		ok   bool
	}{
		{"good", func() *ipc.SecmSessionReply { s, _, id := anna(); rep, _ := r.openSession(s, id); return rep }, true},
		{"guessed", func() *ipc.SecmSessionReply { _, _, id := anna(); rep, _ := r.openSession(someSID, id); return rep }, false},
		{"login under way", func() *ipc.SecmSessionReply {
			c, id := r.handshaken(home)
			rep, _ := r.openSession(authInit(t, c, &ipc.AuthInit{User: "berta"}).Sid, id)
			return rep
		}, false},
		{"no such worker", func() *ipc.SecmSessionReply { s, _, _ := anna(); rep, _ := r.openSession(s, 1<<40); return rep }, false},
		{"worker 0", func() *ipc.SecmSessionReply { s, _, _ := anna(); rep, _ := r.openSession(s, 0); return rep }, false},
		{"worker gone", func() *ipc.SecmSessionReply {
			s, c, id := anna()
			c.Close()
			eventually(t, "the worker's end", func() bool { return r.s.worker(id) == nil })
			rep, _ := r.openSession(s, id)
			return rep
		}, false},
		{"worker with a session", func() *ipc.SecmSessionReply {
			s, _, id := anna()
			r.openSession(s, id)
			rep, _ := r.openSession(s, id)
			return rep
		}, false},
		{"worker with another session", func() *ipc.SecmSessionReply {
			s, _, id := anna()
			s2, _, _ := anna()
			r.openSession(s, id)
			rep, _ := r.openSession(s2, id)
			return rep
		}, false},
		{"from another address", func() *ipc.SecmSessionReply {
			s, _, _ := anna()
			_, id := r.handshaken("192.0.2.99")
			rep, _ := r.openSession(s, id)
			return rep
		}, false},
		{"from the same address", func() *ipc.SecmSessionReply {
			s, _, _ := anna()
			_, id := r.handshaken(home)
			rep, _ := r.openSession(s, id)
			return rep
		}, true},
		{"from the same address, mapped", func() *ipc.SecmSessionReply {
			s, _, _ := anna()
			_, id := r.handshaken("::ffff:" + home)
			rep, _ := r.openSession(s, id)
			return rep
		}, true},
		{"a worker without a handshake", func() *ipc.SecmSessionReply {
			s, _, _ := anna()
			_, id := r.worker(home)
			rep, _ := r.openSession(s, id)
			return rep
		}, true},
		{"expired", func() *ipc.SecmSessionReply {
			s, _, id := anna()
			r.clock.forward(316 * time.Second)
			rep, _ := r.openSession(s, id)
			return rep
		}, false},
		{"session-timeout", func() *ipc.SecmSessionReply {
			s, _, id := anna()
			r.openSession(s, id)
			r.clock.forward(1000 * time.Second)
			_, id2 := r.handshaken(home)
			rep, _ := r.openSession(s, id2)
			return rep
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rep := tt.do()
			if rep.Ok != tt.ok || rep.Unavailable || (rep.Reason == "") != rep.Ok {
				t.Errorf("%v", rep)
			}
		})
	}
}

// TestCloseReasons is the mapping of ocserv's reasons to the cookie's fate.
func TestCloseReasons(t *testing.T) {
	r := boot(t, newSite(t, "anna:*:"))
	for why := range ipc.Reason_name {
		c, id := r.handshaken(home)
		rep, _ := r.openSession(r.login(c, "anna", ""), id)
		c.Close()
		got := r.closeSession(rep.SafeId, id, ipc.Reason(why))
		want := why == int32(ipc.Reason_REASON_USER) || why == int32(ipc.Reason_REASON_SERVER) || why == int32(ipc.Reason_REASON_SESSION_TIMEOUT)
		if got.Invalidated != want || (got.ExpiresUnixMs == 0) != want {
			t.Errorf("%v: %v", ipc.Reason(why), got)
		}
	}
	if got := r.closeSession("no such session", 1, 0); !got.Invalidated {
		t.Errorf("unknown session: %v", got)
	}
}

// TestLastStatistics: what a worker sent before it ended counts, though main
// is faster; and a worker that does not end does not hold up main.
func TestLastStatistics(t *testing.T) {
	r := boot(t, newSite(t, "anna:*:"))
	for range 50 {
		c, id := r.handshaken(home)
		rep, _ := r.openSession(r.login(c, "anna", ""), id)
		for n := range uint64(20) {
			c.Send(ipc.CliStatsT, 0, &ipc.CliStats{BytesUp: n + 1})
		}
		c.Send(ipc.CliStatsT, 0, &ipc.CliStats{BytesUp: 77, Final: true})
		c.Close()
		if got := r.closeSession(rep.SafeId, id, ipc.Reason_REASON_USER); got.BytesUp != 77 {
			t.Fatalf("%v", got)
		}
	}
	c, id := r.handshaken(home)
	rep, _ := r.openSession(r.login(c, "anna", ""), id)
	if got := r.closeSession(rep.SafeId, id, ipc.Reason_REASON_USER); !got.Invalidated {
		t.Errorf("%v", got)
	}
	if !gone(c) {
		t.Error("a worker that main said is gone still has a channel")
	}
}

func TestEnded(t *testing.T) {
	r := boot(t, newSite(t, "anna:*:"))
	want := map[string]bool{}
	for range 3 {
		c, id := r.handshaken(home)
		rep, _ := r.openSession(r.login(c, "anna", ""), id)
		c.Close()
		r.closeSession(rep.SafeId, id, ipc.Reason_REASON_CONNECTION_LOST)
		want[rep.SafeId] = true
	}
	c, _ := r.handshaken(home)
	r.login(c, "anna", "") // never opened: main knows nothing of it
	r.s.sweep()
	r.clock.forward(316 * time.Second)
	r.s.sweep()
	rec := <-r.notes
	m := new(ipc.SecmEnded)
	if err := rec.Decode(m); rec.Type != ipc.SecmEndedT || err != nil || len(m.SafeIds) != len(want) {
		t.Fatalf("%v %v %v", rec.Type, m, err)
	}
	for _, id := range m.SafeIds {
		if !want[id] {
			t.Errorf("%q ended", id)
		}
	}
	if n := r.s.sessions.Counts(); n != (session.Counts{}) {
		t.Errorf("left: %+v", n)
	}
}

func TestClientName(t *testing.T) {
	for in, want := range map[string]string{
		"laptop": "laptop", "": "", "a\r\nX-Evil: 1": "aX-Evil: 1", "a\x00b\x7f": "ab", "bad\xff": "bad",
		strings.Repeat("x", 100): strings.Repeat("x", 64), strings.Repeat("é", 40): strings.Repeat("é", 32),
	} {
		if got := clientName(in); got != want {
			t.Errorf("clientName(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestSeconds(t *testing.T) {
	for d, want := range map[time.Duration]uint32{0: 0, 1: 1, time.Second: 1, 1500 * time.Millisecond: 2, 48 * time.Hour: 172800} {
		if got := seconds(d); got != want {
			t.Errorf("seconds(%v) = %d, want %d", d, got, want)
		}
	}
}

// TestHostnameOfTheFile: what a user's file says beats what his client says.
func TestHostnameOfTheFile(t *testing.T) {
	st := perUser(t)
	st.write("u/anna", "hostname = desk\n")
	r := boot(t, st)
	if _, conf := r.tunnelOf("anna", ""); conf.Hostname != "desk" {
		t.Errorf("hostname %q", conf.Hostname)
	}
	if _, conf := r.tunnelOf("berta", ""); conf.Hostname != "laptop" {
		t.Errorf("hostname %q", conf.Hostname)
	}
}

// TestExposeIRoutes: who may reach other clients gets routes to the networks
// behind them, but for his own, and only beside routes.
func TestExposeIRoutes(t *testing.T) {
	st := perUser(t)
	st.add("expose-iroutes = true", "client-to-client = true")
	st.write("u/anna", "iroute = 192.168.1.0/24\niroute = 10.1.0.0/16\n")
	st.write("u/berta", "iroute = 192.168.2.0/24\niroute = fd02::/64\n")
	st.write("u/carl", "client-to-client = false\n")
	st.write("u/broken", "iroute = nonsense\n")
	r := boot(t, st)
	for user, want := range map[string][]string{
		"anna":  {"10.1.0.0/255.255.0.0", "192.168.2.0/255.255.255.0", "fd02::/64"},
		"berta": {"10.1.0.0/255.255.0.0", "192.168.1.0/255.255.255.0"},
		"carl":  {"10.1.0.0/255.255.0.0"},
	} {
		if rep, conf := r.tunnelOf(user, ""); !rep.Ok || !slices.Equal(conf.Routes, want) {
			t.Errorf("%s: %v, %q", user, rep.Reason, conf.Routes)
		}
	}
	st.write("u/anna", "route = default\n")
	if _, conf := r.tunnelOf("anna", ""); len(conf.Routes) > 0 {
		t.Errorf("a default route became %q", conf.Routes)
	}
}

// TestSessionConfigIsComplete: every field that a configuration can set arrives.
func TestSessionConfigIsComplete(t *testing.T) {
	st := newSite(t, "anna:*:")
	st.conf[5] = "cookie-timeout = 301"
	st.add("route = 10.0.0.0/8", "no-route = 10.1.0.0/16", "dns = 10.0.0.1", "nbns = 10.0.0.2", "split-dns = example.org",
		"default-domain = example.com", "tunnel-all-dns = true", "mtu = 1380", "dpd = 1", "mobile-dpd = 2", "keepalive = 3",
		"rekey-time = 4", "rekey-method = new-tunnel", "idle-timeout = 5", "mobile-idle-timeout = 6", "session-timeout = 7",
		"stats-report-time = 20", "switch-to-tcp-timeout = 9", "banner = Hi", "no-udp = true", "proxy-url = http://p/%{U}",
		"custom-header = A: %{G}.", "client-bypass-protocol = true", "listen-host-is-dyndns = true", "rx-data-per-sec = 10000", "tx-data-per-sec = 20000", "net-priority = 3",
		"try-mtu-discovery = true", "output-buffer = 12", "egress-profile = internet", "nat-filtering = full-cone", "limit-new-flows = 7", "client-to-client = true", "egress-allow-unsafe = 127.0.0.1/32")
	r := boot(t, st)
	r.reconfigured(func(v *vhost) {
		c := *v.Vhost
		c.User.RestrictToRoutes, c.User.PortsDeny, c.User.Ports = true, true, []config.Port{{Proto: "tcp", Port: 443}}
		c.User.IRoutes = []netip.Prefix{netip.MustParsePrefix("192.168.7.0/24")}
		v.Vhost = &c
	})
	_, conf := r.tunnelOf("anna", "")
	m := conf.ProtoReflect()
	for i := range m.Descriptor().Fields().Len() {
		if f := m.Descriptor().Fields().Get(i); !m.Has(f) {
			t.Errorf("%s is not set", f.Name())
		}
	}
	if l := conf.Limits; l.TcpFlows != 2048 || l.UdpFlows != 1024 || l.IcmpFlows != 64 || l.Dials != 256 || l.BufferBytes != 64<<20 || l.NewFlowsPerS != 7 {
		t.Errorf("limits %v", l)
	}
	if conf.ProxyUrl != "http://p/anna" || conf.CustomHeaders[0] != "A: ." || !bytes.Equal(conf.Egress.AllowUnsafe[0], ipc.PutPrefix(netip.MustParsePrefix("127.0.0.1/32"))) {
		t.Errorf("%v", conf)
	}
}
