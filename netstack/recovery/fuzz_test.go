package recovery

import (
	"encoding/binary"
	"testing"
	"time"
)

// FuzzReceived: whatever a client acknowledges, of whatever it never got, the
// books stay right and nothing is let go twice.
func FuzzReceived(f *testing.F) {
	f.Add([]byte{0, 0, 0, 5, 0x56, 0xb4, 1, 4, 0, 0, 30, 0, 0, 60, 0, 1})
	f.Add([]byte{2, 0, 0, 0, 0, 0, 3, 1, 0, 0xff, 0xff})
	f.Add([]byte{0, 0xff, 0xff, 0, 1, 0, 2, 4, 1, 0, 0, 0, 0, 9})
	f.Fuzz(func(t *testing.T, script []byte) {
		script = script[:min(len(script), 2000)]
		r := newRig(t, 1)
		r.down.Loss = 1 // the real client hears nothing
		c := r.dial(1<<20, true)
		for len(script) >= 4 {
			step, at := script[0], binary.BigEndian.Uint16(script[1:])
			window := script[3]
			script = script[4:]
			tcp := make([]byte, 20, 60)
			copy(tcp[:4], c.name.Ports[:])
			binary.BigEndian.PutUint32(tcp[8:], c.iss+1+uint32(at)*uint32(step>>4|1))
			binary.BigEndian.PutUint16(tcp[14:], uint16(window)<<8)
			var opts []byte
			for n := step & 3; n > 0 && len(script) >= 4; n-- {
				from := c.iss + 1 + uint32(binary.BigEndian.Uint16(script))*16
				opts = binary.BigEndian.AppendUint32(opts, from)
				opts = binary.BigEndian.AppendUint32(opts, from+uint32(int16(binary.BigEndian.Uint16(script[2:]))))
				script = script[4:]
			}
			if len(opts) > 0 {
				tcp = append(append(tcp, 1, 1, 5, byte(len(opts)+2)), opts...)
			}
			tcp[12], tcp[13] = byte(len(tcp)/4)<<4, flagACK
			ack := be32(tcp[8:])
			if before(c.una-1, ack) && !before(c.nxt, ack) {
				c.acked(tcp)
			} else {
				r.p.Received(c.name.Addrs[:8], tcp, 0)
			}
			r.p.check(t)
			r.w.run(r.w.now + time.Duration(window)*time.Millisecond)
			r.p.check(t)
		}
		r.p.Forget(c.name)
		if r.held != 0 {
			t.Fatalf("%d segments are held", r.held)
		}
	})
}
