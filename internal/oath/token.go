package oath

import (
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"rocserv/internal/secret"
)

const (
	counterWindow = 20 // codes ahead that are tried (ocserv, HOTP_WINDOW)
	timeWindow    = 2  // steps of difference between the clocks; RFC 6238 section 5.2 recommends one
	defaultDigits = 6

	// timeFormat is liboath's, in local time (usersfile.c, TIME_FORMAT_STRING).
	timeFormat = "2006-01-02T15:04:05L"
)

// Token is one line of the file: what makes the codes of a user.
type Token struct {
	User    string
	Step    time.Duration // of TOTP; 0: HOTP
	Digits  int
	PIN     secret.Text // "-" and "+": none
	secret  secret.Bytes
	counter uint64 // of HOTP: the next one
	last    string // the code that was used last
	used    time.Time
}

// ErrSyntax is wrapped by what is wrong with a line. It names no secret.
var ErrSyntax = errors.New("not a line of a users file")

// parseToken reads a line that is neither blank nor a comment.
func parseToken(line string) (t Token, err error) {
	f := strings.Fields(line)
	const required = 4
	if len(f) < required || len(f) > 7 {
		return Token{}, fmt.Errorf("%w: %d fields", ErrSyntax, len(f))
	}
	if t.Step, t.Digits, err = parseType(f[0]); err != nil {
		return Token{}, err
	}
	t.User, t.PIN = f[1], secret.NewText(f[2])
	key, err := hex.DecodeString(f[3])
	if err != nil || len(key) == 0 {
		return Token{}, fmt.Errorf("%w: the secret is not hexadecimal", ErrSyntax)
	}
	t.secret = secret.NewBytes(key)
	if len(f) > 4 {
		if t.counter, err = strconv.ParseUint(f[4], 10, 64); err != nil {
			return Token{}, fmt.Errorf("%w: the counter is not a number", ErrSyntax)
		}
	}
	if len(f) > 5 {
		t.last = f[5]
	}
	if len(f) > 6 {
		if t.used, err = time.ParseInLocation(timeFormat, f[6], time.Local); err != nil {
			return Token{}, fmt.Errorf("%w: the time of the last code", ErrSyntax)
		}
	}
	return t, nil
}

// parseType reads HOTP[/E|/T<seconds>][/<digits>].
func parseType(s string) (length time.Duration, digits int, err error) {
	parts := strings.Split(s, "/")
	digits = defaultDigits
	if parts[0] != "HOTP" {
		return 0, 0, fmt.Errorf("%w: type %q", ErrSyntax, s)
	}
	parts = parts[1:]
	if len(parts) > 0 && strings.HasPrefix(parts[0], "T") {
		n, err := strconv.Atoi(parts[0][1:])
		if err != nil || n < 1 || n > 3600 {
			return 0, 0, fmt.Errorf("%w: type %q", ErrSyntax, s)
		}
		length, parts = time.Duration(n)*time.Second, parts[1:]
	} else if len(parts) > 0 && parts[0] == "E" {
		parts = parts[1:]
	}
	if len(parts) > 0 {
		n, err := strconv.Atoi(parts[0])
		if err != nil || n < 6 || n > 8 || len(parts) > 1 {
			return 0, 0, fmt.Errorf("%w: type %q", ErrSyntax, s)
		}
		digits = n
	}
	return length, digits, nil
}

// text is the line of the file, as liboath writes it. It is not String, which
// would print the secret.
func (t *Token) text() string {
	kind := "HOTP"
	if t.Step > 0 {
		kind += "/T" + strconv.Itoa(int(t.Step/time.Second))
	}
	if t.Digits != defaultDigits {
		if t.Step == 0 {
			kind += "/E"
		}
		kind += "/" + strconv.Itoa(t.Digits)
	}
	line := fmt.Sprintf("%s\t%s\t%s\t%s", kind, t.User, t.PIN.Reveal(), hex.EncodeToString(t.secret.Reveal()))
	if t.counter > 0 || t.last != "" {
		line += "\t" + strconv.FormatUint(t.counter, 10)
	}
	if t.last != "" {
		line += "\t" + t.last
		if !t.used.IsZero() {
			line += "\t" + t.used.Local().Format(timeFormat)
		}
	}
	return line
}

// use reports whether a code is good at that time, and remembers it.
func (t *Token) use(given string, now time.Time) bool {
	if len(given) != t.Digits {
		return false
	}
	from, to := t.counter, t.counter+counterWindow
	if t.Step > 0 {
		at := step(now, t.Step)
		from, to = max(at, timeWindow)-timeWindow, at+timeWindow
		if last, ok := t.lastStep(); ok {
			from = max(from, last+1)
		}
	}
	found := false
	for c := from; c <= to; c++ {
		// All are computed, so that the time it takes says nothing.
		same := subtle.ConstantTimeCompare([]byte(code(t.secret.Reveal(), c, t.Digits)), []byte(given)) == 1
		if !same || found || t.Step > 0 && given == t.last && t.unplaced() {
			continue
		}
		found = true
		if t.Step == 0 {
			t.counter = c + 1
		}
	}
	if found {
		t.last, t.used = given, now
	}
	return found
}

// lastStep is the step the last code belonged to: of those around its time the
// latest that makes it. TOTP has no other memory in this format.
func (t *Token) lastStep() (uint64, bool) {
	if t.last == "" || t.used.IsZero() {
		return 0, false
	}
	at := step(t.used, t.Step)
	for c := at + timeWindow; c+timeWindow >= at; c-- {
		if code(t.secret.Reveal(), c, t.Digits) == t.last {
			return c, true
		}
		if c == 0 {
			break
		}
	}
	return 0, false
}

// unplaced reports that the last code cannot be given a step, after a change
// of time zone for example. Then it is at least not good a second time.
func (t *Token) unplaced() bool {
	_, ok := t.lastStep()
	return !ok
}
