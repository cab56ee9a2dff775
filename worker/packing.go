package worker

import (
	"rocserv/internal/ipc"
	"rocserv/internal/wire"
	"rocserv/worker/compress"
)

// packing is how packets are compressed on a session's channels.
type packing struct {
	cstp, dtls compress.Algorithm // none: they are not
	limit      int                // shorter packets are left as they are
	most       int                // no packet of the client is longer
}

// packingOf settles what a client and its virtual host can both do.
func packingOf(v *ipc.Vhost, c *wire.Connect) packing {
	return packing{
		cstp: compress.Choose(v.Compression, c.Encodings), dtls: compress.Choose(v.Compression, c.DTLS.Encodings),
		limit: int(v.NoCompressLimit),
	}
}

// packed has data packets leave by to compressed, where they become shorter by it.
func packed(to sender, a compress.Algorithm, limit int) sender {
	if a == "" {
		return to
	}
	return &packer{sender: to, by: compress.NewCompressor(a), limit: limit}
}

// packer is a sender that compresses.
type packer struct {
	sender
	by    *compress.Compressor
	limit int
	room  []byte
}

func (p *packer) Next(n int) []byte {
	if n > len(p.room) {
		p.room = make([]byte, max(n, 2048))
	}
	return p.room[:n]
}

func (p *packer) Add(typ wire.PacketType, n int) {
	to, pkt := p.sender.Next(n), p.room[:n]
	if typ == wire.Data && n >= p.limit {
		if m := p.by.Compress(to, pkt); m > 0 {
			p.sender.Add(wire.Compressed, m)
			return
		}
	}
	copy(to, pkt)
	p.sender.Add(typ, n)
}

// unpackRoom is for the packets of a batch that came compressed.
const unpackRoom = 64 << 10

// unpacker has the packets of a batch that came compressed.
type unpacker struct {
	room []byte
	used int
}

// unpack takes a compressed packet of the client as up takes others. However much
// a batch would become, it is no more than unpackRoom at a time.
func (t *tunnel) unpack(a compress.Algorithm, b []byte) {
	u := &t.unpacker
	if len(u.room)-u.used < t.packing.most {
		if u.room == nil {
			u.room = make([]byte, max(unpackRoom, t.packing.most))
		} else {
			t.endUp() // which is done with what is there
		}
		u.used = 0
	}
	end := u.used + t.packing.most
	n, err := a.Decompress(u.room[u.used:end:end], b)
	if err != nil {
		t.counters.malformed.Add(1)
		return
	}
	t.up(u.room[u.used : u.used+n : u.used+n])
	u.used += n
}
