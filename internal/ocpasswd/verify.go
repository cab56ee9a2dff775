package ocpasswd

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-crypt/crypt/algorithm/md5crypt"
	"github.com/go-crypt/crypt/algorithm/scrypt"
	"github.com/go-crypt/crypt/algorithm/shacrypt"
	"golang.org/x/crypto/bcrypt"
)

// What one verification may cost at most. Each is about a second of one core
// or 64 MB; the defaults of the usual tools are far below.
const (
	MaxPassword = 512     // bytes, as in libxcrypt (CRYPT_MAX_PASSPHRASE_SIZE)
	maxRounds   = 1000000 // of SHA-crypt; ocpasswd uses 5000
	maxBcrypt   = 14      // cost; usual are 10 to 12
	maxYescrypt = 64 << 20
)

// Why a password is not checked.
var (
	ErrUnsupported = errors.New("password hash of an unsupported kind")
	ErrTooCostly   = errors.New("password hash asks for too much work")
	ErrLocked      = errors.New("user is locked")
	ErrNoPassword  = errors.New("user has no password")
	ErrTooLong     = errors.New("password too long")
)

// decoy is verified for users that do not exist in a file without a usable
// hash: the hash of nothing in particular, at ocpasswd's cost.
const decoy = "$5$rocservrocserv..$fZ6M5HzkVbdG/lB/Id.WJL8Z4MwBAkXlboKmx8NceL8"

// scheme is a way to verify, chosen by the hash's prefix.
type scheme struct {
	prefix string
	check  func(hash string) error
	match  func(hash string, password []byte) (bool, error)
}

var schemes = [...]scheme{
	{"$5$", checkSHA256, matchSHA},
	{"$6$", checkSHA512, matchSHA},
	{"$1$", checkMD5, matchMD5},
	{"$2a$", checkBcrypt, matchBcrypt},
	{"$2b$", checkBcrypt, matchBcrypt},
	{"$2y$", checkBcrypt, matchBcrypt},
	{"$y$", checkYescrypt, matchYescrypt},
}

// Check is a login: it looks the user up and verifies the password. ok is true
// only for an existing, unlocked user with that password. The error says why a
// password could not be checked (ErrLocked, ErrNoPassword, ErrUnsupported, ...);
// a wrong password and an unknown user are (false, nil). All take the time of
// one hash: where there is none to verify, that of the file's first.
func (f *File) Check(user string, password []byte) (e Entry, ok bool, err error) {
	e, found := f.Lookup(user)
	if _, err := parseHash(e.Hash); err != nil {
		_, _ = verify(f.decoy(), password) // for its time only
	}
	if !found {
		return Entry{}, false, nil
	}
	ok, err = verify(e.Hash, password)
	if e.Locked {
		return e, false, ErrLocked
	}
	return e, ok, err
}

// decoy returns a hash that costs what the file's hashes cost.
func (f *File) decoy() string {
	for _, l := range f.lines {
		if _, _, hash, ok := fields(l); ok {
			hash = strings.TrimPrefix(hash, "!")
			if _, err := parseHash(hash); err == nil {
				return hash
			}
		}
	}
	return decoy
}

// Verify reports whether hash is a hash of password. A hash with a ! before it
// is locked: it is computed, and the answer is ErrLocked.
func Verify(hash string, password []byte) (ok bool, err error) {
	hash, locked := strings.CutPrefix(hash, "!")
	ok, err = verify(hash, password)
	if locked {
		return false, ErrLocked
	}
	return ok, err
}

func verify(hash string, password []byte) (bool, error) {
	if hash == "" {
		return false, ErrNoPassword
	}
	if len(password) > MaxPassword {
		return false, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLong, len(password), MaxPassword)
	}
	s, err := parseHash(hash)
	if err != nil {
		return false, err
	}
	return s.match(hash, password)
}

// parseHash finds the scheme of a hash and checks all of the hash's form.
func parseHash(hash string) (*scheme, error) {
	for i := range schemes {
		if s := &schemes[i]; strings.HasPrefix(hash, s.prefix) {
			return s, s.check(hash)
		}
	}
	return nil, ErrUnsupported
}

func checkSHA256(hash string) error { return checkSHA(hash, 43) }
func checkSHA512(hash string) error { return checkSHA(hash, 86) }

// checkSHA checks $5$[rounds=N$]salt$result with a result of n characters.
func checkSHA(hash string, n int) error {
	parts := strings.Split(hash[3:], "$")
	if rounds, ok := strings.CutPrefix(parts[0], "rounds="); ok {
		if err := checkRounds(rounds); err != nil {
			return err
		}
		parts = parts[1:]
	}
	if len(parts) != 2 || len(parts[0]) > 16 || !printable(parts[0]) || !crypt64(parts[1], n) {
		return ErrBadHash
	}
	return nil
}

// checkRounds takes what libxcrypt writes: 1000 and more, no leading zero.
func checkRounds(s string) error {
	n, err := strconv.ParseUint(s, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return ErrTooCostly
	}
	if err != nil || s[0] == '0' || n < 1000 {
		return ErrBadHash
	}
	if n > maxRounds {
		return fmt.Errorf("%w: %d rounds, at most %d", ErrTooCostly, n, maxRounds)
	}
	return nil
}

func matchSHA(hash string, password []byte) (bool, error) {
	d, err := shacrypt.Decode(hash)
	if err != nil {
		return false, ErrBadHash
	}
	return d.MatchBytesAdvanced(password)
}

func checkMD5(hash string) error {
	parts := strings.Split(hash[3:], "$")
	if len(parts) != 2 || len(parts[0]) > 8 || !printable(parts[0]) || !crypt64(parts[1], 22) {
		return ErrBadHash
	}
	return nil
}

func matchMD5(hash string, password []byte) (bool, error) {
	d, err := md5crypt.Decode(hash)
	if err != nil {
		return false, ErrBadHash
	}
	return d.MatchBytesAdvanced(password)
}

func checkBcrypt(hash string) error {
	// $2b$NN$ and 22 characters of salt, 31 of result.
	if len(hash) != 60 || hash[6] != '$' || !crypt64(hash[7:], 53) {
		return ErrBadHash
	}
	cost, err := strconv.Atoi(hash[4:6])
	if err != nil || cost < bcrypt.MinCost {
		return ErrBadHash
	}
	if cost > maxBcrypt {
		return fmt.Errorf("%w: bcrypt cost %d, at most %d", ErrTooCostly, cost, maxBcrypt)
	}
	return nil
}

func matchBcrypt(hash string, password []byte) (bool, error) {
	err := bcrypt.CompareHashAndPassword([]byte(hash), password)
	if errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		return false, nil
	}
	if err != nil {
		return false, ErrBadHash
	}
	return true, nil
}

// checkYescrypt checks $y$jNR$salt$result, the form that libxcrypt makes: N and
// r in one character each, p = 1, no upgrades.
func checkYescrypt(hash string) error {
	parts := strings.Split(hash[3:], "$")
	if len(parts) != 3 || len(parts[0]) != 3 || parts[0][0] != 'j' || len(parts[1]) > 86 || len(parts[2]) != 43 {
		return ErrBadHash
	}
	logN, r := index64(parts[0][1])+1, index64(parts[0][2])+1
	if logN < 2 || r < 1 || !bytes64(parts[1]) || !bytes64(parts[2]) {
		return ErrBadHash
	}
	if logN > 24 || 128*r<<logN > maxYescrypt {
		return fmt.Errorf("%w: yescrypt memory above %d MB", ErrTooCostly, maxYescrypt>>20)
	}
	return nil
}

func matchYescrypt(hash string, password []byte) (bool, error) {
	d, err := scrypt.Decode(hash)
	if err != nil {
		return false, ErrBadHash
	}
	ok, err := d.MatchBytesAdvanced(password)
	if err != nil {
		return false, ErrBadHash
	}
	return ok, nil
}

const alphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func index64(c byte) int { return strings.IndexByte(alphabet, c) }

// crypt64 reports whether s is n characters of crypt's alphabet.
func crypt64(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for i := range len(s) {
		if index64(s[i]) < 0 {
			return false
		}
	}
	return true
}

// bytes64 reports whether s encodes whole bytes, the unused bits of its last
// character being zero: four characters, least significant first, are three bytes.
func bytes64(s string) bool {
	if !crypt64(s, len(s)) {
		return false
	}
	switch len(s) % 4 {
	case 1:
		return false
	case 2:
		return index64(s[len(s)-1]) < 1<<2
	case 3:
		return index64(s[len(s)-1]) < 1<<4
	}
	return true
}

// printable reports whether s can be a salt: no blank, no colon, no $.
func printable(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == ':' || c == '$' {
			return false
		}
	}
	return true
}
