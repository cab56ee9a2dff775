package oath

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"rocserv/internal/secret"
)

// Limits of a file.
const (
	MaxFile = 8 << 20 // bytes
	maxLine = 4096    // bytes of a line that is read
	// SecretSize is what new tokens get: 160 bits (RFC 4226, section 4, R6).
	SecretSize = 20
)

// ErrTooLarge is Parse's error.
var ErrTooLarge = errors.New("file of one-time passwords too large")

// File is a users file in memory. The zero value is an empty file.
type File struct {
	lines []string // each with its line end, if it has one
}

// Parse cuts a file into lines. It keeps all of them.
func Parse(b []byte) (*File, error) {
	if len(b) > MaxFile {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(b), MaxFile)
	}
	f := new(File)
	for line := range bytes.Lines(b) {
		f.lines = append(f.lines, string(line))
	}
	return f, nil
}

// Bytes returns the file as it is to be written.
func (f *File) Bytes() []byte { return []byte(strings.Join(f.lines, "")) }

// Problems says what cannot be used: lines that are no tokens, and PINs, which
// nobody asks for.
func (f *File) Problems() (list []string) {
	for i, l := range f.lines {
		t, ok, err := token(l)
		switch {
		case err != nil:
			list = append(list, fmt.Sprintf("line %d: %v", i+1, err))
		case ok && t.PIN.Reveal() != "-" && t.PIN.Reveal() != "+":
			list = append(list, fmt.Sprintf("line %d: the PIN of user %q is not asked for", i+1, t.User))
		}
	}
	return list
}

// Check reports whether a code is good for the user at that time. If it is,
// the file has changed and must be written before the user is let in.
func (f *File) Check(user, given string, now time.Time) bool {
	good := false
	for i, l := range f.lines {
		t, ok, err := token(l)
		if err != nil || !ok || t.User != user {
			continue
		}
		if !good && t.use(given, now) {
			good = true
			f.lines[i] = t.text() + end(l)
		}
	}
	return good
}

// Set gives the user one token, by time in steps of 30 s, with that secret; the
// ones of before are gone.
func (f *File) Set(user string, key []byte) error {
	if user == "" || strings.ContainsFunc(user, func(r rune) bool { return r <= ' ' }) || strings.HasPrefix(user, "#") {
		return fmt.Errorf("%w: a user's name here has no blanks and does not begin with #", ErrSyntax)
	}
	t := Token{User: user, Step: 30 * time.Second, Digits: defaultDigits, PIN: secret.NewText("-"), secret: secret.NewBytes(key)}
	f.Delete(user)
	if n := len(f.lines); n > 0 && end(f.lines[n-1]) == "" {
		f.lines[n-1] += "\n"
	}
	f.lines = append(f.lines, t.text()+"\n")
	return nil
}

// Delete removes the user's tokens. It reports whether there were any.
func (f *File) Delete(user string) bool {
	kept := f.lines[:0:0]
	for _, l := range f.lines {
		if t, ok, err := token(l); err != nil || !ok || t.User != user {
			kept = append(kept, l)
		}
	}
	found := len(kept) < len(f.lines)
	f.lines = kept
	return found
}

// token reads a line; ok is false for comments and blanks.
func token(line string) (t Token, ok bool, err error) {
	if l := strings.TrimSpace(line); l == "" || l[0] == '#' {
		return Token{}, false, nil
	}
	if len(line) > maxLine {
		return Token{}, false, fmt.Errorf("%w: %d bytes", ErrSyntax, len(line))
	}
	t, err = parseToken(line)
	return t, err == nil, err
}

// end is the end of a line: "\n", "\r\n" or nothing.
func end(line string) string { return line[len(strings.TrimRight(line, "\r\n")):] }
