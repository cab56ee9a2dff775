package dtlsrecord

import (
	"encoding/binary"
	"errors"
)

var (
	// ErrExhausted is returned by Seal when all sequence numbers are used. The
	// association has to end, RFC 6347 section 4.1.
	ErrExhausted = errors.New("dtlsrecord: sequence numbers exhausted")
	// ErrRecord is returned by Open for bytes that are no record of this layer.
	ErrRecord = errors.New("dtlsrecord: malformed record")
	// ErrEpoch is returned by Open for a record of another epoch.
	ErrEpoch = errors.New("dtlsrecord: wrong epoch")
	// ErrReplay is returned by Open for a record seen before or too old to tell.
	ErrReplay = errors.New("dtlsrecord: replayed record")
	// ErrAuthentication is returned by Open for a record that was not made with the key.
	ErrAuthentication = errors.New("dtlsrecord: record does not authenticate")
	// ErrForgeries is returned by Open when so many records failed to
	// authenticate that the key is no longer trusted.
	ErrForgeries = errors.New("dtlsrecord: too many forged records")
)

// maxForgeries is the integrity limit of a key, RFC 9147 section 4.5.3.
const maxForgeries = 1 << 36

// Sealer protects the records of one direction.
type Sealer struct {
	half
	next  uint64 // sequence number of the next record
	nonce [nonceLen]byte
	aad   [HeaderLen]byte
}

// Seal makes a record of type typ in place. buf holds n bytes of plaintext
// after its first Headroom bytes and has Tailroom bytes behind them; n is at
// most MaxPlaintext. The record is the first bytes of buf, as many as Seal
// returns. The error is ErrExhausted.
func (s *Sealer) Seal(buf []byte, typ byte, n int) (int, error) {
	if s.next > MaxSequence {
		return 0, ErrExhausted
	}
	if n > MaxPlaintext {
		panic("dtlsrecord: internal error: plaintext longer than a record")
	}
	number := Epoch<<48 | s.next
	s.next++
	start := HeaderLen + s.explicit
	end := start + n + TagLen
	putHeader(buf, typ, number, end-HeaderLen)
	putAAD(s.aad[:], typ, number, n)
	if s.explicit != 0 {
		copy(s.nonce[:], s.iv[:nonceLen-explicitNonceLen])
		binary.BigEndian.PutUint64(s.nonce[nonceLen-explicitNonceLen:], number) // RFC 9325 section 7.2.1
		binary.BigEndian.PutUint64(buf[HeaderLen:], number)
	} else {
		s.xorNonce(&s.nonce, number)
	}
	s.aead.Seal(buf[start:start:end], s.nonce[:], buf[start:start+n], s.aad[:])
	return end, nil
}

// Next is the sequence number of the next record, which is how many have been
// sealed with the key, the handshake's own included.
func (s *Sealer) Next() uint64 { return s.next }

// Opener opens the records of one direction.
type Opener struct {
	half
	window    window
	forgeries uint64
	nonce     [nonceLen]byte
	aad       [HeaderLen]byte
}

// Open decrypts one whole record in place and returns its plaintext, a part of
// record. Type and version are what the record says; both are authenticated.
// After ErrAuthentication the bytes of record are arbitrary, after any other
// error they are unchanged.
func (o *Opener) Open(record []byte) ([]byte, error) {
	if len(record) < HeaderLen+o.explicit+TagLen ||
		binary.BigEndian.Uint16(record[1:]) != version12 ||
		HeaderLen+int(binary.BigEndian.Uint16(record[11:])) != len(record) {
		return nil, ErrRecord
	}
	body := record[HeaderLen+o.explicit:]
	n := len(body) - TagLen
	if n > MaxPlaintext {
		return nil, ErrRecord
	}
	number := binary.BigEndian.Uint64(record[3:])
	if number>>48 != Epoch {
		return nil, ErrEpoch
	}
	seq := number & MaxSequence
	if !o.window.fresh(seq) {
		return nil, ErrReplay
	}
	if o.forgeries >= maxForgeries {
		return nil, ErrForgeries
	}
	putAAD(o.aad[:], record[0], number, n)
	if o.explicit != 0 { // the sender may choose it as it likes, RFC 5288 section 3
		copy(o.nonce[:], o.iv[:nonceLen-explicitNonceLen])
		copy(o.nonce[nonceLen-explicitNonceLen:], record[HeaderLen:])
	} else {
		o.xorNonce(&o.nonce, number)
	}
	plaintext, err := o.aead.Open(body[:0], o.nonce[:], body, o.aad[:])
	if err != nil {
		o.forgeries++
		return nil, ErrAuthentication
	}
	o.window.mark(seq)
	return plaintext, nil
}

// Newer says whether a record of that sequence number would be newer than all
// that were opened.
func (o *Opener) Newer(seq uint64) bool { return seq >= o.window.top }

// xorNonce is RFC 7905 section 2: the record's number, padded on the left,
// exclusive-or the IV.
func (h *half) xorNonce(nonce *[nonceLen]byte, number uint64) {
	copy(nonce[:4], h.iv[:4])
	binary.BigEndian.PutUint64(nonce[4:], number^binary.BigEndian.Uint64(h.iv[4:]))
}
