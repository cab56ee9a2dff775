package doctor

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"

	"rocserv/internal/capacity"
	"rocserv/internal/config"
)

var update = flag.Bool("update", false, "write the golden files")

// rich is a host that gives everything.
func rich() *Facts {
	return &Facts{
		UID: 12345, CPUs: 8,
		Network:   Network{Out4: true, Out6: true},
		UDP:       UDP{Receive: 4 << 20},
		Kernel:    Kernel{Landlock: 7},
		Workers:   Workers{Program: "/usr/bin/rocserv-worker"},
		Capacity:  capacity.Capacity{Tasks: 14100, Files: 1 << 20, Memory: math.MaxUint64, TasksBy: "the cgroup's pids.max"},
		Resolvers: []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("2001:db8::53")},
	}
}

// poor is one that gives next to nothing.
func poor() *Facts {
	return &Facts{
		UID: 0, Container: "podman", CPUs: 1,
		Network:  Network{IPv6: unix.EAFNOSUPPORT, Ping4: unix.EACCES, Ping6: unix.EAFNOSUPPORT},
		UDP:      UDP{Segment: unix.ENOPROTOOPT, GRO: unix.ENOPROTOOPT, Receive: 212992},
		Kernel:   Kernel{Filter: unix.EPERM},
		Capacity: capacity.Capacity{Tasks: 2048, TasksBy: "the cgroup's pids.max", Files: 1024, Memory: 512 << 20, MemoryBy: "the cgroup's memory.max"},
		PAM:      errors.New("needs /usr/bin/rocserv-pam, which is not there"),
		Low:      unix.EACCES,
	}
}

func parse(t *testing.T, lines ...string) *config.Config {
	t.Helper()
	lines = append([]string{"auth = plain[passwd=/users]", "server-cert = /cert", "server-key = /key", "tcp-port = 443", "udp-port = 443", "socket-file = /run/s", "device = vpns",
		"ipv4-network = 10.9.0.0/24"}, lines...)
	cfg, err := config.Parse("ocserv.conf", []byte(strings.Join(lines, "\n")+"\n"), config.Main)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestGolden(t *testing.T) {
	every := netip.MustParseAddr("0.0.0.0")
	tcp, udp := Port{"tcp", netip.AddrPortFrom(every, 443)}, Port{"udp", netip.AddrPortFrom(every, 443)}
	tests := []struct {
		name  string
		facts *Facts
		lines []string // nil: no configuration
		prep  func(*Facts)
		bad   bool
	}{
		{name: "rich", facts: rich()},
		{name: "poor", facts: poor()},
		{name: "kubernetes", facts: rich(), prep: func(f *Facts) {
			f.Container, f.Network.Ping4, f.Network.Out6, f.Kernel.Landlock = "kubernetes", unix.EACCES, false, 4
		}},
		{name: "rich-configured", facts: rich(), lines: []string{"max-clients = 100"}, prep: func(f *Facts) {
			f.Ports = map[Port]error{tcp: nil, udp: nil}
			f.Files = map[string]error{"/cert": nil, "/key": nil, "/users": nil}
		}},
		{name: "poor-configured", facts: poor(), lines: []string{"max-clients = 1000", "require-confinement = true"}, bad: true, prep: func(f *Facts) {
			f.Ports = map[Port]error{tcp: unix.EACCES, udp: unix.EADDRINUSE}
			f.Files = map[string]error{"/cert": nil, "/key": unix.EACCES, "/users": unix.ENOENT}
		}},
		{name: "contradiction", facts: rich(), lines: []string{"isolate-workers = false", "require-confinement = true"}, bad: true, prep: func(f *Facts) {
			f.Workers.Err = errOtherBuild
			f.Ports = map[Port]error{tcp: unix.EADDRNOTAVAIL}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.prep != nil {
				tt.prep(tt.facts)
			}
			var cfg *config.Config
			if tt.lines != nil {
				cfg = parse(t, tt.lines...)
			}
			r := Judge(tt.facts, cfg)
			if r.Bad() != tt.bad {
				t.Errorf("bad: %t", r.Bad())
			}
			var text bytes.Buffer
			r.Text(&text)
			golden(t, tt.name, text.Bytes())
			everyGapCloses(t, r)
			var b bytes.Buffer
			var back Report
			if err := r.JSON(&b); err != nil || json.Unmarshal(b.Bytes(), &back) != nil || !reflect.DeepEqual(&back, r) {
				t.Errorf("JSON does not say the same: %v\n%s", err, b.String())
			}
		})
	}
}

// everyGapCloses: what is not ok says what it costs and, in one line, what closes it.
func everyGapCloses(t *testing.T, r *Report) {
	t.Helper()
	for _, f := range append(r.Host, r.Config...) {
		if (f.State != OK) != (f.Costs != "" && f.Close != "") || strings.Contains(f.Close, "\n") {
			t.Errorf("%+v", f)
		}
	}
	decides := 0
	for _, l := range r.Room {
		if l.Decides {
			decides++
		}
	}
	if decides != 1 {
		t.Errorf("%d limits decide: %+v", decides, r.Room)
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant %s\n%s", got, file, want)
	}
}

// TestEveryMethod: who adds a method of login says what it needs of the host.
func TestEveryMethod(t *testing.T) {
	names := config.MethodNames()
	for _, m := range names {
		if methodNeeds[m.Name] == nil {
			t.Errorf("%s has no row in methodNeeds", m.Name)
		}
	}
	if len(names) != len(methodNeeds) {
		t.Errorf("%d methods, %d rows", len(names), len(methodNeeds))
	}
	was := methodNeeds["plain"]
	defer func() { methodNeeds["plain"] = was }()
	methodNeeds["plain"] = func(f *Facts) (string, string) { return "needs luck", "a horseshoe" }
	if got := judgeMethods(rich())[0]; got.State != Gap || got.Have != "needs luck" || got.Close != "a horseshoe" {
		t.Errorf("%+v", got)
	}
}

// TestLook looks at the machine of this test.
func TestLook(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := parse(t, "listen-host = 127.0.0.1")
	cfg.Global.TCPPort, cfg.Global.UDPPort = 0, 0 // any that is free, and no DTLS
	cfg.Vhosts[0].Keys = []config.KeyPair{{Cert: filepath.Join(dir, "none"), Key: key}}
	f := Look(cfg)
	if f.UID != os.Getuid() || f.CPUs < 1 || f.UDP.Receive < 4096 {
		t.Errorf("%+v", f)
	}
	if err, ok := f.Ports[Port{"tcp", netip.MustParseAddrPort("127.0.0.1:0")}]; !ok || err != nil {
		t.Errorf("ports %v", f.Ports)
	}
	if err, ok := f.Files[key]; !ok || err != nil {
		t.Errorf("files %v", f.Files)
	}
	if f.Files[filepath.Join(dir, "none")] == nil {
		t.Errorf("files %v", f.Files)
	}
}

func TestBind(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		if err := bind(Port{network, netip.MustParseAddrPort("192.0.2.1:0")}); err != unix.EADDRNOTAVAIL {
			t.Errorf("%s: a foreign address: %v", network, err)
		}
	}
}

func TestContainer(t *testing.T) {
	none := func(string) string { return "" }
	for want, root := range map[string]fstest.MapFS{
		"": {}, "podman": {"run/.containerenv": {}}, "docker": {".dockerenv": {}},
	} {
		if got := container(root, none); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := container(fstest.MapFS{}, func(string) string { return "10.0.0.1" }); got != "kubernetes" {
		t.Errorf("%q", got)
	}
}

func TestResolvers(t *testing.T) {
	got := resolvers([]byte("# x\nnameserver 192.0.2.1\nnameserver 192.0.2.1\nnameserver nonsense\nsearch a\nnameserver 2001:db8::1\n"))
	if len(got) != 2 || got[0] != netip.MustParseAddr("192.0.2.1") || got[1] != netip.MustParseAddr("2001:db8::1") {
		t.Errorf("%v", got)
	}
}
