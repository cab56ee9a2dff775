package ipc

import "net/netip"

// The forms addresses have in messages. The parsers return the zero value for
// bytes that are no address; callers check IsValid.

// PutAddr, PutAddrPort and PutPrefix encode; the zero value becomes nil.
func PutAddr(a netip.Addr) []byte {
	if !a.IsValid() {
		return nil
	}
	return a.AsSlice()
}

func PutAddrPort(a netip.AddrPort) []byte {
	if !a.IsValid() {
		return nil
	}
	b, _ := netip.AddrPortFrom(a.Addr().WithZone(""), a.Port()).MarshalBinary()
	return b
}

func PutPrefix(p netip.Prefix) []byte {
	if !p.IsValid() {
		return nil
	}
	b, _ := p.MarshalBinary()
	return b
}

// Addr, AddrPort and Prefix decode.
func Addr(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}

func AddrPort(b []byte) (a netip.AddrPort) {
	if len(b) != 4+2 && len(b) != 16+2 || a.UnmarshalBinary(b) != nil {
		return netip.AddrPort{} // longer would be a zone
	}
	return a
}

func Prefix(b []byte) (p netip.Prefix) {
	if len(b) != 4+1 && len(b) != 16+1 || p.UnmarshalBinary(b) != nil || !p.IsValid() {
		return netip.Prefix{}
	}
	return p
}

// Addrs and Prefixes decode lists, leaving out what is no address.
func Addrs(bs [][]byte) (list []netip.Addr) {
	for _, b := range bs {
		if a := Addr(b); a.IsValid() {
			list = append(list, a)
		}
	}
	return list
}

func AddrPorts(bs [][]byte) (list []netip.AddrPort) {
	for _, b := range bs {
		if a := AddrPort(b); a.IsValid() {
			list = append(list, a)
		}
	}
	return list
}

func Prefixes(bs [][]byte) (list []netip.Prefix) {
	for _, b := range bs {
		if p := Prefix(b); p.IsValid() {
			list = append(list, p)
		}
	}
	return list
}
