package quickstart

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// host is what a state depends on of the machine and the person.
type host struct {
	env        func(string) string
	name       string         // may be empty
	addrs      []netip.Prefix // of the interfaces
	routes     []netip.Prefix // of the main table, without the default route
	firstPort  int            // that needs no privilege
	privileged bool           // every port may be bound
	now        func() time.Time
	intn       func(n int) int
}

func thisHost() *host {
	h := &host{env: os.Getenv, firstPort: 1024, privileged: mayBindAll(), now: time.Now, intn: mathrand.IntN}
	h.name, _ = os.Hostname()
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			h.firstPort = n
		}
	}
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				h.addrs = append(h.addrs, p)
			}
		}
	}
	if b, err := os.ReadFile("/proc/net/route"); err == nil {
		h.routes = parseRoutes(string(b))
	}
	return h
}

// mayBindAll tells whether this process has CAP_NET_BIND_SERVICE in effect.
func mayBindAll() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_NET_BIND_SERVICE) != 0
}

// parseRoutes reads /proc/net/route. Destination and mask are hexadecimal
// numbers whose bytes in memory are the address.
func parseRoutes(table string) []netip.Prefix {
	var routes []netip.Prefix
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 8 {
			continue
		}
		dst, err1 := strconv.ParseUint(fields[1], 16, 32)
		mask, err2 := strconv.ParseUint(fields[7], 16, 32)
		if err1 != nil || err2 != nil || mask == 0 {
			continue
		}
		var d, m [4]byte
		binary.NativeEndian.PutUint32(d[:], uint32(dst))
		binary.NativeEndian.PutUint32(m[:], uint32(mask))
		n := bits.LeadingZeros32(^binary.BigEndian.Uint32(m[:]))
		routes = append(routes, netip.PrefixFrom(netip.AddrFrom4(d), n).Masked())
	}
	return routes
}

// addresses are the host's own as others may know them: no loopback, no link-local.
func (h *host) addresses() []netip.Addr {
	var list []netip.Addr
	for _, p := range h.addrs {
		if a := p.Addr().Unmap(); a.IsGlobalUnicast() {
			list = append(list, a)
		}
	}
	return list
}

// pool4 chooses a /24 that overlaps no network the host is in or has a route
// to: at random within 10.0.0.0/8, where few look, else elsewhere. If all is
// taken it is one of the first.
func (h *host) pool4() netip.Prefix {
	first := h.try(10)
	for range 200 {
		if p := h.try(10); h.free(p) {
			return p
		}
	}
	for _, block := range []byte{172, 192, 100} {
		for range 200 {
			if p := h.try(block); h.free(p) {
				return p
			}
		}
	}
	return first
}

// try returns a random /24 of the private (RFC 1918) or shared (RFC 6598)
// block that begins with this byte. Of 10.0.0.0/8 the low part is left to the
// habits of routers and clouds.
func (h *host) try(block byte) netip.Prefix {
	second := 64 + h.intn(192)
	switch block {
	case 172:
		second = 16 + h.intn(16)
	case 192:
		second = 168
	case 100:
		second = 64 + h.intn(64)
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{block, byte(second), byte(h.intn(256)), 0}), 24)
}

func (h *host) free(p netip.Prefix) bool {
	for _, list := range [][]netip.Prefix{h.addrs, h.routes} {
		for _, q := range list {
			if p.Overlaps(q) {
				return false
			}
		}
	}
	return true
}

// pool6 is the first /64 of a random unique local /48 (RFC 4193 section 3.2.2).
func pool6() netip.Prefix {
	a := [16]byte{0: 0xfd}
	_, _ = rand.Read(a[1:6]) // never fails
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}
