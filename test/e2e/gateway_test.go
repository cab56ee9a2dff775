//go:build e2e

package e2e

import (
	"fmt"
	"testing"

	"rocserv/test/e2e/lab"
)

// The resolvers of the configuration are asked and not the host's, which do not
// answer here; DNS to any other server is answered by the gateway; and a port of
// the gateway leads to a service that clients themselves must not reach.
func TestGatewayServices(t *testing.T) {
	rocservOnly(t, "its gateway address is the host's")
	r := newLab(t, 1, "resolver = "+lab.Tgt4, "client-dns = intercept", "egress-deny = any tcp(80), tcp(53), udp(53)",
		"gateway-forward = tcp:8080 -> tgt.test:80", fmt.Sprintf("gateway-forward = tcp:81 -> [%s]:%d", lab.Tgt6, lab.PortHTTP),
		fmt.Sprintf("gateway-forward = tcp:82 -> %s:%d", lab.Tgt4, lab.PortClosed))
	r.must(r.Srv.SetResolvers(lab.Silent4))
	r.start()
	c := r.connect(lab.Dial{})
	r.each(c, gatewayDNS...)
	r.each(c,
		command("DNS to another server", `\s10\.77\.9\.2\s`, asking(lab.Absent4, lab.NameTgt, "A")...),
		command("over IPv6", `\s10\.77\.9\.2\s`, asking(lab.Absent6, lab.NameTgt, "A")...),
		command("by TCP", `"019 x`, asking(lab.Absent4, lab.NameBig, "TXT", "+tcp")...),
		command("by TCP over IPv6", `"019 x`, asking(lab.Absent6, lab.NameBig, "TXT", "+tcp")...),
		command("the service itself is denied", "fails:Permission denied|No route to host", connecting(lab.Tgt4, lab.PortHTTP, 5)...),
		command("by a port of the gateway", lab.Hello, web(lab.Gateway4+":8080")...),
		command("over IPv6", lab.Hello, web("["+lab.Gateway6+"]:81")...),
		command("a service that is down", "fails:refused", connecting(lab.Gateway4, 82, 5)...),
		command("a port without a line", "fails:refused", connecting(lab.Gateway4, 80, 5)...))
}

// DNS to other servers is refused; the gateway answers.
func TestClientDNSDenied(t *testing.T) {
	rocservOnly(t, "it leaves this to a firewall script of root's")
	r := newRig(t, 1, "client-dns = deny", "egress-allow = any")
	c := r.connect(lab.Dial{})
	r.each(c, gatewayDNS...)
	got, err := lab.Inject(c.From, lab.Injection{Device: c.Device, Packets: []lab.Injected{
		{Proto: "udp", Dst: lab.Tgt4, Port: lab.PortDNS}, {Proto: "tcp", Dst: lab.Tgt4, Port: lab.PortDNS},
		{Proto: "udp", Dst: lab.Tgt6, Port: lab.PortDNS}, {Proto: "tcp", Dst: lab.Tgt4, Port: lab.PortHTTP},
	}})
	r.must(err)
	for i, want := range []string{prohibited4, prohibited4, prohibited6, "open"} {
		if got[i] != want {
			t.Errorf("packet %d: %s, not %s", i, got[i], want)
		}
	}
}
