//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// What a client gets to know about a destination that it may not have.
const (
	prohibited4 = "icmp 3/13"
	prohibited6 = "icmp6 1/1"
	silence     = "silence"
)

// forbidden are places that no client reaches through the server.
var forbidden = []struct{ name, addr, want string }{
	{"loopback", "127.0.0.1", prohibited4},
	{"another loopback", "127.1.2.3", prohibited4},
	{"the cloud's metadata", lab.Metadata4, prohibited4},
	{"link-local", "169.254.1.1", prohibited4},
	{"the server's address towards clients", lab.Srv4, prohibited4},
	{"the server's address towards others", lab.SrvIn4, prohibited4},
	{"IPv6 loopback", "::1", prohibited6},
	{"IPv6 link-local", "fe80::1", prohibited6},
	{"NAT64 loopback", "64:ff9b::7f00:1", prohibited6},
	{"6to4 of loopback", "2002:7f00:1::1", prohibited6},
	{"the server's IPv6 address towards clients", lab.Srv6, prohibited6},
	{"the server's IPv6 address towards others", lab.SrvIn6, prohibited6},
	{"the cloud's metadata over IPv6", "fd00:ec2::254", prohibited6},
	{"nowhere", "0.0.0.0", prohibited4},
	{"IPv6 nowhere", "::", prohibited6},
	// Such a packet must not be: it is dropped before anybody asks whether it may.
	{"mapped loopback", "::ffff:127.0.0.1", silence},
	// No packet to many is answered with an error. RFC 1122 section 3.2.2.
	{"multicast", "224.0.0.1", silence},
	{"broadcast", "255.255.255.255", silence},
	{"IPv6 multicast", "ff02::1", silence},
}

func TestForbiddenDestinations(t *testing.T) {
	rocservOnly(t, "it leaves this to the host's firewall")
	r := newRig(t, 1)
	r.must(r.OpenPing(true))
	inside, err := lab.StartTarget(r.Srv)
	r.must(err)
	c := r.connect(lab.Dial{})

	q := lab.Injection{Device: c.Device}
	var want []string
	for _, f := range forbidden {
		for _, proto := range []string{"tcp", "udp", "icmp"} {
			q.Packets = append(q.Packets, lab.Injected{Proto: proto, Dst: f.addr, Port: lab.PortWitness})
			want = append(want, f.want)
		}
	}
	// The gateway address is not the host: nobody listens there.
	q.Packets = append(q.Packets, lab.Injected{Proto: "tcp", Dst: lab.Gateway4, Port: lab.PortWitness},
		lab.Injected{Proto: "udp", Dst: lab.Gateway4, Port: lab.PortWitness}, lab.Injected{Proto: "udp", Dst: lab.Gateway6, Port: lab.PortWitness})
	want = append(want, "reset", "icmp 3/3", "icmp6 1/4")
	// And an allowed destination, so that silence means something.
	q.Packets = append(q.Packets, lab.Injected{Proto: "tcp", Dst: lab.Tgt4, Port: lab.PortWitness})
	want = append(want, "open")

	got, err := lab.Inject(c.From, q)
	r.must(err)
	for i, p := range q.Packets {
		if got[i] != want[i] {
			t.Errorf("%s to %s: %s, not %s", p.Proto, p.Dst, got[i], want[i])
		}
	}
	if inside.Has("^seen") {
		t.Errorf("a client reached the server's host:\n%s", inside.Story())
	}
	if r.tgt.Count("^seen") != 1 || !r.tgt.Has(`^seen tcp .* at `+quoteDots(lab.Tgt4)) {
		t.Errorf("what was reached is not the one allowed:\n%s", r.tgt.Story())
	}
	// The witness does see those who come by another way.
	_, err = r.Cli[0].Run("nc", "-n", "-z", "-w", "3", lab.Srv4, fmt.Sprint(lab.PortWitness))
	r.must(err)
	r.expect(inside, "^seen tcp", 3*time.Second)
}

func quoteDots(s string) string { return strings.ReplaceAll(s, ".", `\.`) }

// The administrator's exceptions, and the narrower profile.
func TestEgressSettings(t *testing.T) {
	rocservOnly(t, "it has no such settings")
	for _, k := range []struct {
		name, setting string
		to            lab.Injected
		want          string
	}{
		{"allowed by name", "egress-allow-unsafe = " + lab.Metadata4 + "/32", lab.Injected{Proto: "tcp", Dst: lab.Metadata4, Port: lab.PortWitness}, "open"},
		{"others are not", "egress-allow-unsafe = " + lab.Metadata4 + "/32", lab.Injected{Proto: "tcp", Dst: "127.0.0.1", Port: lab.PortWitness}, prohibited4},
		{"private, lan", "egress-profile = lan", lab.Injected{Proto: "tcp", Dst: lab.Tgt4, Port: lab.PortHTTP}, "open"},
		{"private, internet", "egress-profile = internet", lab.Injected{Proto: "tcp", Dst: lab.Tgt4, Port: lab.PortHTTP}, prohibited4},
		{"private IPv6, internet", "egress-profile = internet", lab.Injected{Proto: "udp", Dst: lab.Tgt6, Port: lab.PortEcho}, prohibited6},
	} {
		t.Run(k.name, func(t *testing.T) {
			r := newRig(t, 1, k.setting)
			c := r.connect(lab.Dial{})
			got, err := lab.Inject(c.From, lab.Injection{Device: c.Device, Packets: []lab.Injected{k.to}})
			r.must(err)
			if got[0] != k.want {
				t.Errorf("%s to %s: %s, not %s", k.to.Proto, k.to.Dst, got[0], k.want)
			}
		})
	}
}

// Where the host lets nobody ping, who pings is told.
func TestPingClosed(t *testing.T) {
	rocservOnly(t, "the kernel forwards pings")
	r := newRig(t, 1)
	r.must(r.OpenPing(false))
	c := r.connect(lab.Dial{})
	r.each(c,
		command("ping of a host", "fails:Packet filtered", pinging(lab.Tgt4)...),
		command("ping of a host over IPv6", "fails:Administratively prohibited", pinging(lab.Tgt6)...),
		command("ping of the gateway", " 0% packet loss", pinging(lab.Gateway4)...),
		command("ping of the gateway over IPv6", " 0% packet loss", pinging(lab.Gateway6)...),
		hello4,
	)
}

// What users may reach, by rules and as ocserv restricts them.
func TestEgressRules(t *testing.T) {
	rocservOnly(t, "it leaves this to a firewall script of root's")
	type expected struct {
		proto, dst string
		port       uint16
		want       string
	}
	for _, k := range []struct {
		name     string
		settings []string
		want     []expected
	}{
		{"rules", []string{
			"egress-allow = " + lab.Tgt4 + " tcp(80), udp(7)",
			"egress-deny = 10.77.9.0/24",
			"egress-deny = any tcp(9000-9100), icmpv6()",
		}, []expected{
			{"tcp", lab.Tgt4, lab.PortHTTP, "open"},
			{"tcp", lab.Tgt4, lab.PortWitness, prohibited4},
			{"udp", lab.Tgt4, lab.PortEcho, "answer"},
			{"udp", lab.Tgt4, lab.PortWitness, prohibited4},
			{"icmp", lab.Tgt4, 0, prohibited4},
			{"tcp", lab.Tgt6, lab.PortHTTP, "open"},
			{"tcp", lab.Tgt6, lab.PortWitness, prohibited6},
			{"icmp", lab.Tgt6, 0, prohibited6},
			{"tcp", "127.0.0.1", lab.PortHTTP, prohibited4},
		}},
		{"restricted to routes", []string{
			"restrict-user-to-routes = true", "route = " + lab.Tgt4 + "/32", "route = " + lab.SrvIn4 + "/32", "route = fd77:9::/64", "no-route = " + lab.Absent6 + "/128",
		}, []expected{
			{"tcp", lab.Tgt4, lab.PortHTTP, "open"},
			{"icmp", lab.Tgt4, 0, "answer"},
			{"tcp", lab.Silent4, lab.PortHTTP, prohibited4},
			{"tcp", lab.SrvIn4, lab.PortHTTP, prohibited4}, // a route does not open the host
			{"tcp", lab.Tgt6, lab.PortHTTP, "open"},
			{"udp", lab.Absent6, lab.PortEcho, prohibited6},
		}},
		{"restricted to ports", []string{
			"restrict-user-to-ports = tcp(80), icmp()", "route = " + lab.Tgt4 + "/32", "dns = " + lab.Tgt6,
		}, []expected{
			{"tcp", lab.Tgt4, lab.PortHTTP, "open"},
			{"tcp", lab.Tgt4, lab.PortEcho, prohibited4},
			{"udp", lab.Tgt4, lab.PortEcho, prohibited4},
			{"icmp", lab.Tgt4, 0, "answer"},
			{"tcp", lab.Tgt6, lab.PortHTTP, prohibited6},
			{"tcp", lab.Tgt6, lab.PortDNS, "open"},
		}},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 1, k.settings...)
			r.must(r.OpenPing(true))
			c := r.connect(lab.Dial{})
			q := lab.Injection{Device: c.Device}
			for _, e := range k.want {
				q.Packets = append(q.Packets, lab.Injected{Proto: e.proto, Dst: e.dst, Port: e.port})
			}
			got, err := lab.Inject(c.From, q)
			r.must(err)
			for i, e := range k.want {
				if got[i] != e.want {
					t.Errorf("%s to %s, port %d: %s, not %s", e.proto, e.dst, e.port, got[i], e.want)
				}
			}
		})
	}
}
