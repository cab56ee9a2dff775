package quickstart

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rocserv/internal/config"
	"rocserv/internal/ocpasswd"
)

// testHost is a machine with two addresses, and a person named kim.
func testHost(env map[string]string) *host {
	if env == nil {
		env = map[string]string{"USER": "kim"}
	}
	return &host{
		env: func(k string) string { return env[k] }, name: "box.example",
		addrs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fe80::1/64"),
			netip.MustParsePrefix("2001:db8::2/64"), netip.MustParsePrefix("192.0.2.2/24")},
		firstPort: 1024, now: time.Now, intn: func(n int) int { return n / 2 },
	}
}

// start is one start, with what it printed.
func start(t *testing.T, o Options, h *host) string {
	t.Helper()
	var out bytes.Buffer
	if err := makeState(o, h, &out); err != nil {
		t.Fatalf("%v\nafter\n%s", err, out.String())
	}
	return out.String()
}

func files(t *testing.T, o Options) Files {
	t.Helper()
	f, err := Paths(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func parsed(t *testing.T, f Files) *config.Config {
	t.Helper()
	c, err := config.Parse(f.Config, []byte(content(t, f.Config)), config.SecMod)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var passwordLine = regexp.MustCompile(`(?m)^  password  ([0-9a-z-]+)$`)

// login returns the printed password, or "".
func login(out string) string {
	if m := passwordLine.FindStringSubmatch(out); m != nil {
		return m[1]
	}
	return ""
}

func TestFirstStart(t *testing.T) {
	o := Options{StateDir: filepath.Join(t.TempDir(), "deep", "state")}
	f := files(t, o)
	h := testHost(nil)
	out := start(t, o, h)

	c := parsed(t, f)
	if len(c.Warnings) > 0 {
		t.Errorf("the configuration has warnings: %v", c.Warnings)
	}
	v := c.Vhosts[0]
	if c.Global.TCPPort != 8443 || c.Global.UDPPort != 8443 || len(c.Global.Listen) != 0 || c.Vhosts[0].User.EgressInternet ||
		v.Keys[0] != (config.KeyPair{Cert: f.Cert, Key: f.Key}) || v.Auth[0].Options["passwd"] != f.Users || c.Global.SocketFile != f.Run+"/rocserv" {
		t.Errorf("%+v %+v", c.Global, v)
	}
	if p := v.User.IPv4Network; p.Bits() != 24 || p.Addr().As4()[0] != 10 {
		t.Errorf("IPv4 pool %v", p)
	}
	if p := v.User.IPv6Network; p.Bits() != 64 || p.Addr().As16()[0] != 0xfd {
		t.Errorf("IPv6 pool %v", p)
	}

	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"localhost", "box.example", "127.0.0.1", "::1", "192.0.2.2", "2001:db8::2"} {
		if err := pair.Leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if pair.Leaf.VerifyHostname("fe80::1") == nil || time.Until(pair.Leaf.NotAfter) < 9*365*24*time.Hour || pair.Leaf.NotBefore.After(time.Now()) {
		t.Errorf("certificate from %v to %v for %v", pair.Leaf.NotBefore, pair.Leaf.NotAfter, pair.Leaf.IPAddresses)
	}

	password := login(out)
	users, err := ocpasswd.Parse([]byte(content(t, f.Users)))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := users.Check("kim", []byte(password)); !ok || err != nil || len(password) != 19 {
		t.Errorf("the printed password %q is not kim's: %v", password, err)
	}
	for _, line := range []string{
		"  sudo openconnect --user=kim --servercert=" + pin(pair.Leaf) + " 192.0.2.2:8443\n", "  user      kim\n",
		"  rocserv passwd -c " + f.Users + " kim\n", "was made in " + f.Dir + "\n",
	} {
		if !strings.Contains(out, line) {
			t.Errorf("%q is missing in\n%s", line, out)
		}
	}

	for path, want := range map[string]fs.FileMode{f.Dir: 0o700, f.Run: 0o700, f.Config: 0o600, f.Key: 0o600, f.Cert: 0o600, f.Users: 0o600} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	entries, err := os.ReadDir(f.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if b, err := os.ReadFile(filepath.Join(f.Dir, e.Name())); err == nil && bytes.Contains(b, []byte(password)) {
			t.Errorf("the password is in %s", e.Name())
		}
		if !slices.Contains([]string{".lock", "cert.pem", "key.pem", "ocserv.conf", "run", "users"}, e.Name()) {
			t.Errorf("%s is left over", e.Name())
		}
	}
}

// A later start finds the same and says so.
func TestLaterStart(t *testing.T) {
	o := Options{StateDir: t.TempDir()}
	f := files(t, o)
	first := start(t, o, testHost(nil))
	before := map[string]string{}
	for _, path := range []string{f.Config, f.Cert, f.Key, f.Users} {
		before[path] = content(t, path)
	}
	second := start(t, o, testHost(map[string]string{"USER": "other"}))
	for path, was := range before {
		if content(t, path) != was {
			t.Errorf("%s changed", path)
		}
	}
	if login(second) != "" || strings.Contains(second, login(first)) {
		t.Errorf("a password is shown again:\n%s", second)
	}
	line := regexp.MustCompile(`(?m)^  sudo openconnect .*$`)
	if a, b := line.FindString(first), line.FindString(second); a != b || a == "" {
		t.Errorf("first %q, then %q", a, b)
	}
	if !strings.Contains(second, "The user is kim;") || !strings.Contains(second, "rocserv passwd -c "+f.Users+" kim") || !strings.Contains(second, "Its state is in ") {
		t.Error(second)
	}
}

// Whatever a crash leaves, the next start makes a whole state of it. What it
// leaves are the first files of the order in which they are made.
func TestHalfMade(t *testing.T) {
	order := []string{"key.pem", "cert.pem", "run", "ocserv.conf", "users"}
	for n := range len(order) + 1 {
		o := Options{StateDir: t.TempDir()}
		f := files(t, o)
		start(t, o, testHost(nil))
		kept := map[string]string{}
		for i, name := range order {
			path := filepath.Join(f.Dir, name)
			switch {
			case i >= n:
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
			case name != "run":
				kept[path] = content(t, path)
			}
			// And a half-written next one, under its temporary name.
			if i == n && name != "run" {
				if err := os.WriteFile(path+".new", []byte("half"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		out := start(t, o, testHost(nil))
		if _, err := tls.LoadX509KeyPair(f.Cert, f.Key); err != nil {
			t.Errorf("after %d files: %v", n, err)
		}
		parsed(t, f)
		for path, was := range kept {
			if content(t, path) != was {
				t.Errorf("after %d files: %s changed", n, path)
			}
		}
		users, _ := ocpasswd.Parse([]byte(content(t, f.Users)))
		if _, ok, _ := users.Check("kim", []byte(login(out))); ok != (n < len(order)) {
			t.Errorf("after %d files: printed password fits: %v\n%s", n, ok, out)
		}
		if left, _ := filepath.Glob(f.Dir + "/*.new"); len(left) > 0 {
			t.Errorf("after %d files: left %q", n, left)
		}
	}
}

// Every set of files that somebody may have removed: either it is made whole,
// or the error says what to do; never a pair that does not fit.
func TestAnyMissing(t *testing.T) {
	names := []string{"key.pem", "cert.pem", "run", "ocserv.conf", "users"}
	for set := range 1 << len(names) {
		o := Options{StateDir: t.TempDir()}
		f := files(t, o)
		start(t, o, testHost(nil))
		for i, name := range names {
			if set&(1<<i) != 0 {
				if err := os.RemoveAll(filepath.Join(f.Dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		err := makeState(o, testHost(nil), &bytes.Buffer{})
		if set&3 == 1 { // the key alone
			if !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "remove it to have both made anew") {
				t.Errorf("key removed: %v", err)
			}
			continue
		}
		if err != nil {
			t.Errorf("set %05b: %v", set, err)
			continue
		}
		if _, err := tls.LoadX509KeyPair(f.Cert, f.Key); err != nil {
			t.Errorf("set %05b: %v", set, err)
		}
		if c := parsed(t, f); c.Vhosts[0].Keys[0].Cert != f.Cert {
			t.Errorf("set %05b: %+v", set, c)
		}
		if _, err := os.Stat(f.Users); err != nil {
			t.Error(err)
		}
	}
}

// Of many starts at once one makes the state; all find the same.
func TestConcurrentStarts(t *testing.T) {
	o := Options{StateDir: filepath.Join(t.TempDir(), "state")}
	var outs [8]bytes.Buffer
	var wg sync.WaitGroup
	for i := range outs {
		wg.Go(func() {
			if err := makeState(o, testHost(nil), &outs[i]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	line := regexp.MustCompile(`(?m)^  sudo openconnect .*$`)
	passwords := 0
	for i := range outs {
		if login(outs[i].String()) != "" {
			passwords++
		}
		if line.FindString(outs[i].String()) != line.FindString(outs[0].String()) {
			t.Errorf("%s\nand\n%s", outs[i].String(), outs[0].String())
		}
	}
	if passwords != 1 {
		t.Errorf("%d passwords were shown", passwords)
	}
}

func TestListenOption(t *testing.T) {
	o := Options{StateDir: t.TempDir(), Listen: "192.0.2.9:9443"}
	f := files(t, o)
	out := start(t, o, testHost(nil))
	if c := parsed(t, f); c.Global.TCPPort != 9443 || c.Global.UDPPort != 9443 || !slices.Equal(c.Global.Listen, []string{"192.0.2.9"}) {
		t.Errorf("%+v", c.Global)
	}
	if !strings.Contains(out, " 192.0.2.9:9443\n") {
		t.Error(out)
	}
	if pair, err := tls.LoadX509KeyPair(f.Cert, f.Key); err != nil || pair.Leaf.VerifyHostname("192.0.2.9") != nil {
		t.Errorf("%v", err)
	}
	// A person's own lines survive a change.
	own := strings.Replace(content(t, f.Config), "max-clients = 0", "max-clients = 7  # mine", 1) + "[vhost:x.example]\n  # tcp-port = 1\nbanner = listen-host = x\n"
	if err := os.WriteFile(f.Config, []byte(own), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		listen string
		host   string
		port   int
	}{{":9444", "", 9444}, {"[::1]:9445", "::1", 9445}, {"9446", "", 9446}, {"vpn.example.org:9446", "vpn.example.org", 9446}, {"", "vpn.example.org", 9446}} {
		out := start(t, Options{StateDir: o.StateDir, Listen: c.listen}, testHost(nil))
		conf := parsed(t, f)
		if conf.Global.TCPPort != c.port || conf.Global.UDPPort != c.port || strings.Join(conf.Global.Listen, " ") != c.host ||
			conf.Global.MaxClients != 7 || len(conf.Vhosts) != 2 || conf.Vhosts[1].Banner != "listen-host = x" {
			t.Errorf("--listen %s: %+v", c.listen, conf.Global)
		}
		if c.host == "::1" && !strings.Contains(out, " '[::1]:9445'\n") {
			t.Error(out)
		}
	}
	// No UDP stays no UDP.
	own = strings.Replace(content(t, f.Config), "udp-port = 9446", "udp-port = 0", 1)
	if err := os.WriteFile(f.Config, []byte(own), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, Options{StateDir: o.StateDir, Listen: ":9447"}, testHost(nil))
	if c := parsed(t, f); c.Global.TCPPort != 9447 || c.Global.UDPPort != 0 {
		t.Errorf("%+v", c.Global)
	}
}

// Somebody's own configuration is used as it is, and only what it names is made.
func TestOwnConfiguration(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	start(t, Options{StateDir: other}, testHost(nil))
	made := files(t, Options{StateDir: other})
	f := files(t, Options{StateDir: dir})
	own := strings.ReplaceAll(content(t, made.Config), made.Dir, f.Dir)
	own = strings.Replace(own, f.Cert, made.Cert, 1)
	own = strings.Replace(own, f.Key, made.Key, 1)
	own = strings.Replace(own, f.Users, made.Users, 1)
	if err := os.WriteFile(f.Config, []byte(own), 0o600); err != nil {
		t.Fatal(err)
	}
	out := start(t, Options{StateDir: dir}, testHost(nil))
	for _, path := range []string{f.Cert, f.Key, f.Users} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s was made", path)
		}
	}
	if !strings.Contains(out, "rocserv passwd -c "+made.Users+" kim") || content(t, f.Config) != own {
		t.Error(out)
	}
	// Without users it is said how to make one.
	if err := os.WriteFile(made.Users, []byte("# nobody\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := start(t, Options{StateDir: dir}, testHost(nil)); !strings.Contains(out, "Nobody can log in yet") || strings.Contains(out, "--user=") {
		t.Error(out)
	}
	// Broken, it is not replaced.
	if err := os.WriteFile(f.Config, []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := makeState(Options{StateDir: dir}, testHost(nil), &bytes.Buffer{})
	if !errors.Is(err, ErrState) || !strings.Contains(err.Error(), f.Config+":1: ") || !strings.Contains(err.Error(), "remove "+f.Config) {
		t.Errorf("broken configuration: %v", err)
	}
	if content(t, f.Config) != "nonsense\n" {
		t.Error("it was replaced")
	}
}

// Near its end a certificate of ours is mentioned.
func TestCertificateEnds(t *testing.T) {
	o := Options{StateDir: t.TempDir()}
	h := testHost(nil)
	start(t, o, h)
	h.now = func() time.Time { return time.Now().Add(validity - time.Hour) }
	if out := start(t, o, h); !strings.Contains(out, "The certificate ends on ") {
		t.Error(out)
	}
	h.now = func() time.Time { return time.Now().Add(validity / 2) }
	if out := start(t, o, h); strings.Contains(out, "The certificate ends on ") {
		t.Error(out)
	}
}

// What a person meets first, with what to do about it.
func TestErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		o    Options
		env  map[string]string
		want error
		text string
	}{
		{"no home", Options{}, map[string]string{}, ErrNoPlace, "neither HOME nor XDG_STATE_HOME is set; name a directory with --state-dir DIR"},
		{"relative home", Options{}, map[string]string{"HOME": "x", "XDG_STATE_HOME": "y"}, ErrNoPlace, "--state-dir"},
		{"not writable", Options{StateDir: "/sys/kernel/rocserv"}, nil, ErrNoPlace, "name a directory you can write with --state-dir DIR"},
		{"a file in the way", Options{StateDir: file}, nil, ErrNoPlace, "in the way"},
		{"below a file", Options{StateDir: filepath.Join(file, "x")}, nil, ErrNoPlace, "in the way"},
		{"name with a comment", Options{StateDir: filepath.Join(dir, "a #b")}, nil, ErrNoPlace, "characters that cannot stand in a configuration"},
		{"name with a bracket", Options{StateDir: filepath.Join(dir, "a]b")}, nil, ErrNoPlace, "characters that cannot stand in a configuration"},
		{"name with a line end", Options{StateDir: filepath.Join(dir, "a\nauth = b")}, nil, ErrNoPlace, "characters that cannot stand in a configuration"},
		{"low port", Options{StateDir: dir, Listen: ":443"}, nil, ErrListen, "net.ipv4.ip_unprivileged_port_start=443"},
		{"no port", Options{StateDir: dir, Listen: "192.0.2.1"}, nil, ErrListen, "--listen is ADDR:PORT"},
		{"port 0", Options{StateDir: dir, Listen: ":0"}, nil, ErrListen, "--listen is ADDR:PORT"},
		{"large port", Options{StateDir: dir, Listen: ":65536"}, nil, ErrListen, "--listen is ADDR:PORT"},
		{"odd host", Options{StateDir: dir, Listen: "a b:8443"}, nil, ErrListen, "--listen is ADDR:PORT"},
		{"bare IPv6", Options{StateDir: dir, Listen: "::1:8443"}, nil, ErrListen, "--listen is ADDR:PORT"},
	} {
		err := makeState(c.o, testHost(c.env), &bytes.Buffer{})
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %q", c.name, err, c.text)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 1 {
		t.Errorf("something was made: %v", entries)
	}
	h := testHost(nil)
	h.privileged = true
	start(t, Options{StateDir: filepath.Join(dir, "ok"), Listen: ":443"}, h)
	if err := makeState(Options{StateDir: filepath.Join(dir, "ok")}, testHost(nil), &bytes.Buffer{}); !errors.Is(err, ErrListen) {
		t.Errorf("a port that was once allowed: %v", err)
	}
	if err := makeState(Options{StateDir: t.TempDir()}, testHost(nil), full{}); !errors.Is(err, errFull) {
		t.Errorf("nobody reads: %v", err)
	}
}

var errFull = errors.New("full")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestPaths(t *testing.T) {
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		o    Options
		env  map[string]string
		want string
	}{
		{Options{}, map[string]string{"HOME": "/home/kim"}, "/home/kim/.local/state/rocserv/ocserv.conf"},
		{Options{}, map[string]string{"HOME": "/home/kim", "XDG_STATE_HOME": "/s"}, "/s/rocserv/ocserv.conf"},
		{Options{}, map[string]string{"HOME": "/home/kim", "XDG_STATE_HOME": "s"}, "/home/kim/.local/state/rocserv/ocserv.conf"},
		{Options{StateDir: "/d/"}, map[string]string{"HOME": "/home/kim"}, "/d/ocserv.conf"},
		{Options{StateDir: "d"}, nil, cwd + "/d/ocserv.conf"},
	} {
		f, err := paths(c.o, func(k string) string { return c.env[k] })
		if err != nil || f.Config != c.want {
			t.Errorf("%+v: %s, %v; want %s", c.o, f.Config, err, c.want)
		}
	}
	o := Options{Listen: ":1", StateDir: "/x y"}
	if again, err := ParseArgs(o.Args()); again != o || err != nil {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := ParseArgs([]string{"x"}); !errors.Is(err, ErrArguments) {
		t.Error(err)
	}
}
