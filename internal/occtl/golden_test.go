package occtl

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rocserv/internal/control"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	time.Local = time.UTC
	os.Exit(m.Run())
}

var now = time.Date(2026, 11, 25, 4, 13, 0, 0, time.UTC)

func at(s string) time.Time {
	t, err := time.Parse("2006-01-02 15:04:05", s)
	if err != nil {
		panic(err)
	}
	return t
}

// The sessions are those that Debian's ocserv 1.1.6 had when testdata/debian
// was recorded, and one that is full of what clients may send.
var (
	bob = control.Session{
		ID: 5472, Session: "UvC7xp9P/I/RXlUl1qUj6H4kq08=", User: "bob", State: "connected", Device: "vpns1", MTU: 1472,
		RemoteIP: "10.77.1.12", LocalIP: "10.77.1.1", IPv4: "10.66.0.106", IPv4PtP: "10.66.0.1",
		IPv6: "fd66::7960:92fa:f28e:8849", IPv6PtP: "fd66::1", UserAgent: "Open AnyConnect VPN Agent v9.01-3", Hostname: "vm",
		Connected: at("2026-11-25 04:12:59"), Login: at("2026-11-25 04:12:59"),
		Channel: control.Channel{TLS: "(TLS1.3)-(ECDHE-SECP256R1)-(AES-256-GCM)"},
		Config: control.Config{
			DPD: 60, Keepalive: 300, LimitRX: 64000, LimitTX: 16000, DNS: []string{"8.8.8.8"}, NBNS: []string{}, SplitDNS: []string{"example.com"},
			Routes: []string{"10.0.0.0/255.0.0.0", "fd00::/8"}, NoRoutes: []string{"10.1.0.0/255.255.0.0"}, IRoutes: []string{},
			RestrictedToPorts: []string{"tcp(443)", "udp(53)", "icmp()"},
		},
	}
	alice = func() control.Session {
		a := bob
		a.ID, a.Session, a.User, a.Device, a.MTU = 5427, "7GQshj/sLq8BlzElBxdXfFKA9UU=", "alice", "vpns0", 1434
		a.RemoteIP, a.IPv4, a.IPv6 = "10.77.1.11", "10.66.0.50", "fd66::9a7c:c09f:b76e:58ef"
		a.Channel.DTLS = "(DTLS1.2)-(PSK)-(AES-256-GCM)"
		return a
	}()
	evil = control.Session{
		ID: 99, Session: "abc", User: "e\"v\\il\x1b[2J", Group: "a,b", Vhost: "vpn.example", State: "connected", Device: "vpns2",
		RemoteIP: "2001:db8::1", LocalIP: "2001:db8::2", IPv6: "fd66::9", UserAgent: "<agent>\r\n\tX: y", Hostname: "ünï\x00code",
		Connected: at("2026-11-20 04:12:59"), Login: at("2026-11-19 00:00:00"),
		Channel: control.Channel{DTLS: "odd", CSTPCompression: "oc-lz4", DTLSCompression: "lzs"},
		Traffic: control.Traffic{RX: 123456789, TX: 999, TotalRX: 1e12, TotalTX: 1000},
		Config:  control.Config{IRoutes: []string{"192.168.5.0/255.255.255.0", "fd05::/64"}, RestrictedToRoutes: true},
	}
)

func cookie(s control.Session) control.Cookie {
	return control.Cookie{
		Session: s.Session, State: "authenticated", User: s.User, Group: s.Group, Vhost: s.Vhost, UserAgent: s.UserAgent,
		RemoteIP: s.RemoteIP, Created: s.Connected, InUse: 1, Opened: true,
	}
}

// fake is a server that knows these sessions.
func fake(t *testing.T, sessions ...control.Session) string {
	t.Helper()
	find := func(g control.Target) (found []control.Session) {
		for _, s := range sessions {
			if g.User == "" && g.ID == 0 && g.Session == "" || s.User == g.User || s.ID == g.ID {
				found = append(found, s)
			}
		}
		return found
	}
	end := func(_ context.Context, g control.Target) (any, error) {
		if g.Session == "a" {
			e := control.Errorf(control.Ambiguous, "session 'a' is ambiguous")
			e.Candidates = []string{"abc", "abd"}
			return nil, e
		}
		found := find(g)
		if len(found) == 0 && g.Session == "" {
			return nil, control.Errorf(control.NotFound, "user or ID not found")
		}
		return control.Ended{Sessions: []string{"x"}, Live: []string{"7GQshj/sLq8B"}}, nil
	}
	name, _ := serve(t, map[string]control.Command{
		control.CmdSessions: control.With(func(_ context.Context, g control.Target) (any, error) {
			return control.Sessions{Sessions: find(g)}, nil
		}),
		control.CmdCookies: control.With(func(_ context.Context, a control.CookiesArgs) (any, error) {
			var all control.Cookies
			for _, s := range sessions {
				if strings.HasPrefix(s.Session, a.Session) {
					all.Cookies = append(all.Cookies, cookie(s))
				}
			}
			if !a.Valid && a.Session == "" && len(sessions) > 0 {
				all.Cookies = append(all.Cookies, control.Cookie{State: "pre-auth", RemoteIP: "192.0.2.1", Created: now, Expires: now.Add(time.Hour)})
			}
			return all, nil
		}),
		control.CmdBans: control.With(func(context.Context, struct{}) (any, error) {
			if len(sessions) == 0 {
				return control.Bans{}, nil
			}
			return control.Bans{Bans: []control.Ban{
				{IP: "192.0.2.1", Score: 100, Banned: true, Expires: now.Add(90 * time.Second)}, {IP: "2001:db8::/64", Score: 10},
			}}, nil
		}),
		control.CmdUnban: control.With(func(_ context.Context, a control.UnbanArgs) (any, error) {
			if a.IP != "192.0.2.1" {
				return nil, control.Errorf(control.NotFound, "no")
			}
			return nil, nil
		}),
		control.CmdLimits: control.With(func(context.Context, struct{}) (any, error) {
			if len(sessions) == 0 {
				return control.Limits{}, nil
			}
			return control.Limits{More: 7, Limits: []control.Limit{
				{User: "alice", Until: now.Add(time.Hour)}, {IP: "2001:db8::/64", Until: now.Add(90 * time.Second)}, {User: "e\x1b[2J", IP: "192.0.2.1", Until: now.Add(time.Second)},
			}}, nil
		}),
		control.CmdUnlimit: control.With(func(_ context.Context, a control.UnlimitArgs) (any, error) {
			if a != (control.UnlimitArgs{User: "alice"}) && a != (control.UnlimitArgs{IP: "192.0.2.1"}) {
				return nil, control.Errorf(control.NotFound, "no")
			}
			return nil, nil
		}),
		control.CmdStatus: control.With(func(context.Context, struct{}) (any, error) {
			return control.Status{
				Version: "test", PID: 5423, SecModPID: 5424, Started: at("2026-11-25 04:12:59"), ActiveSessions: 2, Banned: 1,
				Period: control.Period{Since: at("2026-11-25 04:12:59"), AvgAuthTime: 1.5, MaxSessionTime: 7300, MinMTU: 1280, MaxMTU: 1472, RX: 1500},
				Total:  control.Totals{RX: 1 << 40}, Counters: map[string]map[string]uint64{"main": {"violations": 1}}, Gauges: map[string]uint64{"goroutines": 12},
			}, nil
		}),
		control.CmdDisconnect: control.With(func(ctx context.Context, g control.Target) (any, error) {
			r, err := end(ctx, g)
			if e, ok := r.(control.Ended); ok {
				e.Live = nil
				return e, err
			}
			return r, err
		}),
		control.CmdTerminate: control.With(end),
		control.CmdWhy: control.With(func(_ context.Context, a control.WhyArgs) (any, error) {
			if len(find(control.Target{User: a.User})) == 0 {
				return nil, control.Errorf(control.NotFound, "user '%s' has no tunnel", a.User)
			}
			return why(a), nil
		}),
		control.CmdReload: control.With(func(context.Context, struct{}) (any, error) { return nil, nil }),
		control.CmdStop:   control.With(func(context.Context, struct{}) (any, error) { return nil, nil }),
	})
	return name
}

// why is an answer with everything in it that can be.
func why(a control.WhyArgs) control.Why {
	ways := []control.WhyWay{{Name: "corp", Carries: true, Error: "way corp: no answer for 5s\x1b"}, {Name: "direct", Up: true, Carries: true}, {Name: "web", Up: true}}
	return control.Why{User: a.User, ID: 5427, Host: a.Host, Port: a.Port, Proto: "tcp", Addresses: []control.WhyAddress{
		{Address: "192.0.2.7", Allowed: true, Rule: "allow *.example.com tcp(443)", Line: "corp,direct,web for any", Name: "www.example.com", Ways: ways,
			Dial: &control.WhyDial{Works: true, Seconds: 0.0123}},
		{Address: "2001:db8::7", Allowed: true, Ways: ways[1:2], Dial: &control.WhyDial{Error: "egress: connect to [2001:db8::7]:443: connection refused", Seconds: 1.5}},
		{Address: "10.0.0.7", Denied: "private address"},
		{Address: "10.0.0.8", Denied: "egress-deny", Rule: "deny 10.0.0.0/8"},
	}}
}

// serve is a server of these commands, at a socket.
func serve(t *testing.T, commands map[string]control.Command) (name string, s *control.Server) {
	t.Helper()
	s = control.NewServer(commands, slog.New(slog.DiscardHandler))
	name = filepath.Join(t.TempDir(), "s")
	l, _, err := control.Listen([]string{name})
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	t.Cleanup(s.Close)
	return name, s
}

type result struct {
	out, err string
	status   int
}

func occtl(name, stdin string, args ...string) result {
	var out, errs bytes.Buffer
	status := Run(append([]string{"-s", name}, args...), IO{
		In: strings.NewReader(stdin), Out: &out, Err: &errs, Version: "test", Now: func() time.Time { return now },
	})
	return result{out.String(), errs.String(), status}
}

// golden are the commands whose output is kept, with their exit status.
var golden = []struct {
	name, line string
	status     int
}{
	{"status", "show status", 0},
	{"users", "show users", 0},
	{"user", "show user alice", 0},
	{"user-evil", "show user " + evil.User, 0},
	{"user-none", "show user nobody", 2},
	{"id", "show id 5472", 0},
	{"id-none", "show id x", 2},
	{"sessions-all", "show sessions all", 0},
	{"sessions-valid", "show sessions valid", 0},
	{"cookies-all", "show cookies all", 0},
	{"cookies-valid", "show cookies valid", 0},
	{"session", "show session 7GQshj", 0},
	{"session-none", "show session zzz", 0},
	{"bans", "show ip bans", 0},
	{"ban-points", "show ip ban points", 0},
	{"limits", "show limits", 0},
	{"iroutes", "show iroutes", 0},
	{"why", "why alice www.example.com:443 --dial", 0},
}

func TestGolden(t *testing.T) {
	full, empty := fake(t, bob, alice, evil), fake(t)
	for _, row := range golden {
		for _, form := range []string{"text", "json"} {
			t.Run(row.name+"/"+form, func(t *testing.T) {
				args := strings.SplitN(row.line, " ", 3)
				if form == "json" {
					args = append([]string{"-j"}, args...)
				}
				got := occtl(full, "", args...)
				if got.status != row.status {
					t.Errorf("status %d, want %d: %s", got.status, row.status, got.err)
				}
				compare(t, filepath.Join("testdata", row.name+"."+form), got.out)
				if form == "json" {
					checkSchema(t, row.name, got.out)
				}
				if i := strings.IndexFunc(got.out, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' }); i >= 0 {
					t.Errorf("a control character reaches the terminal: %q", got.out[i:])
				}
				// Of a server where nobody is, of whom why can say nothing.
				if got := occtl(empty, "", args...); form == "json" && row.name != "why" && !json.Valid([]byte(got.out)) {
					t.Errorf("with nobody connected: %s", got.out)
				}
			})
		}
	}
}

func compare(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got\n%s\nwant\n%s", file, got, want)
	}
}

// Orders, and what they say on both streams.
func TestOrders(t *testing.T) {
	name := fake(t, bob, alice, evil)
	const live = "warning: session '7GQshj' has a live connection, which is not dropped; use 'disconnect' for that\n"
	for line, want := range map[string]result{
		"reload":                   {"Server scheduled to reload\n", "", 0},
		"stop now":                 {"Server scheduled to stop\n", "", 0},
		"stop":                     {"Server scheduled to stop\n", "", 0},
		"disconnect user bob":      {"user 'bob' was disconnected\n", "", 0},
		"disconnect user nobody":   {"", "could not disconnect user 'nobody'\n", 1},
		"disconnect id 5472":       {"connection ID '5472' was disconnected\n", "", 0},
		"disconnect id 1":          {"", "could not disconnect ID '1'\n", 1},
		"disconnect id x":          {"", "could not disconnect ID 'x'\n", 1},
		"terminate user bob":       {"user 'bob' was terminated (session invalidated)\n", live, 0},
		"terminate id 5472":        {"connection ID '5472' was terminated (session invalidated)\n", live, 0},
		"terminate id 1":           {"", "could not terminate ID '1'\n", 1},
		"terminate session UvC7xp": {"session 'UvC7xp' was terminated\n", live, 0},
		"terminate session a":      {"", "session 'a' is ambiguous; it can be:\n\tabc\n\tabd\n", 1},
		"unban ip 192.0.2.1":       {"IP '192.0.2.1' was unbanned\n", "", 0},
		"unban ip 192.0.2.2":       {"", "could not unban IP '192.0.2.2'\n", 1},
		"unlimit user alice":       {"user 'alice' is no longer limited\n", "", 0},
		"unlimit user bob":         {"", "could not lift a limit of user 'bob'\n", 1},
		"unlimit ip 192.0.2.1":     {"IP '192.0.2.1' is no longer limited\n", "", 0},
		"unlimit ip x":             {"", "could not lift a limit of IP 'x'\n", 1},
		"nonsense":                 {"", "unknown command: nonsense\nuse help or '?' to get a list of the available commands\n", 1},
		"show nonsense":            {"", "unknown command: show nonsense\nuse help or '?' to get a list of the available commands\n", 1},
	} {
		if got := occtl(name, "", strings.Fields(line)...); got != want {
			t.Errorf("%s:\n got %+v\nwant %+v", line, got, want)
		}
	}
	if got := occtl(name, "", "show"); got.status != 1 || !strings.Contains(got.out, " show cookies all\tAlias for show sessions all\n") || strings.Contains(got.out, "reload") {
		t.Errorf("show: %+v", got)
	}
	if got := occtl(name, "", "disconnect", "user"); got.status != 1 || !strings.Contains(got.out, "disconnect user [NAME]\t") {
		t.Errorf("disconnect user: %+v", got)
	}
	if got := occtl(name, "", "-x"); got.status != 1 {
		t.Errorf("-x: %+v", got)
	}
	if got := occtl(name, "", "--version"); got.status != 0 || !strings.Contains(got.out, "(occtl)") {
		t.Errorf("--version: %+v", got)
	}
}

func TestNoServer(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none")
	why := "error connecting to ocserv socket '" + missing + "': no such file or directory\n"
	if got, want := occtl(missing, "", "show", "users"), (result{"", why, 1}); got != want {
		t.Errorf("%+v", got)
	}
	if got := occtl(missing, "", "show", "status"); got.status != 1 || !strings.Contains(got.out, "Status: offline") || got.err != why {
		t.Errorf("%+v", got)
	}
	if got := occtl(missing, "", "-j", "show", "status"); got.status != 1 || !json.Valid([]byte(got.out)) {
		t.Errorf("%+v", got)
	}
}

// Lines from standard input are commands, and the last one's status counts.
func TestLines(t *testing.T) {
	name := fake(t, bob)
	got := occtl(name, "reload\n\n  disconnect   user bob \nshow user nobody\nexit\nstop now\n")
	want := result{"Server scheduled to reload\nuser 'bob' was disconnected\n", "user or ID not found\n", 2}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestCompletion(t *testing.T) {
	s := &session{IO: IO{Out: io.Discard, Err: io.Discard}, places: []string{fake(t, bob, alice)}}
	for line, want := range map[string]string{
		"":                    "",
		"dis":                 "disconnect ",
		"disconnect ":         "disconnect ",
		"disconnect u":        "disconnect user ",
		"disconnect user ":    "disconnect user ",
		"disconnect user b":   "disconnect user bob ",
		"show id 5":           "show id 54",
		"show session U":      "show session UvC7xp ",
		"show ip ban":         "show ip ban",
		"show ip ban ":        "show ip ban points ",
		"unban ip 1":          "unban ip 192.0.2.1 ",
		"unlimit user a":      "unlimit user alice ",
		"unlimit ip 1":        "unlimit ip 192.0.2.1 ",
		"nonsense":            "nonsense",
		"show sessions all x": "show sessions all x",
	} {
		if got, _ := s.complete(line); got != want {
			t.Errorf("%q becomes %q, want %q", line, got, want)
		}
	}
	if _, options := s.complete("disconnect user "); strings.Join(options, " ") != "alice bob" {
		t.Errorf("options %q", options)
	}
}

func TestInterval(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "    0s", time.Minute: "   60s", 61 * time.Second: " 1m:01s", time.Hour: " 1h:00m", 47*time.Hour + 59*time.Minute: "47h:59m",
		48 * time.Hour: " 2days", -1: "   ?   ",
	} {
		if got := interval(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0 bytes", 999: "999 bytes", 1000: "1.0 kB", 1500000: "1.5 MB", 1e12: "1000.0 GB"} {
		if got := human(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
