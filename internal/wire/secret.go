package wire

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is bytes that never print themselves: a password, a cookie, a master
// secret.
type Secret []byte

// Clear wipes the bytes.
func (s Secret) Clear() { clear(s) }

// Format prints "[redacted]" for every verb.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, "[redacted]") }

// LogValue is "[redacted]".
func (Secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// MarshalText gives "[redacted]", for encoders that know neither of the above.
func (Secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// MarshalJSON gives "[redacted]".
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"[redacted]"`), nil }

func (Secret) String() string   { return "[redacted]" }
func (Secret) GoString() string { return "[redacted]" }
