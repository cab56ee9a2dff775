package secmod

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"rocserv/internal/oath"
)

// The question of ocserv's plain method for a code (plain.c).
const (
	askOTP      = "Please enter your OTP password."
	askOTPAgain = "Login failed.\nPlease enter your OTP password."
)

// codes is the file of `plain[otp=FILE]`. It is read and written at every
// code: others (rocserv passwd, another server) change it too.
type codes struct {
	s    *server
	name string
}

// newCodes looks at the file, and whether it can be written back.
func newCodes(s *server, name string) (*codes, []string, error) {
	c := &codes{s: s, name: name}
	f, err := oath.Read(name)
	if err != nil {
		return nil, nil, err
	}
	const shown = 5
	var warnings []string
	for i, p := range f.Problems() {
		if i == shown {
			warnings = append(warnings, fmt.Sprintf("%s: and more", name))
			break
		}
		warnings = append(warnings, fmt.Sprintf("%s: %s", name, p))
	}
	if err := unix.Access(filepath.Dir(name), unix.W_OK); err != nil {
		warnings = append(warnings, fmt.Sprintf("nobody can log in with a one-time password: %s cannot be written back into its directory: %v", name, err))
	}
	return c, warnings, nil
}

// good reports whether a code is good for the user. That it was used is on disk
// when good says so: a code that cannot be remembered lets nobody in.
func (c *codes) good(user string, code []byte) (bool, error) {
	good := false
	err := oath.Edit(c.name, false, func(f *oath.File) (bool, error) {
		good = f.Check(user, string(code), c.s.Now())
		return good, nil
	})
	return good && err == nil, err
}
