package scripts

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rocserv/internal/control"
	"rocserv/internal/ipc"
)

func addr(s string) []byte { return ipc.PutAddr(netip.MustParseAddr(s)) }

// What a script is told: the names and forms of ocserv's manual.
func TestEnvironment(t *testing.T) {
	both := control.Session{
		ID: 77, User: "alice", Group: "staff", Hostname: "laptop", Device: "vpns3", UserAgent: "Agent v9",
		RemoteIP: "192.0.2.1", LocalIP: "192.0.2.2", IPv4: "10.9.0.5", IPv4PtP: "10.9.0.1", IPv6: "fd00::5", IPv6PtP: "fd00::1",
	}
	only6 := control.Session{ID: 1, User: "u", Vhost: "v.example", IPv6: "fd00::5", IPv6PtP: "fd00::1"}
	for _, c := range []struct {
		name  string
		facts Facts
		want  string
	}{
		{"connect", Facts{
			Reason: Connect, Session: both, IPv6Bits: 128, DeviceType: "android", DevicePlatform: "linux-64",
			Config: &ipc.SessionConfig{
				Routes: []string{"10.0.0.0/255.0.0.0", "fd01::/16"}, NoRoutes: []string{"10.1.0.0/255.255.0.0"},
				Dns:   [][]byte{addr("9.9.9.9"), addr("fd00::53")},
				Ports: []*ipc.PortRule{{Proto: "tcp", Port: 443}, {Proto: "icmp"}}, RestrictToRoutes: true,
			},
		}, `REASON=connect|ID=77|VHOST=default|USERNAME=alice|GROUPNAME=staff|HOSTNAME=laptop|REMOTE_HOSTNAME=laptop|DEVICE=vpns3|
			USER_AGENT=Agent v9|DEVICE_TYPE=android|DEVICE_PLATFORM=linux-64|IP_REAL=192.0.2.1|IP_REAL_LOCAL=192.0.2.2|
			IP_LOCAL=10.9.0.1|IP_REMOTE=10.9.0.5|IPV6_LOCAL=fd00::1|IPV6_REMOTE=fd00::5|IPV6_PREFIX=128|
			OCSERV_ROUTES=10.0.0.0/255.0.0.0 fd01::/16 |OCSERV_ROUTES4=10.0.0.0/255.0.0.0 |OCSERV_ROUTES6=fd01::/16 |
			OCSERV_NO_ROUTES=10.1.0.0/255.255.0.0 |OCSERV_NO_ROUTES4=10.1.0.0/255.255.0.0 |
			OCSERV_DNS=9.9.9.9 fd00::53 |OCSERV_DNS4=9.9.9.9 |OCSERV_DNS6=fd00::53 |OCSERV_RESTRICT_TO_ROUTES=1|
			OCSERV_ALLOW_PORTS=tcp 443 icmp all `},
		{"IPv6 alone, nothing configured", Facts{Reason: HostUpdate, Session: only6, IPv6Bits: 64},
			`REASON=host-update|ID=1|VHOST=v.example|USERNAME=u|IP_LOCAL=fd00::1|IP_REMOTE=fd00::5|
			IPV6_LOCAL=fd00::1|IPV6_REMOTE=fd00::5|IPV6_PREFIX=64`},
		{"disconnect", Facts{
			Reason: Disconnect, Session: control.Session{ID: 2, User: "u", IPv4: "10.9.0.5", IPv4PtP: "10.9.0.1"},
			Config: &ipc.SessionConfig{Ports: []*ipc.PortRule{{Proto: "udp", Port: 53}}, PortsDeny: true},
			Ended:  &Ended{BytesIn: 1 << 40, BytesOut: 0, Duration: 90*time.Second + 999*time.Millisecond, Why: "idle timeout"},
		}, `REASON=disconnect|ID=2|VHOST=default|USERNAME=u|IP_LOCAL=10.9.0.1|IP_REMOTE=10.9.0.5|OCSERV_DENY_PORTS=udp 53 |
			STATS_BYTES_IN=1099511627776|STATS_BYTES_OUT=0|STATS_DURATION=90|DISCONNECT_REASON=idle timeout`},
		{"words of a hostile client", Facts{Reason: Connect, Session: control.Session{
			ID: 3, User: "u", Hostname: "a\x00b\nIP_REAL=6.6.6.6\x1b[m\u202e\xff" + strings.Repeat("x", 1000), UserAgent: "\n\x00",
		}}, "REASON=connect|ID=3|VHOST=default|USERNAME=u|HOSTNAME=abIP_REAL=6.6.6.6[m" + strings.Repeat("x", maxWord-19) +
			"|REMOTE_HOSTNAME=abIP_REAL=6.6.6.6[m" + strings.Repeat("x", maxWord-19)},
	} {
		t.Run(c.name, func(t *testing.T) {
			var want []string
			for _, entry := range strings.Split(c.want, "|") {
				want = append(want, strings.TrimLeft(entry, "\n\t"))
			}
			got := c.facts.Environment([]string{"PATH=/bin"})
			if diff := cmp.Diff(append([]string{"PATH=/bin"}, want...), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestInherited(t *testing.T) {
	f := Facts{Reason: Connect, Session: control.Session{ID: 1, User: "u"}}
	from := []string{"LANG=C", "NOTIFY_SOCKET=/run/x", "LISTEN_FDS=2", "ROCSERV_X=1", "USERNAME=root", "OCSERV_ROUTES=0.0.0.0/0 ", "STATS_BYTES_IN=1", "IPX=1"}
	want := []string{"LANG=C", "IPX=1", "PATH=" + searchPath, "REASON=connect", "ID=1", "VHOST=default", "USERNAME=u"}
	if diff := cmp.Diff(want, f.Environment(from)); diff != "" {
		t.Error(diff)
	}
}

// One key is in order, another does not wait for it.
func TestOrder(t *testing.T) {
	var o Order
	if !o.Wait(0, nil) {
		t.Error("something runs")
	}
	var did []string
	hold, other := make(chan struct{}), make(chan struct{})
	for _, name := range []string{"1", "2", "3"} {
		o.Add("a", func() {
			<-hold
			did = append(did, name)
		})
	}
	o.Add("b", func() { close(other) })
	<-other
	hurry := make(chan struct{})
	close(hurry)
	if o.Wait(time.Minute, hurry) || o.Wait(time.Millisecond, nil) {
		t.Error("nothing runs")
	}
	close(hold)
	if !o.Wait(time.Minute, nil) {
		t.Fatal("not done after a minute")
	}
	if !slices.Equal(did, []string{"1", "2", "3"}) {
		t.Errorf("ran in the order %v", did)
	}
	again := make(chan struct{})
	o.Add("a", func() { close(again) })
	<-again
	o.Wait(time.Minute, nil)
	if len(o.waiting) != 0 {
		t.Error("a key is left")
	}
}
