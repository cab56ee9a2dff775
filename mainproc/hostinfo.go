package mainproc

import (
	"bytes"
	"cmp"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"rocserv/internal/ipc"
)

const (
	hostPoll     = 5 * time.Second
	resolvConf   = "/etc/resolv.conf"
	maxResolvers = 8
	maxOwnNets   = 2500 // of 20 bytes each: a record holds them
	dnsPort      = 53
)

// readHostInfo finds out what a confined worker cannot.
func readHostInfo() *ipc.HostInfo {
	h := &ipc.HostInfo{Ipv4Out: wayOut(unix.AF_INET), Ipv6Out: wayOut(unix.AF_INET6)}
	nets := localSubnets()
	for _, n := range nets[:min(len(nets), maxOwnNets)] {
		h.OwnNets = append(h.OwnNets, ipc.PutPrefix(n))
	}
	conf, _ := os.ReadFile(resolvConf) // without one the local host is the resolver
	for _, a := range parseResolvConf(conf) {
		h.Resolvers = append(h.Resolvers, ipc.PutAddrPort(a))
	}
	for _, p := range clusterAPI(os.Getenv("KUBERNETES_SERVICE_HOST")) {
		h.Denied = append(h.Denied, ipc.PutPrefix(p))
	}
	return h
}

// localSubnets returns address and prefix length of every interface address, sorted.
func localSubnets() []netip.Prefix {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var list []netip.Prefix
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		if !ok {
			continue
		}
		ip = ip.Unmap()
		ones, bits := n.Mask.Size()
		if bits == 128 && ip.Is4() {
			ones -= 96
		}
		if p := netip.PrefixFrom(ip, ones); p.IsValid() {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return slices.Compact(list)
}

// wayOut says whether the host has a route to the world for that family. To
// connect a UDP socket asks the routing table and sends nothing. The targets
// are addresses of the root name servers A.
func wayOut(family int) bool {
	var world unix.Sockaddr = &unix.SockaddrInet4{Port: dnsPort, Addr: netip.MustParseAddr("198.41.0.4").As4()}
	if family == unix.AF_INET6 {
		world = &unix.SockaddrInet6{Port: dnsPort, Addr: netip.MustParseAddr("2001:503:ba3e::2:30").As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.Connect(fd, world) == nil
}

// parseResolvConf returns the name servers of a resolv.conf(5). Without any
// the local host is meant. One whose scope is an interface is left out: a
// message has no place for the scope.
func parseResolvConf(b []byte) []netip.AddrPort {
	var list []netip.AddrPort
	for line := range bytes.Lines(b) {
		f := strings.Fields(string(line))
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		a, err := netip.ParseAddr(f[1])
		if err != nil || a.Zone() != "" {
			continue
		}
		if s := netip.AddrPortFrom(a.Unmap(), dnsPort); !slices.Contains(list, s) && len(list) < maxResolvers {
			list = append(list, s)
		}
	}
	if list == nil {
		list = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dnsPort)}
	}
	return list
}

// clusterAPI returns the address of Kubernetes' API as a prefix of one address.
func clusterAPI(host string) []netip.Prefix {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return nil
	}
	a = a.Unmap().WithZone("")
	return []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}
}

// offered says which families clients are offered: those with a way out, or
// both on a host that has none at all, where a private network is all there is.
func offered(h *ipc.HostInfo) (v4, v6 bool) {
	if !h.Ipv4Out && !h.Ipv6Out {
		return true, true
	}
	return h.Ipv4Out || len(h.Nat64) > 0, h.Ipv6Out
}

// watchHost reads the host's state again and again.
func (s *server) watchHost() {
	t := time.NewTicker(hostPoll)
	defer t.Stop()
	for {
		select {
		case <-s.ended:
			return
		case <-t.C:
			s.setHost(s.readHost())
			s.credits.size(sharedPorts(), s.maxWorkers())
		}
	}
}

// setHost tells the workers if something changed.
func (s *server) setHost(h *ipc.HostInfo) {
	if old := s.host.Load(); old != nil && proto.Equal(h, old) {
		return
	}
	if s.host.Swap(h) != nil {
		s.log.Info("the host's addresses, routes or resolvers changed")
		s.bans.SetPolicy(banPolicy(s.settings()))
	}
	if len(h.OwnNets) == maxOwnNets {
		s.log.Warn("this host has more addresses than workers are told; clients can reach the rest", "told", maxOwnNets)
	}
	for _, w := range s.workers.assigned() {
		w.tell(ipc.HostInfoT, h)
	}
}
