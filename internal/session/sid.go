package session

import (
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
)

// SIDSize is the length of a SID in bytes (ocserv's SID_SIZE).
const SIDSize = 32

const redacted = "[redacted]"

// SID is the bearer token of a login and of its session. It never prints itself.
type SID [SIDSize]byte

// ParseSID returns the SID in b; ok is false unless b has exactly SIDSize bytes.
func ParseSID(b []byte) (sid SID, ok bool) {
	if len(b) != SIDSize {
		return SID{}, false
	}
	return SID(b), true
}

func newSID() (sid SID) {
	rand.Read(sid[:]) // never fails (crypto/rand)
	return sid
}

// SafeID is the name of the session for people and for main: base64 of the
// SHA-1 of the SID, 28 characters (ocserv, calc_safe_id).
func (s SID) SafeID() string {
	sum := sha1.Sum(s[:])
	return base64.StdEncoding.EncodeToString(sum[:])
}

// ShortID is the part of a safe id that log lines show: its first six characters.
func ShortID(safeID string) string { return safeID[:min(6, len(safeID))] }

type key [sha256.Size]byte

func (s SID) key() key { return sha256.Sum256(s[:]) }

// Format implements fmt.Formatter for every verb.
func (SID) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// String implements fmt.Stringer.
func (SID) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (SID) GoString() string { return redacted }

// LogValue implements slog.LogValuer.
func (SID) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, for JSON logs of what holds a SID.
func (SID) MarshalText() ([]byte, error) { return []byte(redacted), nil }
