package mainproc

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"rocserv/internal/ipc"
)

func TestParseResolvConf(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", "[127.0.0.1:53]"},
		{"search example.org\n", "[127.0.0.1:53]"},
		{"nameserver 192.0.2.1\nnameserver 2001:db8::1\n", "[192.0.2.1:53 [2001:db8::1]:53]"},
		{"# nameserver 1.1.1.1\n  nameserver\t192.0.2.1 # ours\r\n", "[192.0.2.1:53]"},
		{"nameserver 192.0.2.1\nnameserver ::ffff:192.0.2.1\n", "[192.0.2.1:53]"},
		{"nameserver fe80::1%eth0\nnameserver name.example\nnameserver\nnameserver 192.0.2.9", "[192.0.2.9:53]"},
		{strings.Repeat("nameserver 192.0.2.1\n", 50), "[192.0.2.1:53]"},
	}
	for _, tt := range tests {
		if got := fmt.Sprint(parseResolvConf([]byte(tt.in))); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.in, got, tt.want)
		}
	}
	var many strings.Builder
	for i := range 100 {
		fmt.Fprintf(&many, "nameserver 192.0.2.%d\n", i)
	}
	if n := len(parseResolvConf([]byte(many.String()))); n != maxResolvers {
		t.Errorf("%d resolvers", n)
	}
}

func FuzzResolvConf(f *testing.F) {
	f.Add([]byte("nameserver 192.0.2.1\nnameserver ::1\noptions ndots:5"))
	f.Add([]byte("nameserver fe80::1%\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list := parseResolvConf(b)
		if len(list) == 0 || len(list) > maxResolvers {
			t.Errorf("%d resolvers", len(list))
		}
		for _, a := range list {
			if !a.IsValid() || a.Addr().Zone() != "" || ipc.AddrPort(ipc.PutAddrPort(a)) != a {
				t.Errorf("resolver %v", a)
			}
		}
	})
}

func TestClusterAPI(t *testing.T) {
	for in, want := range map[string]string{
		"": "[]", "kubernetes.default": "[]", "10.96.0.1": "[10.96.0.1/32]", "fd00::1": "[fd00::1/128]",
	} {
		if got := fmt.Sprint(clusterAPI(in)); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestReadHostInfo(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
	h := readHostInfo()
	if !slices.Contains(ipc.Prefixes(h.OwnNets), netip.MustParsePrefix("127.0.0.1/8")) {
		t.Errorf("own addresses %v lack loopback", ipc.Prefixes(h.OwnNets))
	}
	if len(ipc.AddrPorts(h.Resolvers)) == 0 || len(ipc.Prefixes(h.Denied)) != 1 {
		t.Errorf("resolvers %v, denied %v", h.Resolvers, h.Denied)
	}
	lo := netip.MustParsePrefix("127.0.0.1/8")
	if !slices.Contains(localSubnets(), lo) {
		t.Errorf("local networks %v", localSubnets())
	}
}

func TestSetHost(t *testing.T) {
	s := ghost()
	idle, busy := s.ghostWorker(pooled, ""), s.ghostWorker(login, "192.0.2.1:1")
	s.setHost(new(ipc.HostInfo)) // as it was
	if len(busy.out.queue) != 0 {
		t.Error("told that nothing changed")
	}
	h := &ipc.HostInfo{Ipv4Out: true}
	s.setHost(h)
	if len(idle.out.queue) != 0 || len(busy.out.queue) != 1 {
		t.Fatalf("queued: %d for the idle, %d for the other", len(idle.out.queue), len(busy.out.queue))
	}
	if o := <-busy.out.queue; o.typ != ipc.HostInfoT || o.msg != h || s.host.Load() != h {
		t.Errorf("%+v", o)
	}
	for i := range cap(busy.out.queue) + 1 { // it does not read
		s.setHost(&ipc.HostInfo{Ipv4Out: i%2 == 0, Ipv6Out: true})
	}
	if busy.current() != leaving || !errors.Is(busy.end.cause, errNotReading) {
		t.Errorf("state %v, cause %v", busy.current(), busy.end.cause)
	}
}

func TestOffered(t *testing.T) {
	for _, tt := range []struct{ out4, out6, v4, v6 bool }{
		{true, true, true, true}, {true, false, true, false}, {false, true, false, true}, {false, false, true, true},
	} {
		if v4, v6 := offered(&ipc.HostInfo{Ipv4Out: tt.out4, Ipv6Out: tt.out6}); v4 != tt.v4 || v6 != tt.v6 {
			t.Errorf("%+v: %v, %v", tt, v4, v6)
		}
	}
}

func file(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }

func TestBindAddrs(t *testing.T) {
	tests := []struct {
		hosts    []string
		want     string
		optional bool
	}{
		{nil, "[0.0.0.0:443 [::]:443]", true},
		{[]string{"192.0.2.1", "[2001:db8::1]", "2001:db8::2"}, "[192.0.2.1:443 [2001:db8::1]:443 [2001:db8::2]:443]", false},
		{[]string{"192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1"}, "[192.0.2.1:443]", false},
	}
	for _, tt := range tests {
		got, optional, err := bindAddrs(tt.hosts, 443)
		if err != nil || fmt.Sprint(got) != tt.want || optional != tt.optional {
			t.Errorf("%q: %v, %v, %v", tt.hosts, got, optional, err)
		}
	}
	if got, _, err := bindAddrs([]string{"localhost"}, 443); err != nil || len(got) == 0 || !got[0].Addr().IsLoopback() {
		t.Errorf("localhost: %v, %v", got, err)
	}
	if _, _, err := bindAddrs([]string{"host.invalid"}, 443); err == nil || !strings.Contains(err.Error(), "listen-host host.invalid") {
		t.Errorf("error %v", err)
	}
}

func TestPortHolder(t *testing.T) {
	root := fstest.MapFS{
		"proc/net/tcp": file("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
			"   0: 0100007F:01BB 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 11 1\n" + // established
			"   1: 0100007F:01BC 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1\n" + // another port
			"garbage\n"),
		"proc/net/tcp6": file("   0: 00000000000000000000000000000000:01BB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000    33        0 13 1\n"),
		"proc/77/comm":  file("nginx\n"),
	}
	a := netip.MustParseAddrPort("0.0.0.0:443")
	if got := portSockets(root, "TCP", a); len(got) != 1 || got[0] != (holder{"33", "13"}) {
		t.Errorf("sockets %v", got)
	}
	if got := socketOwner(root, "13"); got != "" {
		t.Errorf("owner %q without a link", got)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got, want := portHolder("TCP", l.Addr().(*net.TCPAddr).AddrPort()), fmt.Sprintf("process %d (", os.Getpid()); !strings.HasPrefix(got, want) {
		t.Errorf("our own port: %q, want %q...", got, want)
	}
}

// A second server of the same user must not share the port.
func TestUDPPortInUse(t *testing.T) {
	c, err := listenUDP(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = listenUDP(c.LocalAddr().(*net.UDPAddr).AddrPort())
	if err == nil || !strings.Contains(err.Error(), "address already in use: held by process") {
		t.Errorf("error %v", err)
	}
}
