package lab

import "fmt"

// A lab with routers has a second network behind the server:
//
//	srv ─── r1 ─── r2 ─── far
//	   10.79.1   .2    .3        fd79:1::, fd79:2::, fd79:3::
//
// The server's end of each wire is .1 (::1), the far end .2 (::2). The last
// wire takes FarMTU bytes; routers answer as often as they are asked.
const (
	R1Addr4, R1Addr6       = "10.79.1.2", "fd79:1::2"
	R2Addr4, R2Addr6       = "10.79.2.2", "fd79:2::2"
	Far4, Far6             = "10.79.3.2", "fd79:3::2"
	FarAbsent4, FarAbsent6 = "10.79.3.99", "fd79:3::99" // on the last wire, but nobody's
	FarNoRoute4            = "10.79.9.9"                // r2 has no route there
	FarNoRoute6            = "fd79:9::9"
	FarForbidden4          = "10.79.8.8" // r2 says "prohibited"
	FarForbidden6          = "fd79:8::8"
	FarMTU                 = 1300
)

// routed are the namespaces of the second network.
type routed struct {
	R1, R2, Far Netns
}

// OpenRouted makes a lab with the second network.
func OpenRouted(clients int) (*Lab, error) {
	return open(clients, func(l *Lab, prefix string) {
		l.Routed = &routed{R1: Netns{prefix + "-r1"}, R2: Netns{prefix + "-r2"}, Far: Netns{prefix + "-far"}}
	})
}

func (r *routed) namespaces() []Netns {
	if r == nil {
		return nil
	}
	return []Netns{r.R1, r.R2, r.Far}
}

// wireRouted makes the second network.
func (l *Lab) wireRouted() error {
	r := l.Routed
	wires := []struct {
		near, far Netns
		dev, peer string
	}{{l.Srv, r.R1, "far0", "near0"}, {r.R1, r.R2, "far0", "near0"}, {r.R2, r.Far, "far0", "near0"}}
	for i, w := range wires {
		mtu := 1500
		if i == len(wires)-1 {
			mtu = FarMTU
		}
		if err := w.near.IP(
			"link set lo up",
			fmt.Sprintf("link add %s mtu %d type veth peer name %s mtu %d netns %s", w.dev, mtu, w.peer, mtu, w.far.Name),
			fmt.Sprintf("link set %s up", w.dev),
			fmt.Sprintf("addr add 10.79.%d.1/24 dev %s", i+1, w.dev),
			fmt.Sprintf("addr add fd79:%d::1/64 dev %s", i+1, w.dev)); err != nil {
			return err
		}
		if err := w.far.IP("link set lo up", fmt.Sprintf("link set %s up", w.peer),
			fmt.Sprintf("addr add 10.79.%d.2/24 dev %s", i+1, w.peer),
			fmt.Sprintf("addr add fd79:%d::2/64 dev %s", i+1, w.peer)); err != nil {
			return err
		}
	}
	return l.routeRouted()
}

func (l *Lab) routeRouted() error {
	r := l.Routed
	for _, step := range []struct {
		in    Netns
		lines []string
	}{
		{l.Srv, []string{"route add 10.79.0.0/16 via " + R1Addr4, "route add fd79::/16 via " + R1Addr6}},
		{r.R1, []string{"route add 10.79.0.0/16 via " + R2Addr4, "route add fd79::/16 via " + R2Addr6}},
		{r.R2, []string{"route add 10.79.1.0/24 via 10.79.2.1", "route add fd79:1::/64 via fd79:2::1",
			"route add unreachable " + FarNoRoute4, "route add unreachable " + FarNoRoute6,
			"route add prohibit " + FarForbidden4, "route add prohibit " + FarForbidden6}},
		{r.Far, []string{"route add default via 10.79.3.1", "route add default via fd79:3::1"}},
	} {
		if err := step.in.IP(step.lines...); err != nil {
			return err
		}
		if step.in == l.Srv {
			continue
		}
		if err := step.in.Sysctl("net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1",
			"net/ipv4/icmp_ratelimit=0", "net/ipv6/icmp/ratelimit=0"); err != nil {
			return err
		}
	}
	return nil
}
