package wire

// Bounds of a tunnel's MTU, bytes of an inner packet.
const (
	MinMTU  = 576  // RFC 791 section 3.1: what every host takes
	MinMTU6 = 1280 // RFC 8200 section 5: below it there is no IPv6 in the tunnel
	MaxMTU  = MaxPayload

	// DefaultLinkMTU is the MTU assumed of a link.
	DefaultLinkMTU = 1500

	// CSTPOverhead is how many bytes a packet grows by on the CSTP channel,
	// without the IP header: TCP with timestamps, a TLS 1.2 record with GCM,
	// the frame's header. One packet is then one TCP segment.
	CSTPOverhead = 32 + (5 + 8 + 16) + HeaderLen
)

// MTU is the pair of sizes a client is told, in bytes.
type MTU struct {
	Link   int // of the path outside, X-CSTP-Base-MTU
	Tunnel int // of an inner packet, X-CSTP-MTU
}

// MTUInput is what they are computed from; 0 means unknown. What comes from the
// client may be any number (ocserv issue 717).
type MTUInput struct {
	Configured int  // of the link, by the operator
	ClientLink int  // X-CSTP-Base-MTU
	Client     int  // X-CSTP-MTU; counts only without the former
	Path       int  // of the TCP connection, TCP_INFO
	Outer6     bool // the client came over IPv6
	Overhead   int  // Suite.Overhead or CSTPOverhead
}

// MTU computes the sizes: the smallest link that anyone knows of, less what a
// packet grows by. The result lies between MinMTU and MaxMTU.
func (in MTUInput) MTU() MTU {
	grow := in.Overhead + 20 // IPv4
	if in.Outer6 {
		grow += 20
	}
	link := DefaultLinkMTU
	if in.Configured > 0 {
		link = in.Configured
	}
	switch {
	case in.ClientLink > 0:
		link = min(link, in.ClientLink)
	case in.Client > 0:
		link = min(link, min(in.Client, MaxMTU)+grow)
	}
	if in.Path > 0 {
		link = min(link, in.Path)
	}
	link = min(max(link, MinMTU+grow), MaxMTU+grow)
	return MTU{Link: link, Tunnel: link - grow}
}
