package passwd

import (
	"errors"
	"fmt"
	"io"

	"rocserv/internal/ocpasswd"
)

// DefaultFile is the password file when -c is not given, as with ocpasswd.
const DefaultFile = "/etc/ocserv/ocpasswd"

// ErrUsage is wrapped by errors of the command line itself.
var ErrUsage = errors.New("wrong usage")

// Options is one call of the command. With none of Delete, Lock and Unlock it
// sets a password.
type Options struct {
	File   string // empty: DefaultFile
	User   string
	Groups string          // comma separated; empty: keep; *: none
	Scheme ocpasswd.Scheme // of the hash that is made

	Delete, Lock, Unlock bool
}

// Run does what o says. The password comes from in; prompts and notes go to out.
func Run(o Options, in io.Reader, out io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.File == "" {
		o.File = DefaultFile
	}
	switch {
	case o.Delete:
		return o.existing(out, (*ocpasswd.File).Delete)
	case o.Lock:
		return o.existing(out, (*ocpasswd.File).Lock)
	case o.Unlock:
		return o.existing(out, (*ocpasswd.File).Unlock)
	}
	return o.set(in, out)
}

func (o *Options) check() error {
	n := 0
	for _, b := range []bool{o.Delete, o.Lock, o.Unlock} {
		if b {
			n++
		}
	}
	switch {
	case o.User == "":
		return fmt.Errorf("%w: no user given", ErrUsage)
	case n > 1:
		return fmt.Errorf("%w: only one of delete, lock and unlock can be done at a time", ErrUsage)
	case n == 1 && o.Groups != "":
		return fmt.Errorf("%w: groups are set together with a password", ErrUsage)
	}
	return nil
}

// existing changes the lines of a user. That there is no such user is no error,
// as with ocpasswd, but it is said.
func (o *Options) existing(out io.Writer, op func(f *ocpasswd.File, user string) bool) error {
	found := false
	err := Edit(o.File, false, func(f *ocpasswd.File) error {
		found = op(f, o.User)
		return nil
	})
	if err == nil && !found {
		fmt.Fprintf(out, "note: there is no user '%s' in '%s'\n", o.User, o.File)
	}
	return err
}

func (o *Options) set(in io.Reader, out io.Writer) error {
	// What is wrong is said before a person types a password for nothing.
	if err := ocpasswd.CheckNames(o.User, o.Groups); err != nil {
		return err
	}
	password, err := readPassword(in, out)
	if err != nil {
		return err
	}
	defer clear(password)
	hash, err := ocpasswd.Hash(o.Scheme, password)
	if err != nil {
		return err
	}
	return Edit(o.File, true, func(f *ocpasswd.File) error { return f.Set(o.User, o.Groups, hash) })
}
