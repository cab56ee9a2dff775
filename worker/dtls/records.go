package dtls

import (
	"bytes"
	"errors"
	"fmt"

	"rocserv/internal/dtlsrecord"
)

// This file is the way of the records that are not plain data: handshakes,
// alerts, and data that came before its keys.

// record routes one record; see the table in doc.go.
func (r *reader) record(h dtlsrecord.Header, record []byte) {
	switch {
	case h.Type == dtlsrecord.TypeHandshake && h.Epoch == 0 && isHello(record):
		r.hello(record)
	case h.Type == dtlsrecord.TypeChangeCipherSpec && h.Epoch == 0 && isChangeCipherSpec(record),
		h.Type == dtlsrecord.TypeHandshake && h.Epoch == 0 && isKeyExchange(record),
		h.Type == dtlsrecord.TypeHandshake && h.Epoch == dtlsrecord.Epoch:
		if r.pending != nil {
			r.forPion = append(r.forPion, record...)
		} else {
			r.resend()
		}
	case h.Type == dtlsrecord.TypeApplicationData && h.Epoch == dtlsrecord.Epoch,
		h.Type == dtlsrecord.TypeAlert && h.Epoch == dtlsrecord.Epoch:
		r.protected(h.Type, record)
	default: // among them alerts in clear text, which anybody can send
		r.c.count.odd.Add(1)
	}
}

// The two checks below let to pion only what a client's second flight consists
// of: pion ends a handshake over a bad ChangeCipherSpec, and an empty handshake
// record with a high number would shut true ones out of its replay window.

// isKeyExchange says that record begins with a ClientKeyExchange, RFC 4279 section 2.
func isKeyExchange(record []byte) bool {
	body := record[dtlsrecord.HeaderLen:]
	return len(body) > handshakeHeaderLen && body[0] == msgClientKeyExchange
}

// isChangeCipherSpec says that record is a whole one, RFC 5246 section 7.1.
func isChangeCipherSpec(record []byte) bool {
	body := record[dtlsrecord.HeaderLen:]
	return len(body) == 1 && body[0] == 1
}

// hello handles a ClientHello.
func (r *reader) hello(record []byte) {
	h, ok := parseHello(record)
	now := r.c.cfg.Now()
	switch {
	case !ok || !bytes.Equal(h.session, r.session):
		r.c.count.odd.Add(1)
	case r.pending != nil && h.random == r.pending.random:
		r.forPion = append(r.forPion, record...) // the client sends it again
	case r.pending == nil && r.assoc != nil && h.random == r.assoc.random:
		r.c.count.odd.Add(1) // a late copy
	case r.pending != nil && now.Sub(r.pending.started) < helloPeriod:
		// Hellos can be replayed, and each costs a handshake. A client that means
		// it sends its again.
		r.c.count.odd.Add(1)
	default:
		r.abandon()
		r.pending = r.c.startHandshake(h)
		r.forPion = append(r.forPion, record...)
	}
}

// protected handles a record of epoch 1 while a handshake is pending, and
// alerts at any time.
func (r *reader) protected(typ byte, record []byte) {
	if r.pending == nil {
		if r.assoc == nil {
			r.c.count.odd.Add(1)
		} else if err := r.open(typ, record); err != nil {
			r.refused(err)
		}
		return
	}
	// It belongs to the keys in use, or to those to come: then its number means
	// nothing to the window in use, and opening it fails, and destroys it.
	r.copied = append(r.copied[:0], record...)
	if r.assoc != nil {
		err := r.open(typ, record)
		if err == nil {
			return
		}
		if !errors.Is(err, dtlsrecord.ErrReplay) && !errors.Is(err, dtlsrecord.ErrAuthentication) {
			r.refused(err)
			return
		}
	}
	if len(r.held) == maxHeld {
		r.c.count.odd.Add(1)
		return
	}
	r.held = append(r.held, bytes.Clone(r.copied))
}

// alert handles an authenticated alert, RFC 5246 section 7.2.
func (r *reader) alert(plaintext []byte) {
	const (
		fatal       = 2
		closeNotify = 0
	)
	switch {
	case len(plaintext) != 2:
		r.c.count.odd.Add(1)
	case plaintext[1] == closeNotify:
		r.c.fail(ErrCloseNotify)
	case plaintext[0] == fatal:
		r.c.fail(fmt.Errorf("%w %d", ErrAlert, plaintext[1]))
	}
}

// resend repeats our last flight, which a client asks for by repeating its own
// (RFC 6347 section 4.2.4). The datagrams are the same as before, so that no
// sequence number is used twice.
func (r *reader) resend() {
	a := r.assoc
	if a == nil || len(a.flight) == 0 {
		r.c.count.odd.Add(1)
		return
	}
	now := r.c.cfg.Now()
	if now.Sub(a.resent) < resendAfter {
		return
	}
	a.resent = now
	r.c.count.resent.Add(1)
	for _, d := range a.flight {
		r.c.sock.send(d)
	}
}

// finished handles the outcome of a handshake.
func (r *reader) finished(hs *handshake) {
	if hs != r.pending {
		return // given up meanwhile
	}
	r.pending, r.forPion, r.copied = nil, nil, nil
	held := r.held
	r.held = nil
	if hs.err != nil {
		if r.assoc == nil {
			r.c.fail(hs.err)
		} else {
			r.c.cfg.Log.Debug("dtls: new handshake failed, old keys stay", "err", hs.err)
		}
		return
	}
	r.assoc = hs.result
	r.c.current.Store(hs.result)
	r.c.count.handshakes.Add(1)
	r.c.cfg.Receiver.Established(r.c)
	for _, record := range held {
		r.datagram(record)
	}
	r.deliver()
}

// abandon gives the pending handshake up, if there is one.
func (r *reader) abandon() {
	if r.pending != nil {
		r.pending.cancel()
		r.pending, r.held = nil, nil
	}
}
