package cstp

import (
	"fmt"

	"rocserv/internal/wire"
)

// batch collects the frames of one wake-up. buf[:w] is what was read, buf[:r]
// is parsed; the packets point into it.
type batch struct {
	buf     []byte
	r, w    int
	packets []wire.Packet
	grow    bool // the buffer was too small for what there was
}

// parse takes whole frames out of what was read.
func (b *batch) parse() error {
	for b.w-b.r >= wire.HeaderLen {
		typ, n, err := wire.ParseHeader(b.buf[b.r:b.w])
		if err != nil {
			return fmt.Errorf("%w: %w", ErrFrame, err)
		}
		end := b.r + wire.HeaderLen + n
		if end > b.w {
			return nil
		}
		b.packets = append(b.packets, wire.Packet{Type: typ, Payload: b.buf[b.r+wire.HeaderLen : end : end]})
		b.r = end
	}
	return nil
}

// room says whether another record fits.
func (b *batch) room() bool {
	if len(b.buf)-b.w >= batchSlack {
		return true
	}
	b.grow = true
	return false
}

// deliver gives the packets to r and starts anew with what is left of a frame. It
// returns how many packets there were, and how long with their headers.
func (b *batch) deliver(r Receiver) (n, length int) {
	if n, length = len(b.packets), b.r; n > 0 {
		r.Packets(b.packets)
	}
	b.packets = b.packets[:0]
	rest := b.buf[b.r:b.w]
	if b.grow && len(b.buf) < largeBatch {
		b.buf = make([]byte, largeBatch)
	}
	b.grow = false
	b.w = copy(b.buf, rest)
	b.r = 0
	if len(b.buf)-b.w < batchSlack { // a split frame and a small buffer
		buf := make([]byte, largeBatch)
		copy(buf, b.buf[:b.w])
		b.buf = buf
	}
	return n, length
}

// trim goes back to the small buffer. Nothing is undelivered when it is called
// but, at most, the beginning of a frame.
func (b *batch) trim() {
	if b.w-b.r == 0 && len(b.packets) == 0 && len(b.buf) > smallBatch {
		*b = batch{buf: make([]byte, smallBatch)}
	}
}
