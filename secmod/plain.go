package secmod

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"rocserv/internal/ocpasswd"
)

// The questions of ocserv's plain method (plain.c); clients and scripts know them.
const (
	askPassword      = "Please enter your password."
	askPasswordAgain = "Login failed.\nPlease enter your password."
	tries            = 3 // of one login (ocserv, MAX_PASSWORD_TRIES)
)

// plain is the method of `auth = "plain[passwd=FILE,otp=FILE]"`: a password, a
// one-time password, or first the one and then the other.
//
// A wrong password, an unknown user, a locked one, and a group the user is not
// in are one answer and one hash: begin tells nobody apart, except users whose
// hash is empty, whom ocserv asks for no password.
type plain struct {
	s     *server
	name  string // of the password file; empty: there is none
	codes *codes // nil: no one-time passwords

	mu     sync.Mutex // protects what follows
	file   *ocpasswd.File
	loaded stamp
}

// stamp says whether a file is still the one that was read.
type stamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

func newPlain(s *server, name, otp string) (m method, warnings []string, err error) {
	p := &plain{s: s, name: name, file: new(ocpasswd.File)}
	if otp != "" {
		if p.codes, warnings, err = newCodes(s, otp); err != nil {
			return nil, nil, err
		}
	}
	if name == "" {
		return p, warnings, nil
	}
	b, err := p.read()
	if err != nil {
		return nil, nil, err
	}
	if open := withoutPassword(b); len(open) > 0 && p.codes == nil {
		const shown = 5
		warnings = append(warnings, fmt.Sprintf("%s: %d users have no password and are let in without one: %s",
			name, len(open), strings.Join(open[:min(shown, len(open))], ", ")))
	}
	return p, warnings, nil
}

// read reads the file, and keeps it in memory.
func (p *plain) read() ([]byte, error) {
	f, err := os.Open(p.name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b, err := readAll(f, ocpasswd.MaxFile)
	if err != nil {
		return nil, err
	}
	file, err := ocpasswd.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	p.file, p.loaded = file, stampOf(st)
	return b, nil
}

// users returns the file as it is on disk now. One that cannot be read lets
// nobody in, not those of before.
func (p *plain) users() (*ocpasswd.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.name == "" {
		return p.file, nil
	}
	st, err := os.Stat(p.name)
	if err != nil {
		return nil, err
	}
	if stampOf(st) != p.loaded {
		if _, err := p.read(); err != nil {
			p.loaded = stamp{}
			return nil, err
		}
	}
	return p.file, nil
}

func stampOf(st os.FileInfo) stamp {
	s := st.Sys().(*syscall.Stat_t)
	return stamp{dev: s.Dev, ino: s.Ino, size: s.Size, mtime: s.Mtim, ctime: s.Ctim}
}

func (p *plain) groups() []string {
	f, err := p.users()
	if err != nil {
		return nil
	}
	return f.Groups()
}

func (p *plain) begin(a applicant) (dialogue, verdict) {
	f, err := p.users()
	if err != nil {
		return nil, verdict{why: err.Error()}
	}
	e, found := f.Lookup(a.user)
	group, member := pick(e.Groups, a.group)
	switch {
	case p.name == "":
		return &plainLogin{p: p, who: a, passed: a.group == "", user: a.user}, verdict{outcome: ask, prompt: askOTP}
	case !found || e.Hash != "" || e.Locked || !member:
		return &plainLogin{p: p, who: a}, verdict{outcome: ask, prompt: askPassword}
	case p.codes != nil:
		return &plainLogin{p: p, who: a, passed: true, user: e.User, group: group}, verdict{outcome: ask, prompt: askOTP}
	}
	return nil, verdict{outcome: admit, user: e.User, group: group}
}

// plainLogin is the dialogue: a password, then a one-time password if the
// method has both; three tries together.
type plainLogin struct {
	p      *plain
	who    applicant
	failed int
	asked  uint32 // passwords before the one that is asked for now

	// Of the password's stage.
	passed      bool // or there is none
	user, group string
}

func (d *plainLogin) answer(password []byte) verdict {
	if d.passed || d.p.name == "" {
		return d.answerCode(password)
	}
	f, err := d.p.users()
	if err != nil {
		return verdict{user: d.who.user, why: err.Error()}
	}
	if !d.p.s.hashing.enter() {
		return verdict{outcome: busy, prompt: askPassword}
	}
	e, ok, err := func() (ocpasswd.Entry, bool, error) {
		defer d.p.s.hashing.leave()
		return d.p.s.hashing.check(f, d.who.user, password)
	}()
	group, member := pick(e.Groups, d.who.group)
	if !ok || err != nil || !member {
		return d.wrong(askPasswordAgain, reason(ok, member, err))
	}
	if d.p.codes == nil {
		return verdict{outcome: admit, user: e.User, group: group}
	}
	d.passed, d.user, d.group = true, e.User, group
	d.asked = 1
	return verdict{outcome: ask, prompt: askOTP, counter: d.asked}
}

// end does nothing: nobody else knows of the login.
func (d *plainLogin) end() {}

// answerCode takes a one-time password. Where it is the only one, a group that
// was asked for is wrong: nobody knows who is in it.
func (d *plainLogin) answerCode(code []byte) verdict {
	good, err := d.p.codes.good(d.who.user, code)
	switch {
	case err != nil:
		return verdict{user: d.who.user, why: err.Error()}
	case good && d.passed:
		return verdict{outcome: admit, user: d.user, group: d.group}
	case good:
		return d.wrong(askOTPAgain, "not in the group asked for")
	}
	return d.wrong(askOTPAgain, "wrong user name or one-time password")
}

// wrong asks once more, three times at most.
func (d *plainLogin) wrong(prompt, why string) verdict {
	v := verdict{user: d.who.user, wrong: true, why: why}
	if d.failed++; d.failed < tries {
		v.outcome, v.prompt, v.counter = ask, prompt, d.asked
	}
	return v
}

// reason is for the log: to the client all of these are one.
func reason(ok, member bool, err error) string {
	switch {
	case err != nil && !errors.Is(err, ocpasswd.ErrTooLong):
		return err.Error()
	case ok && !member:
		return "not in the group asked for"
	}
	return "wrong user name or password"
}

// pick returns the group of a login: the one asked for, which the user must be
// in, or his first. Without groups and without asking it is none.
func pick(groups []string, asked string) (group string, member bool) {
	switch {
	case asked != "":
		return asked, slices.Contains(groups, asked)
	case len(groups) > 0:
		return groups[0], true
	}
	return "", true
}

// withoutPassword lists the users of a file whose hash is empty. Each line is
// parsed as a file of its own, so that ocpasswd decides what a line says.
func withoutPassword(b []byte) (users []string) {
	seen := map[string]bool{}
	for line := range bytes.Lines(b) {
		name, _, _ := strings.Cut(string(line), ":")
		one, err := ocpasswd.Parse(line)
		if err != nil || seen[name] {
			continue
		}
		if e, ok := one.Lookup(name); ok {
			seen[name] = true
			if e.Hash == "" && !e.Locked {
				users = append(users, name)
			}
		}
	}
	return users
}
