package packet

// Sink takes packets towards the client, a batch at a time. The worker's
// tunnel implements it on top of the channel in use; netstack, its datagram
// relay and its gateway write to it.
//
//	s.Begin()
//	for each packet {
//		b := s.Next(n)   // build the packet in b
//		s.Add(len)       // len ≤ n bytes of it are the packet
//	}
//	s.End()
//
// A Sink never drops for want of room: Begin, Add and End block until the
// channel takes more, and return at once when the tunnel is closed (what was
// added is then gone). One batch is open at a time; who calls Begin holds the
// Sink until End, so nothing slow belongs in between.
type Sink interface {
	Begin()
	// Next returns n bytes for one packet, n at most MaxPacket. What stands in
	// front of and behind the slice belongs to the channel (headers, tags). The
	// content is arbitrary; the slice is valid until Add, Next or End.
	Next(n int) []byte
	// Add says that the first n bytes of the slice are a complete IP packet.
	Add(n int)
	End()
}

// MaxPacket is the longest packet a Sink takes, in bytes. It is more than any
// tunnel MTU: one too long for DTLS goes by CSTP.
const MaxPacket = 16384 - 64
