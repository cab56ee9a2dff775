package lab

import "fmt"

// A lab with a distant client has two routers between its one client and the
// server, as a client behind a home router has:
//
//	srv ─── outer ─── inner ─── cli1
//	   10.77.1    10.77.6   10.77.5        fd77:1::, fd77:6::, fd77:5::
const (
	DistantAddr4, DistantAddr6 = "10.77.5.2", "fd77:5::2" // the client's
	OuterAddr4, OuterAddr6     = "10.77.1.200", "fd77:1::c8"
)

// distant are the routers.
type distant struct {
	Outer, Inner Netns
}

// OpenDistant makes a lab with one client, behind routers.
func OpenDistant() (*Lab, error) {
	return open(1, func(l *Lab, prefix string) {
		l.Distant = &distant{Outer: Netns{prefix + "-outer"}, Inner: Netns{prefix + "-inner"}}
	})
}

func (d *distant) namespaces() []Netns {
	if d == nil {
		return nil
	}
	return []Netns{d.Outer, d.Inner}
}

// wireDistant takes the client off the server's wire and puts it behind the routers.
func (l *Lab) wireDistant() error {
	d, cli := l.Distant, l.Cli[0]
	for _, step := range []struct {
		in    Netns
		lines []string
	}{
		{cli, []string{"addr flush dev eth0", "link set eth0 down"}},
		{l.Srv, []string{
			"link add outer type veth peer name wan0 netns " + d.Outer.Name, "link set outer master br0 up",
		}},
		{d.Outer, []string{
			"link set lo up", "link set wan0 up", "addr add " + OuterAddr4 + "/24 dev wan0", "addr add " + OuterAddr6 + "/64 dev wan0",
			"link add lan0 type veth peer name wan0 netns " + d.Inner.Name,
			"link set lan0 up", "addr add 10.77.6.1/24 dev lan0", "addr add fd77:6::1/64 dev lan0",
			"route add 10.77.5.0/24 via 10.77.6.2", "route add fd77:5::/64 via fd77:6::2",
		}},
		{d.Inner, []string{
			"link set lo up", "link set wan0 up", "addr add 10.77.6.2/24 dev wan0", "addr add fd77:6::2/64 dev wan0",
			"link add lan0 type veth peer name eth1 netns " + cli.Name,
			"link set lan0 up", "addr add 10.77.5.1/24 dev lan0", "addr add fd77:5::1/64 dev lan0",
			"route add 10.77.1.0/24 via 10.77.6.1", "route add fd77:1::/64 via fd77:6::1",
		}},
		{cli, []string{
			"link set eth1 up", "addr add " + DistantAddr4 + "/24 dev eth1", "addr add " + DistantAddr6 + "/64 dev eth1",
			"route add 10.77.1.0/24 via 10.77.5.1", "route add fd77:1::/64 via fd77:5::1",
		}},
		{l.Srv, []string{
			"route add 10.77.5.0/24 via " + OuterAddr4, "route add fd77:5::/64 via " + OuterAddr6,
			"route add 10.77.6.0/24 via " + OuterAddr4, "route add fd77:6::/64 via " + OuterAddr6,
		}},
	} {
		if err := step.in.IP(step.lines...); err != nil {
			return err
		}
	}
	for _, n := range d.namespaces() {
		if err := n.Sysctl("net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1",
			"net/ipv4/icmp_ratelimit=0", "net/ipv6/icmp/ratelimit=0"); err != nil {
			return err
		}
	}
	return nil
}

// Narrow makes the wire between the routers take packets of mtu bytes. If tell
// is false they drop what is longer without a word.
func (d *distant) Narrow(mtu int, tell bool) error {
	if !tell {
		for _, n := range d.namespaces() {
			if err := n.Nft("silent", "output icmp type destination-unreachable drop", "output icmpv6 type packet-too-big drop"); err != nil {
				return err
			}
		}
	}
	if err := d.Outer.IP(fmt.Sprintf("link set lan0 mtu %d", mtu)); err != nil {
		return err
	}
	return d.Inner.IP(fmt.Sprintf("link set wan0 mtu %d", mtu))
}
