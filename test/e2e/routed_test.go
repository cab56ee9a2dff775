//go:build e2e

package e2e

import (
	"fmt"
	"testing"

	"rocserv/test/e2e/lab"
)

// newRouted is a rig with two routers and a host behind the server, services on
// that host, and pings allowed.
func newRouted(t *testing.T, clients int, settings ...string) *rig {
	t.Helper()
	l, err := lab.OpenRouted(clients)
	if err != nil {
		t.Fatal(err)
	}
	r := newLabOf(t, l, settings...)
	_, err = lab.StartTarget(l.Routed.Far)
	r.must(err)
	r.must(r.OpenPing(true))
	r.start()
	return r
}

// hops is what a trace of the way to far must show, in the order of the hops.
func hops(gateway, r1, r2, far string) string {
	return fmt.Sprintf(`(?s)\b1[ .|-]+%s\s.*\b2[ .|-]+%s\s.*\b3[ .|-]+%s\s.*\b4[ .|-]+%s\s`,
		quoteDots(gateway), quoteDots(r1), quoteDots(r2), quoteDots(far))
}

var (
	hops4 = hops(lab.Gateway4, lab.R1Addr4, lab.R2Addr4, lab.Far4)
	hops6 = hops(lab.Gateway6, lab.R1Addr6, lab.R2Addr6, lab.Far6)
)

func tracing(addr string, options ...string) []string {
	return append(append([]string{"traceroute", "-n", "-w", "3", "-q", "2", "-m", "6"}, options...), addr)
}

func mtr(addr string, options ...string) []string {
	return append(append([]string{"mtr", "-n", "-r", "-c", "1", "-m", "6"}, options...), addr)
}

func pingOnce(addr string, options ...string) []string {
	return append(append([]string{"ping", "-n", "-c", "2", "-i", "0.3", "-W", "2"}, options...), addr)
}

// knocking sends a datagram to a closed port; who reads then is told.
func knocking(addr string) []string {
	return []string{"bash", "-c", fmt.Sprintf("exec 3<>/dev/udp/%s/%d && echo x >&3 && timeout 3 cat <&3", addr, lab.PortClosed)}
}

// forgetting lets the client forget path MTUs first.
func forgetting(argv ...string) []string {
	return append([]string{"sh", "-c", `ip route flush cache; ip -6 route flush cache; exec "$@"`, "sh"}, argv...)
}

// TestRouted is what routers say, each said to the client by the one who said it.
func TestRouted(t *testing.T) {
	rocservOnly(t, "the kernel forwards packets")
	t.Parallel()
	r := newRouted(t, 1)
	c := r.connect(lab.Dial{})
	closed := fmt.Sprint(lab.PortClosed)
	r.each(c,
		// Each of the next four learns the MTU: what the last one learned is forgotten.
		command("tracepath", `(?s)`+quoteDots(lab.R1Addr4)+`.*pmtu 1300.*`+quoteDots(lab.Far4)+`.*reached`, forgetting("tracepath", "-n", "-m", "6", lab.Far4)...),
		command("tracepath over IPv6", `(?s)`+lab.R1Addr6+`.*pmtu 1300.*`+lab.Far6+`.*reached`, forgetting("tracepath", "-n", "-m", "6", lab.Far6)...),
		command("a smaller MTU on the way", `fails:From `+quoteDots(lab.R2Addr4)+` icmp_seq=1 Frag needed and DF set \(mtu = 1300\)`, forgetting(pingOnce(lab.Far4, "-M", "do", "-s", "1300")...)...),
		command("a smaller MTU on the way, IPv6", `fails:From `+lab.R2Addr6+` icmp_seq=1 Packet too big: mtu=1300`, forgetting(pingOnce(lab.Far6, "-M", "do", "-s", "1300")...)...),
		command("traceroute", hops4, tracing(lab.Far4)...),
		command("traceroute over IPv6", hops6, tracing(lab.Far6)...),
		command("traceroute by ICMP", hops4, tracing(lab.Far4, "-I")...),
		command("traceroute by ICMP over IPv6", hops6, tracing(lab.Far6, "-I")...),
		command("traceroute by TCP", hops4, tracing(lab.Far4, "-T", "-p", fmt.Sprint(lab.PortHTTP))...),
		command("traceroute by TCP over IPv6", hops6, tracing(lab.Far6, "-T", "-p", fmt.Sprint(lab.PortHTTP))...),
		command("traceroute by UDP to one port", hops4, tracing(lab.Far4, "-U", "-p", closed)...),
		command("mtr", hops4, mtr(lab.Far4)...),
		command("mtr over IPv6", hops6, mtr(lab.Far6)...),
		command("mtr by UDP", hops4, mtr(lab.Far4, "-u")...),
		command("mtr by TCP", hops4, mtr(lab.Far4, "-T", "-P", fmt.Sprint(lab.PortHTTP))...),

		command("TTL of a reply", `ttl=61\b.*time=`, pingOnce(lab.Far4)...),
		command("hop limit of a reply", `ttl=61\b.*time=`, pingOnce(lab.Far6)...),
		command("TTL exceeded", `fails:From `+quoteDots(lab.R2Addr4)+` icmp_seq=1 Time to live exceeded`, pingOnce(lab.Far4, "-t", "3")...),
		command("long pings", `8008 bytes from.* 0% packet loss`, append([]string{"sh", "-c"}, "ping -n -c 2 -i 0.3 -s 8000 "+lab.Far4+" | tr '\\n' ' '")...),
		command("long pings over IPv6", `8008 bytes from.* 0% packet loss`, append([]string{"sh", "-c"}, "ping -n -c 2 -i 0.3 -s 8000 "+lab.Far6+" | tr '\\n' ' '")...),
		command("longer than the tunnel, whole", `fails:message too long, mtu=1[34]`, pingOnce(lab.Far4, "-M", "do", "-s", "1472")...),
		command("what fits the smaller MTU", ` 0% packet loss`, pingOnce(lab.Far4, "-M", "do", "-s", "1272")...),
		check{"UDP over the smaller MTU", echoing(lab.Far4, 1, 1250, 1300, 3000)},
		check{"UDP over the smaller MTU, IPv6", echoing(lab.Far6, 1, 1230, 1300, 3000)},

		command("no such host", `fails:From `+quoteDots(lab.R2Addr4)+` icmp_seq=\d Destination Host Unreachable`, pingOnce(lab.FarAbsent4, "-W", "5")...),
		command("no such host, IPv6", `fails:From `+lab.R2Addr6+` icmp_seq=\d Destination unreachable: Address unreachable`, pingOnce(lab.FarAbsent6, "-W", "5")...),
		command("no route", `fails:From `+quoteDots(lab.R2Addr4)+` icmp_seq=\d Destination Host Unreachable`, pingOnce(lab.FarNoRoute4)...),
		command("no route, IPv6", `fails:From `+lab.R2Addr6+` icmp_seq=\d Destination unreachable: (No route|Address unreachable)`, pingOnce(lab.FarNoRoute6)...),
		command("prohibited", `fails:From `+quoteDots(lab.R2Addr4)+` icmp_seq=\d Packet filtered`, pingOnce(lab.FarForbidden4)...),
		command("prohibited, IPv6", `fails:From `+lab.R2Addr6+` icmp_seq=\d Destination unreachable: Administratively prohibited`, pingOnce(lab.FarForbidden6)...),
		command("UDP port unreachable", "fails:Connection refused", knocking(lab.Far4)...),
		command("UDP port unreachable, IPv6", "fails:Connection refused", knocking(lab.Far6)...),
		command("TCP prohibited by a router", "fails:No route to host", connecting(lab.FarForbidden4, lab.PortHTTP, 8)...),
		command("TCP port closed", "fails:Connection refused", connecting(lab.Far4, lab.PortClosed, 2)...),
		command("HTTP over the smaller MTU", lab.Hello, web(lab.Far4)...),
		command("HTTP over the smaller MTU, IPv6", lab.Hello, web("["+lab.Far6+"]")...),
	)
}
