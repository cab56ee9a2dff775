//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// What a client is told is what the configuration says, as its script sees it.
func TestPushedConfiguration(t *testing.T) {
	r := newRig(t, 1,
		"route = 10.77.9.0/24",
		"route = 10.99.0.0/255.255.0.0",
		"route = fd77:9::/64",
		"no-route = 10.77.9.128/25",
		"dns = "+lab.Tgt4,
		"dns = 10.77.9.53",
		"dns = "+lab.Tgt6,
		"nbns = 10.77.9.54",
		"split-dns = corp.test",
		"split-dns = tgt.test",
		"default-domain = corp.test",
		"banner = Welcome, friend",
		"tunnel-all-dns = false",
		"custom-header = X-CSTP-Lab: %{U}",
		"idle-timeout = 600",
	)
	c := r.connect(lab.Dial{})
	r.wantEnv(c, map[string]string{ // openconnect turns most lists around
		"CISCO_SPLIT_INC":                "2",
		"CISCO_SPLIT_INC_0_ADDR":         "10.99.0.0",
		"CISCO_SPLIT_INC_0_MASK":         "255.255.0.0",
		"CISCO_SPLIT_INC_0_MASKLEN":      "16",
		"CISCO_SPLIT_INC_1_ADDR":         "10.77.9.0",
		"CISCO_SPLIT_INC_1_MASKLEN":      "24",
		"CISCO_IPV6_SPLIT_INC":           "1",
		"CISCO_IPV6_SPLIT_INC_0_ADDR":    "fd77:9::",
		"CISCO_IPV6_SPLIT_INC_0_MASKLEN": "64",
		"CISCO_SPLIT_EXC":                "1",
		"CISCO_SPLIT_EXC_0_ADDR":         "10.77.9.128",
		"CISCO_SPLIT_EXC_0_MASKLEN":      "25",
		"INTERNAL_IP4_DNS":               lab.Tgt4 + " 10.77.9.53 " + lab.Tgt6,
		"INTERNAL_IP4_NBNS":              "10.77.9.54",
		"CISCO_SPLIT_DNS":                "tgt.test,corp.test",
		"CISCO_DEF_DOMAIN":               "corp.test",
		"CISCO_BANNER":                   "Welcome, friend",
		"INTERNAL_IP4_NETMASK":           "255.255.255.0",
		"INTERNAL_IP4_MTU":               "1434",
		"VPNGATEWAY":                     lab.Srv4,
	})
	r.each(c, hello4, hello6,
		command("an address without a route", "fails:Network is unreachable", connecting("10.78.0.1", lab.PortHTTP, 8)...),
		command("an address in no-route", "fails:Permission denied", connecting("10.77.9.200", lab.PortHTTP, 8)...),
	)
	for _, line := range []string{`^X-CSTP-Tunnel-All-DNS: false`, `^X-CSTP-Lab: alice`, `^X-CSTP-Idle-Timeout: 600`, `^X-CSTP-DPD: 60`, `^X-CSTP-Keepalive: 300`} {
		if !c.Has(line) {
			t.Errorf("the server does not say %q", line)
		}
	}
}

// Without routes everything goes to the server, and no list is sent.
func TestDefaultRoute(t *testing.T) {
	r := newRig(t, 1)
	c := r.connect(lab.Dial{})
	r.wantEnv(c, map[string]string{
		"CISCO_SPLIT_INC": "", "CISCO_IPV6_SPLIT_INC": "", "CISCO_SPLIT_EXC": "", "CISCO_BANNER": "", "CISCO_SPLIT_DNS": "",
	})
	r.each(c, hello4, hello6)
}

// Users have files of their own, and what they say comes before the rest.
func TestPerUserConfiguration(t *testing.T) {
	r := newLab(t, 2)
	dir := r.state.Path("users.d")
	r.must(os.Mkdir(dir, 0o755))
	r.must(os.WriteFile(dir+"/"+lab.User, []byte("route = 10.77.9.0/24\ndns = 10.77.9.53\nno-udp = true\n"), 0o644))
	r.must(r.state.Configure("config-per-user = "+dir, "route = 10.99.0.0/16"))
	r.start()
	c := r.dial(lab.Dial{})
	r.must(c.WaitUp())
	r.wantEnv(c, map[string]string{"CISCO_SPLIT_INC": "1", "CISCO_SPLIT_INC_0_ADDR": "10.77.9.0", "INTERNAL_IP4_DNS": "10.77.9.53"})
	if c.Has(`^X-DTLS-Port`) {
		t.Error("a user without UDP is offered DTLS")
	}
	other := r.connect(lab.Dial{From: r.Cli[1], User: lab.Other, Input: right})
	r.wantEnv(other, map[string]string{"CISCO_SPLIT_INC": "1", "CISCO_SPLIT_INC_0_ADDR": "10.99.0.0", "INTERNAL_IP4_DNS": lab.Tgt4})
}

// wantEnv compares what the script was given. "" is absence.
func (r *rig) wantEnv(c *lab.Client, want map[string]string) {
	r.Helper()
	env, err := c.Env("connect")
	r.must(err)
	for name, value := range want {
		if env[name] != value {
			r.Errorf("%s is %q, not %q", name, env[name], value)
		}
	}
}

// What fits into the path's packets is found out, by server and client alike.
func TestMTU(t *testing.T) {
	r := newRig(t, 1)
	for _, k := range []struct {
		name string
		to   string
		link int // MTU of the client's wire
		want int // of the tunnel, says the server
		less int // by which openconnect wants it smaller: over IPv6 it reckons with more than there is
	}{
		{"Ethernet", lab.Srv4, 1500, 1434, 0},
		{"Ethernet, over IPv6", lab.Srv6, 1500, 1414, 12},
		{"a smaller wire", lab.Srv4, 1420, 1354, 0},
		{"a smaller wire, over IPv6", lab.Srv6, 1420, 1334, 12},
	} {
		t.Run(k.name, func(t *testing.T) {
			r := r.in(t)
			r.must(r.Cli[0].IP(fmt.Sprintf("link set eth0 mtu %d", k.link)))
			c := r.connect(lab.Dial{To: lab.ServerAt(k.to)})
			r.expect(c.Process, fmt.Sprintf("^X-CSTP-Base-MTU: %d$", k.link), 0)
			r.expect(c.Process, fmt.Sprintf("^X-CSTP-MTU: %d$", k.want), 0)
			r.expect(c.Process, `MTU.*detection \(was|Detected MTU of`, 10*time.Second)
			env, err := c.Env("connect")
			r.must(err)
			mtu, err := strconv.Atoi(env["INTERNAL_IP4_MTU"])
			r.must(err)
			if mtu > k.want || mtu < k.want-k.less {
				t.Errorf("openconnect takes %d of %d", mtu, k.want)
			}
			// Packets that fill the tunnel come back.
			const headers = 20 + 8 // IPv4, ICMP
			full := append(pinging(lab.Gateway4), "-M", "do", "-s", strconv.Itoa(mtu-headers))
			r.must(runs(c, "", " 0% packet loss", full...))
		})
	}
}
