package oath

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"time"
)

// code is the HOTP value of a counter (RFC 4226, section 5.3): that many
// decimal digits.
func code(secret []byte, counter uint64, digits int) string {
	var c [8]byte
	binary.BigEndian.PutUint64(c[:], counter)
	mac := hmac.New(sha1.New, secret)
	mac.Write(c[:])
	sum := mac.Sum(nil)
	offset := sum[len(sum)-1] & 0xf
	bits := binary.BigEndian.Uint32(sum[offset:]) & 0x7fffffff
	mod := uint32(1)
	for range digits {
		mod *= 10
	}
	return fmt.Sprintf("%0*d", digits, bits%mod)
}

// step is the counter of a time (RFC 6238, section 4.2; T0 is 1970).
func step(t time.Time, length time.Duration) uint64 {
	return uint64(max(t.Unix(), 0)) / uint64(length/time.Second)
}
