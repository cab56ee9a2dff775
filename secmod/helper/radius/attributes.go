package radius

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc3162"
	"layeh.com/radius/rfc4818"
	"layeh.com/radius/rfc6911"

	"rocserv/secmod/helper"
)

// Attributes of vendors, by their numbers of IANA.
const (
	microsoft    = 311 // RFC 2548 sections 2.7.6 and 2.7.7
	msDNS1       = 28
	msDNS2       = 29
	roaring      = 10055 // Roaring Penguin: dictionary.roaringpenguin of FreeRADIUS
	rpUpstream   = 1
	rpDownstream = 2
)

const maxGroups = 32 // of a user (ocserv, MAX_GROUPS)

// groups are the user's: each Class is one, or a list "OU=a;b" (ocserv).
func groups(p *radius.Packet, separator string) (list []string) {
	classes, _ := rfc2865.Class_Gets(p)
	for _, c := range classes {
		names := []string{string(c)}
		if ous, ok := strings.CutPrefix(string(c), "OU="); ok {
			names = strings.Split(ous, separator)
		}
		for _, n := range names {
			if n = strings.TrimSpace(n); n != "" && len(list) < maxGroups {
				list = append(list, n)
			}
		}
	}
	return list
}

// grant is what the server says of the session. What cannot be read is left out.
func grant(p *radius.Packet) (g helper.Grant) {
	g.IPv4 = framedIPv4(p)
	if mask, err := rfc2865.FramedIPNetmask_Lookup(p); err == nil {
		if ones, size := net.IPMask(mask.To4()).Size(); size == 32 {
			g.Bits4 = ones
		}
	}
	if a, err := rfc6911.FramedIPv6Address_Lookup(p); err == nil {
		g.IPv6 = addr(a)
	}
	if n, err := rfc4818.DelegatedIPv6Prefix_Lookup(p); err == nil {
		g.Net6 = prefix(n)
	}
	g.Routes = routes(p)
	g.DNS = append(vendorAddrs(p), dns6(p)...)
	seconds := func(n uint32, err error) time.Duration {
		if err != nil {
			return 0
		}
		return time.Duration(n) * time.Second
	}
	session, err := rfc2865.SessionTimeout_Lookup(p)
	g.SessionTimeout = seconds(uint32(session), err)
	idle, err := rfc2865.IdleTimeout_Lookup(p)
	g.IdleTimeout = seconds(uint32(idle), err)
	interim, err := rfc2869.AcctInterimInterval_Lookup(p)
	g.Interim = seconds(uint32(interim), err)
	const kilo = 1000
	g.RxPerSec = kilo * uint64(vendorNumber(p, roaring, rpUpstream))
	g.TxPerSec = kilo * uint64(vendorNumber(p, roaring, rpDownstream))
	return g
}

// framedIPv4 is the address, unless it says that any will do (RFC 2865 section 5.8).
func framedIPv4(p *radius.Packet) netip.Addr {
	a, err := rfc2865.FramedIPAddress_Lookup(p)
	if err != nil {
		return netip.Addr{}
	}
	ip := addr(a)
	if ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || ip == netip.AddrFrom4([4]byte{255, 255, 255, 254}) {
		return netip.Addr{}
	}
	return ip
}

func addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func prefix(n *net.IPNet) netip.Prefix {
	ones, _ := n.Mask.Size()
	p := netip.PrefixFrom(addr(n.IP), ones)
	if !p.IsValid() {
		return netip.Prefix{}
	}
	return p.Masked()
}

// routes are those of Framed-Route ("10.1.0.0/16 0.0.0.0 1", RFC 2865 section
// 5.22), Framed-IPv6-Route (RFC 3162), Framed-IPv6-Prefix and Route-IPv6-Information
// (RFC 6911).
func routes(p *radius.Packet) (list []netip.Prefix) {
	texts, _ := rfc2865.FramedRoute_GetStrings(p)
	texts6, _ := rfc3162.FramedIPv6Route_GetStrings(p)
	for _, t := range append(texts, texts6...) {
		if r, ok := route(t); ok {
			list = append(list, r)
		}
	}
	nets, _ := rfc3162.FramedIPv6Prefix_Gets(p)
	more, _ := rfc6911.RouteIPv6Information_Gets(p)
	for _, n := range append(nets, more...) {
		if r := prefix(n); r.IsValid() {
			list = append(list, r)
		}
	}
	return list
}

// route reads the destination of a route. Without a length it is that of the
// address's class (RFC 2865 section 5.22).
func route(text string) (netip.Prefix, bool) {
	fields := strings.Fields(strings.Trim(text, "\x00"))
	if len(fields) == 0 {
		return netip.Prefix{}, false
	}
	if r, err := netip.ParsePrefix(fields[0]); err == nil {
		return r.Masked(), true
	}
	a, err := netip.ParseAddr(fields[0])
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	bits := 128
	if a.Is4() {
		switch first := a.As4()[0]; {
		case first < 128:
			bits = 8
		case first < 192:
			bits = 16
		case first < 224:
			bits = 24
		default:
			bits = 32
		}
	}
	return netip.PrefixFrom(a, bits).Masked(), true
}

// vendorAddrs are the DNS servers of Microsoft's attributes.
func vendorAddrs(p *radius.Packet) (list []netip.Addr) {
	for _, kind := range []byte{msDNS1, msDNS2} {
		if v := vendorValue(p, microsoft, kind); len(v) == 4 {
			if a, ok := netip.AddrFromSlice(v); ok && !a.IsUnspecified() {
				list = append(list, a)
			}
		}
	}
	return list
}

func dns6(p *radius.Packet) (list []netip.Addr) {
	ips, _ := rfc6911.DNSServerIPv6Address_Gets(p)
	for _, ip := range ips {
		if a := addr(ip); a.Is6() {
			list = append(list, a)
		}
	}
	return list
}

func vendorNumber(p *radius.Packet, vendor uint32, kind byte) uint32 {
	if v := vendorValue(p, vendor, kind); len(v) == 4 {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

// vendorValue is the first value of a vendor's attribute (RFC 2865 section 5.26).
func vendorValue(p *radius.Packet, vendor uint32, kind byte) []byte {
	for _, a := range p.Attributes {
		if a.Type != rfc2865.VendorSpecific_Type {
			continue
		}
		id, rest, err := radius.VendorSpecific(a.Attribute)
		if err != nil || id != vendor {
			continue
		}
		for len(rest) >= 2 && int(rest[1]) >= 2 && int(rest[1]) <= len(rest) {
			if rest[0] == kind {
				return rest[2:rest[1]]
			}
			rest = rest[rest[1]:]
		}
	}
	return nil
}
