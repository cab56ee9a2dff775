package ocpasswd

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-crypt/crypt/algorithm/shacrypt"
)

// Scheme is a kind of hash that Hash makes.
type Scheme string

// SHA256 is what ocpasswd writes and every ocserv reads; SHA512 is as widely read.
const (
	SHA256 Scheme = "sha256" // $5$
	SHA512 Scheme = "sha512" // $6$
)

// ErrUnknownScheme is the answer to a Scheme that is none of the above.
var ErrUnknownScheme = errors.New("unknown kind of password hash")

// What an unusable new password is.
var (
	ErrEmpty   = errors.New("empty password")
	ErrControl = errors.New("password holds a line end or a NUL")
)

// ParseScheme returns the scheme of that name, or ErrUnknownScheme.
func ParseScheme(name string) (Scheme, error) {
	s := Scheme(name)
	if _, err := s.variant(); err != nil {
		return "", err
	}
	return s, nil
}

func (s Scheme) variant() (shacrypt.Variant, error) {
	switch s {
	case SHA256:
		return shacrypt.VariantSHA256, nil
	case SHA512:
		return shacrypt.VariantSHA512, nil
	}
	return shacrypt.VariantNone, fmt.Errorf("%w: '%s'", ErrUnknownScheme, string(s))
}

// Hash makes a hash of a password with a random salt of 16 characters and the
// rounds that crypt(3) takes when none are named (5000), so that the file
// stays readable to ocserv on every C library.
func Hash(s Scheme, password []byte) (string, error) {
	switch {
	case len(password) == 0:
		return "", ErrEmpty
	case len(password) > MaxPassword:
		return "", fmt.Errorf("%w: %d bytes, at most %d", ErrTooLong, len(password), MaxPassword)
	case strings.ContainsAny(string(password), "\x00\r\n"):
		return "", ErrControl
	}
	variant, err := s.variant()
	if err != nil {
		return "", err
	}
	h, err := shacrypt.New(shacrypt.WithVariant(variant),
		shacrypt.WithIterations(shacrypt.IterationsDefaultOmitted), shacrypt.WithSaltLength(shacrypt.SaltLengthMax))
	if err != nil {
		return "", fmt.Errorf("prepare hash: %w", err)
	}
	d, err := h.Hash(string(password))
	if err != nil {
		return "", fmt.Errorf("compute hash: %w", err)
	}
	return d.Encode(), nil
}
