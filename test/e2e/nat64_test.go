//go:build e2e

package e2e

import (
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
