package ldap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"

	ber "github.com/go-asn1-ber/asn1-ber"
	goldap "github.com/go-ldap/ldap/v3"

	"rocserv/secmod/helper"
)

// The questions of ocserv's password methods.
const (
	askPassword      = "Please enter your password."
	askPasswordAgain = "Login failed.\nPlease enter your password."
	tries            = 3 // of one login
)

// maxMessage bounds a message of a server.
const maxMessage = 512 << 10

// method logs in at a directory.
type method struct {
	conf *config
	pool *pool
}

// Make makes the method of `ldap[config=FILE]`. It implements helper.Make.
func Make(options map[string]string, _ helper.Logger) (helper.Made, error) {
	ber.MaxPacketLengthBytes = maxMessage
	conf, warnings, err := read(options)
	if err != nil {
		return helper.Made{}, err
	}
	more, err := conf.resolve(net.DefaultResolver.LookupNetIP)
	if err != nil {
		return helper.Made{}, fmt.Errorf("%s: %w", options["config"], err)
	}
	made := helper.Made{Method: &method{conf, newPool(conf)}, Warnings: append(warnings, more...), Watch: conf.files}
	made.Files.Exact = helper.ResolverFiles()
	return made, nil
}

// Check reads the file and what it names. It implements helper.Check.
func Check(options map[string]string) (warnings []string, err error) {
	_, warnings, err = read(options)
	return warnings, err
}

func read(options map[string]string) (*config, []string, error) {
	name := options["config"]
	b, err := helper.ReadFile(name, maxFile)
	if err != nil {
		return nil, nil, err
	}
	defer clear(b)
	conf, warnings, err := parse(string(b))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return conf, warnings, nil
}

// Begin asks everybody for a password: no server has been asked yet.
func (m *method) Begin(_ context.Context, a helper.Applicant) (helper.Dialogue, helper.Verdict) {
	return &login{m: m, user: a.User}, helper.Verdict{Outcome: helper.Ask, Prompt: askPassword}
}

// login is a login under way.
type login struct {
	m      *method
	user   string
	failed int
}

// Answer takes a password.
func (d *login) Answer(ctx context.Context, answer []byte) helper.Verdict {
	if len(answer) == 0 || bytes.IndexByte(answer, 0) >= 0 || d.user == "" {
		return d.wrong("empty password, or one with a NUL") // never sent: RFC 4513, section 6.3.1
	}
	who, err := d.m.pool.ask(ctx, func(conn *goldap.Conn) (person, error) {
		return d.m.conf.check(conn, d.user, string(answer))
	})
	if r := refusal(""); errors.As(err, &r) {
		return d.wrong(string(r))
	}
	if err != nil {
		return helper.Verdict{Outcome: helper.Unavailable, Why: err.Error()}
	}
	return helper.Verdict{Outcome: helper.Admit, User: who.user, Groups: who.groups}
}

// wrong asks once more, three times at most.
func (d *login) wrong(why string) helper.Verdict {
	v := helper.Verdict{Wrong: true, Why: why}
	if d.failed++; d.failed < tries {
		v.Outcome, v.Prompt = helper.Ask, askPasswordAgain
	}
	return v
}

// End implements helper.Dialogue: there is nothing to end.
func (d *login) End() {}
