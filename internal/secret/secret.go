package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what every secret prints.
const Redacted = "[redacted]"

// Text is a secret string. The zero value is the empty one.
type Text struct{ s *string }

// NewText keeps s.
func NewText(s string) Text {
	if s == "" {
		return Text{}
	}
	return Text{&s}
}

// Reveal is the secret itself.
func (t Text) Reveal() string {
	if t.s == nil {
		return ""
	}
	return *t.s
}

// IsZero reports whether there is none.
func (t Text) IsZero() bool { return t.s == nil }

// UnmarshalText reads one back; what was printed is none.
func (t *Text) UnmarshalText(b []byte) error {
	*t = Text{}
	if string(b) != Redacted {
		*t = NewText(string(b))
	}
	return nil
}

// Equal compares in constant time.
func (t Text) Equal(o Text) bool {
	return subtle.ConstantTimeCompare([]byte(t.Reveal()), []byte(o.Reveal())) == 1
}

// Bytes are secret bytes. The zero value is none. The second pointer is against
// verbs that do not fit, for which fmt prints what a first one leads to.
type Bytes struct{ b **[]byte }

// NewBytes keeps b itself, no copy; nil is none.
func NewBytes(b []byte) Bytes {
	if b == nil {
		return Bytes{}
	}
	p := &b
	return Bytes{&p}
}

// Reveal are the bytes themselves, no copy.
func (b Bytes) Reveal() []byte {
	if b.b == nil {
		return nil
	}
	return **b.b
}

// IsZero reports whether there are none.
func (b Bytes) IsZero() bool { return b.b == nil }

// Equal compares in constant time.
func (b Bytes) Equal(o Bytes) bool { return subtle.ConstantTimeCompare(b.Reveal(), o.Reveal()) == 1 }

// Clear wipes them.
func (b Bytes) Clear() { clear(b.Reveal()) }

func (Text) Format(f fmt.State, _ rune)    { io.WriteString(f, Redacted) }
func (Text) String() string                { return Redacted }
func (Text) GoString() string              { return Redacted }
func (Text) LogValue() slog.Value          { return slog.StringValue(Redacted) }
func (Text) MarshalText() ([]byte, error)  { return []byte(Redacted), nil }
func (Text) MarshalJSON() ([]byte, error)  { return []byte(`"` + Redacted + `"`), nil }
func (Bytes) Format(f fmt.State, _ rune)   { io.WriteString(f, Redacted) }
func (Bytes) String() string               { return Redacted }
func (Bytes) GoString() string             { return Redacted }
func (Bytes) LogValue() slog.Value         { return slog.StringValue(Redacted) }
func (Bytes) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
func (Bytes) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }
