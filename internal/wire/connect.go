package wire

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
)

// ErrNoCookie is returned for a CONNECT without a session cookie.
var ErrNoCookie = errors.New("wire: CONNECT without session cookie")

const (
	maxSuites    = 64 // names of one list
	maxHints     = 4
	maxClientMTU = 1 << 16 // larger numbers are this one
)

// Connect is a client's request for the tunnel. Except for the cookie
// everything is optional, and everything is the client's word.
type Connect struct {
	SID        Secret // 32 bytes
	Hostname   string
	UserAgent  string
	Agent      Agent
	Device     Device
	LinkMTU    int // X-CSTP-Base-MTU, 0: not said
	MTU        int // X-CSTP-MTU, 0: not said
	IPv4, IPv6 bool
	FullIPv6   bool         // knows IPv6 routes and DNS, and X-CSTP-Address-IP6
	Mobile     bool         // X-CSTP-License: mobile
	Hints      []netip.Addr // addresses it had before
	Encodings  []string     // X-CSTP-Accept-Encoding
	DTLS       DTLSOffer
}

// ParseConnect reads a CONNECT request (Request.IsTunnel). It fails with
// ErrNoCookie, ErrSID or an error of Request.Cookie: all of them are answered
// with Unauthorized. Headers that make no sense are as if they were not there.
func ParseConnect(r *Request) (*Connect, error) {
	text, err := r.Cookie(CookieSession)
	if err != nil {
		return nil, err
	}
	if text == "" {
		return nil, ErrNoCookie
	}
	sid, err := ParseSID(text)
	if err != nil {
		return nil, err
	}
	h := r.Header
	c := &Connect{
		SID:       sid,
		Hostname:  fact(h.Get("X-CSTP-Hostname")),
		UserAgent: r.UserAgent(),
		Agent:     ParseAgent(h.Get("User-Agent")),
		Device: Device{
			ID:              fact(h.Get("X-AnyConnect-Identifier-Platform")),
			Type:            fact(h.Get("X-AnyConnect-Identifier-DeviceType")),
			PlatformVersion: fact(h.Get("X-AnyConnect-Identifier-PlatformVersion")),
			UniqueID:        fact(h.Get("X-AnyConnect-Identifier-Device-UniqueID")),
		},
		LinkMTU:   clientMTU(h.Get("X-CSTP-Base-MTU")),
		MTU:       clientMTU(h.Get("X-CSTP-MTU")),
		FullIPv6:  strings.EqualFold(h.Get("X-CSTP-Full-IPv6-Capability"), "true"),
		Mobile:    strings.EqualFold(h.Get("X-CSTP-License"), "mobile"),
		Hints:     hints(h),
		Encodings: list(h.Get("X-CSTP-Accept-Encoding"), ","),
		DTLS: DTLSOffer{
			MasterSecret: masterSecret(h.Get("X-DTLS-Master-Secret")),
			Suites:       list(h.Get("X-DTLS-CipherSuite"), ":"),
			Suites12:     list(h.Get("X-DTLS12-CipherSuite"), ":"),
			Encodings:    list(h.Get("X-DTLS-Accept-Encoding"), ","),
		},
	}
	c.IPv4, c.IPv6 = addressTypes(h)
	return c, nil
}

// Clear wipes what is secret.
func (c *Connect) Clear() {
	c.SID.Clear()
	c.DTLS.MasterSecret.Clear()
}

// addressTypes says which families the client takes; without the header both.
// sslcon spells it in its own way.
func addressTypes(h Header) (ipv4, ipv6 bool) {
	v := h.Get("X-CSTP-Address-Type")
	if v == "" {
		v = h.Get("X-CSTP-VPNAddress-Type")
	}
	if v == "" {
		return true, true
	}
	v = strings.ToLower(v)
	return strings.Contains(v, "ipv4"), strings.Contains(v, "ipv6")
}

func hints(h Header) []netip.Addr {
	var addrs []netip.Addr
	for _, v := range h.Values("X-CSTP-Address") {
		if a, err := netip.ParseAddr(v); err == nil && a.Zone() == "" && len(addrs) < maxHints {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

func clientMTU(v string) int {
	n, _ := decimal(v, maxClientMTU)
	return n
}

// list splits a list and drops what is empty.
func list(v, sep string) []string {
	var names []string
	for name := range strings.SplitSeq(v, sep) {
		if name = strings.TrimSpace(name); name != "" && len(names) < maxSuites {
			names = append(names, name)
		}
	}
	return names
}

// masterSecret decodes X-DTLS-Master-Secret. A short or an all-zero one would
// be a key that everybody knows.
func masterSecret(v string) Secret {
	if len(v) != 2*masterSecretLen {
		return nil
	}
	b, err := hex.DecodeString(v)
	if err != nil {
		return nil
	}
	zero := byte(0)
	for _, c := range b {
		zero |= c
	}
	if zero == 0 {
		return nil
	}
	return b
}
