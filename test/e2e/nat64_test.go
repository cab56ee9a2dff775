//go:build e2e

package e2e

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// newV6Only is a rig whose server has a way out for IPv6 only, to tgt, where
// lab.Behind64 is a host that a NAT64 would make of lab.Far64.
func newV6Only(t *testing.T, settings ...string) *rig {
	t.Helper()
	r := newLab(t, 1, settings...)
	r.must(r.Srv.IP("addr del "+lab.SrvIn4+"/24 dev eth0", "route add default via "+lab.Tgt6))
	r.must(r.Tgt.IP("addr add " + lab.Behind64 + "/128 dev eth0 nodad")) // not tentative, not for an instant
	r.within(30*time.Second, func() error {                              // who is spoken to answers
		return r.Tgt.IP("route replace " + lab.SrvIn6 + "/128 dev eth0 src " + lab.Behind64)
	})
	r.must(r.OpenPing(true))
	return r
}

// TestNAT64 is IPv4 for clients of a host that has none, in a network that
// translates: DNS says by which prefix.
func TestNAT64(t *testing.T) {
	rocservOnly(t, "the kernel forwards packets")
	t.Parallel()
	r := newV6Only(t)
	r.must(r.Srv.SetResolvers(lab.Tgt6))
	r.start()
	c := r.connect(lab.Dial{})
	ip4, ip6, err := c.Addresses()
	r.must(err)
	if ip4 == "" || ip6 == "" {
		t.Fatalf("the client has '%s' and '%s'", ip4, ip6)
	}
	r.each(c,
		command("HTTP", lab.Hello, web(lab.Far64)...),
		check{"UDP of every size", echoing(lab.Far64, 0, 1, 1300, 3000)},
		command("ping", `ttl=6\d\b.* 0% packet loss`, "sh", "-c", "ping -n -c 2 -i 0.2 -W 5 "+lab.Far64+" | tr '\\n' ' '"),
		command("long ping", `8008 bytes from.* 0% packet loss`, "sh", "-c", "ping -n -c 2 -i 0.2 -W 5 -s 8000 "+lab.Far64+" | tr '\\n' ' '"),
		command("TCP port closed", "fails:Connection refused", connecting(lab.Far64, lab.PortClosed, 8)...),
		command("UDP port closed", "fails:Connection refused", knocking(lab.Far64)...),
		command("IPv6 as ever", lab.Hello, web("["+lab.Tgt6+"]")...),
		command("DNS of the gateway", `\s10\.77\.9\.2\s`, asking(lab.Gateway4, lab.NameTgt, "A")...),
		command("the cloud's metadata", "fails:No route to host", connecting(lab.Metadata4, lab.PortHTTP, 8)...),
		command("the host itself by the prefix", "fails:Permission denied|No route to host", connecting("64:ff9b::"+lab.Srv4, lab.PortHTTP, 8)...),
	)
}

// newTranslated is a rig whose server has IPv6 only, in a network where tayga
// translates between it and lab.Beyond64, with proxies there.
func newTranslated(t *testing.T, proxies []int, settings ...string) *rig {
	t.Helper()
	r := newLab(t, 1, settings...)
	r.must(r.Srv.IP("addr del "+lab.SrvIn4+"/24 dev eth0", "route add default via "+lab.Tgt6))
	starts := []func() (*lab.Process, error){r.StartNAT64}
	for _, port := range proxies {
		starts = append(starts, func() (*lab.Process, error) { return r.StartProxy(port) })
	}
	for _, start := range starts {
		p, err := start()
		if errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") != "true" {
			t.Skip(err)
		}
		r.must(err)
		t.Cleanup(func() {
			p.End(15, 5*time.Second)
			if t.Failed() {
				t.Log(tail(p.Story()))
			}
		})
	}
	r.must(r.OpenPing(true))
	r.must(r.Srv.SetResolvers(lab.Tgt6))
	return r
}

// TestTranslated is IPv4 for clients through a translator as networks have it.
func TestTranslated(t *testing.T) {
	rocservOnly(t, "the kernel forwards packets")
	t.Parallel()
	r := newTranslated(t, nil)
	r.start()
	c := r.connect(lab.Dial{})
	ip4, ip6, err := c.Addresses()
	r.must(err)
	if ip4 == "" || ip6 == "" {
		t.Fatalf("the client has '%s' and '%s'", ip4, ip6)
	}
	r.each(c,
		command("HTTP", lab.Hello, web(lab.Beyond64)...),
		check{"UDP of every size", echoing(lab.Beyond64, 0, 1, 1300, 3000)},
		command("DNS of a server beyond", `\s10\.77\.9\.2\s`, asking(lab.Beyond64, lab.NameTgt, "A")...),
		command("DNS of the gateway", `\s10\.77\.9\.2\s`, asking(lab.Gateway4, lab.NameTgt, "A")...),
		command("ping", `ttl=6\d\b.* 0% packet loss`, "sh", "-c", "ping -n -c 2 -i 0.2 -W 5 "+lab.Beyond64+" | tr '\\n' ' '"),
		// Not longer than a packet: RFC 7915 section 1.2.
		command("long ping", `1408 bytes from.* 0% packet loss`, "sh", "-c", "ping -n -c 2 -i 0.2 -W 5 -s 1400 "+lab.Beyond64+" | tr '\\n' ' '"),
		command("TCP port closed", "fails:Connection refused", connecting(lab.Beyond64, lab.PortClosed, 8)...),
		command("UDP port closed", "fails:Connection refused", knocking(lab.Beyond64)...),
		check{"bytes both ways", func(_ *rig, c *lab.Client) error {
			done, err := lab.Fetch(c.From, 40*time.Second,
				lab.Transfer{Host: lab.Beyond64, Bytes: 3 << 20}, lab.Transfer{Host: lab.Beyond64, Bytes: 3 << 20, Upload: true})
			for _, d := range done {
				if d.Err != "" {
					err = errors.Join(err, errors.New(d.Err))
				}
			}
			return err
		}},
		command("IPv6 as ever", lab.Hello, web("["+lab.Tgt6+"]")...),
	)
}

// Proxies and resolvers that the configuration names by IPv4 addresses are
// reached by the translator too.
func TestTranslatedWays(t *testing.T) {
	rocservOnly(t, "it has no ways but the host's")
	t.Parallel()
	const at = lab.Beyond64
	r := newTranslated(t, []int{lab.PortDante, lab.PortSquid}, "dns = 198.51.100.53",
		"egress = socks socks5://"+at+":1080", "egress = web http://"+at+":3128",
		"egress-via = socks for "+lab.Behind4+"/32", "egress-via = web for "+lab.Behind6+"/128",
		"resolver = "+at)
	r.must(r.AddBehind())
	r.start()
	c := r.connect(lab.Dial{})
	r.each(c,
		command("HTTP through SOCKS5", lab.Hello, web(lab.Behind4)...),
		check{"UDP through SOCKS5", echoing(lab.Behind4, 1, 1300)},
		command("HTTP through an HTTP proxy", lab.Hello, web("["+lab.Behind6+"]")...),
		command("DNS of the gateway", `\s10\.77\.9\.2\s`, asking(lab.Gateway4, lab.NameTgt, "A")...),
		command("DNS over TCP of the gateway", `;; ANSWER SECTION`, asking(lab.Gateway4, lab.NameBig, "TXT")...),
	)
}

// TestNoNAT64: without one, IPv4 is not offered.
func TestNoNAT64(t *testing.T) {
	rocservOnly(t, "the kernel forwards packets")
	t.Parallel()
	r := newV6Only(t)
	r.must(r.Srv.SetResolvers(lab.Silent6)) // nobody knows of a prefix
	r.start()
	c := r.connect(lab.Dial{})
	ip4, ip6, err := c.Addresses()
	r.must(err)
	if ip4 != "" || ip6 == "" {
		t.Errorf("the client has '%s' and '%s'", ip4, ip6)
	}
	r.each(c, hello6)
}
