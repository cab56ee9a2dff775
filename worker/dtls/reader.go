package dtls

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/dtlsrecord"
	"rocserv/internal/moderation"
	"rocserv/internal/wire"
)

const (
	maxHeld     = 64                     // records that wait for the keys to open them
	helloPeriod = time.Second            // between handshakes on one socket
	resendAfter = 100 * time.Millisecond // between copies of the last flight
	maxErrors   = 16                     // of receiving, in a row, before waiting again
)

// reader is what the reading goroutine owns: the way of a datagram from the
// socket to the Receiver, in the order of this file.
type reader struct {
	c       *Channel
	batch   batch
	meter   moderation.Meter
	errors  int           // of receiving, in a row
	packets []wire.Packet // opened, not delivered yet
	bytes   uint64        // in them

	session []byte       // session_id of the first ClientHello: the App-ID
	pending *handshake   // pion is busy with it; nil between handshakes
	assoc   *association // keys in use; nil before the first handshake is done
	held    [][]byte     // records that may be the pending handshake's
	forPion []byte       // records of the current datagram
	copied  []byte       // a record that is being tried
}

func (r *reader) init(c *Channel, session []byte) {
	r.c = c
	r.session = bytes.Clone(session)
	r.batch.init(c.cfg.MaxPacket)
	r.meter.Start(c.cfg.Now(), moderation.OfDatagrams)
}

// poll receives until the socket is empty; then it returns false, to be called
// again when there is more. It returns true if something else is to be done.
func (r *reader) poll(fd uintptr) bool {
	for {
		n, errno := r.batch.receive(fd)
		switch {
		case errno == unix.EAGAIN:
			r.batch.trustSource()
			r.c.busy.Store(false)
			return false
		case errno == unix.EINTR:
			continue
		case errno != 0:
			if r.failed(errno) {
				return false
			}
			continue
		}
		r.errors = 0
		more := r.received(n)
		if r.c.ended() || r.c.mail.waiting() {
			return true
		}
		if !more {
			return false
		}
	}
}

// failed counts an error of receiving: what a router or the client's host said
// of something we sent. None of them is the channel's end. It says whether to
// wait instead of trying again.
func (r *reader) failed(errno unix.Errno) bool {
	r.c.count.rxErrors.Add(1)
	if errno == unix.EMSGSIZE {
		r.c.reportTooBig(0)
	}
	if r.errors++; r.errors < maxErrors {
		return false
	}
	r.errors = 0
	return true
}

// received handles n datagrams of the batch, and naps if there is much to do. It
// says whether it is worth to ask the socket for more before waiting for it.
func (r *reader) received(n int) (more bool) {
	peer, length := r.c.sock.peer, 0
	for i := range n {
		if p, ok := r.batch.datagram(i, peer); ok {
			length += len(p)
			r.datagram(p)
		} else {
			r.c.count.odd.Add(1)
		}
	}
	r.deliver()
	r.meter.Add(n, length, r.c.cfg.Now())
	busy := r.meter.Busy()
	r.c.busy.Store(busy)
	full := n == len(r.batch.msgs)
	if full {
		r.batch.grow()
	} else {
		r.batch.trustSource() // fewer than asked for: it was empty
	}
	// A socket seen empty is not asked again: whatever comes wakes us. (The
	// poller's readiness is an edge, and no edge is lost between the two.)
	if !busy && !full {
		return false
	}
	runtime.Gosched() // let the stack work on this batch before the next is read
	r.meter.Nap()
	return true
}

// datagram handles the records of one datagram. Nothing in it can end the
// channel but an authenticated alert.
func (r *reader) datagram(p []byte) {
	for len(p) > 0 {
		h, record, rest, ok := dtlsrecord.Cut(p)
		if !ok {
			r.c.count.odd.Add(1)
			break
		}
		p = rest
		if h.Type == dtlsrecord.TypeApplicationData && r.assoc != nil && r.pending == nil {
			if err := r.open(h.Type, record); err != nil {
				r.refused(err)
			}
		} else {
			r.record(h, record)
		}
	}
	if len(r.forPion) > 0 {
		if r.pending != nil {
			r.pending.conn.feed(bytes.Clone(r.forPion))
		}
		r.forPion = r.forPion[:0]
	}
}

// offered handles a datagram from an address that is not the client's. Whoever
// replays a datagram has none that is newer than all that have come, and a forged
// one does not open: both change nothing.
func (r *reader) offered(o offered) {
	h, record, rest, ok := dtlsrecord.Cut(o.datagram)
	if !ok || len(rest) > 0 || h.Type != dtlsrecord.TypeApplicationData || r.assoc == nil || r.pending != nil || !r.assoc.opener.Newer(h.Sequence) {
		r.c.count.odd.Add(1)
		return
	}
	if err := r.open(h.Type, record); err != nil {
		r.refused(err)
		return
	}
	if err := r.c.sock.move(o.peer); err != nil {
		r.c.cfg.Log.Info("dtls: the client's new address is not to be had", "peer", o.peer, "err", err)
		return
	}
	r.c.count.moves.Add(1)
	if r.c.cfg.Moved != nil {
		r.c.cfg.Moved(o.peer)
	}
}

// open decrypts a record of data or an alert with the keys in use, and accepts
// its content.
func (r *reader) open(typ byte, record []byte) error {
	plaintext, err := r.assoc.opener.Open(record)
	switch {
	case err != nil:
		return err
	case typ == dtlsrecord.TypeAlert:
		r.alert(plaintext)
		return nil
	case len(plaintext) < typeLen:
		r.c.count.odd.Add(1)
		return nil
	}
	if r.assoc.flight != nil {
		r.assoc.flight = nil // whoever sends data has our Finished
	}
	r.packets = append(r.packets, wire.Packet{Type: wire.PacketType(plaintext[0]), Payload: plaintext[typeLen:]})
	r.bytes += uint64(len(plaintext) - typeLen)
	return nil
}

// refused counts a record that did not open.
func (r *reader) refused(err error) {
	switch {
	case errors.Is(err, dtlsrecord.ErrReplay):
		r.c.count.replayed.Add(1)
	case errors.Is(err, dtlsrecord.ErrAuthentication):
		r.c.count.forged.Add(1)
	case errors.Is(err, dtlsrecord.ErrForgeries):
		r.c.fail(fmt.Errorf("dtls: %w", err))
	default:
		r.c.count.odd.Add(1)
	}
}

// deliver gives the Receiver what was opened.
func (r *reader) deliver() {
	if len(r.packets) == 0 {
		return
	}
	r.c.count.rxPackets.Add(uint64(len(r.packets)))
	r.c.count.rxBytes.Add(r.bytes)
	r.c.cfg.Receiver.Packets(r.c, r.packets)
	r.packets, r.bytes = r.packets[:0], 0
}

// takeMail handles what other goroutines have left.
func (r *reader) takeMail() {
	m := r.c.mail.take()
	for _, hs := range m.finished {
		r.finished(hs)
	}
	for _, o := range m.offers {
		r.offered(o)
	}
	for _, d := range m.datagrams {
		r.datagram(d)
	}
	r.deliver()
	if m.trim {
		r.batch.trim()
		r.packets = nil
	}
}
