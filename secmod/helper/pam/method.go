//go:build cgo && pam

package pam

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/msteinert/pam/v2"

	"rocserv/internal/sandbox"
	"rocserv/secmod/helper"
)

const maxPrompt = 4096 // bytes of what modules say at once

// answerless is what the prompt is if a module gives none.
const answerless = "Please enter your password."

var errGone = errors.New("pam: nobody answers any more")

// method is a line `auth = pam`, or one of acct.
type method struct {
	options
	log     helper.Logger
	confDir string // of services; empty: libpam's. Tests have their own
	places  *places
}

// Make makes the method of a line `auth = "pam[...]"`.
func Make(line map[string]string, log helper.Logger) (helper.Made, error) {
	m, made, err := makeFor(line, log)
	made.Method = m
	return made, err
}

// MakeAccount makes the accounting of a line `acct = pam`.
func MakeAccount(line map[string]string, log helper.Logger) (helper.Made, error) {
	m, made, err := makeFor(line, log)
	made.Account = m
	return made, err
}

func makeFor(line map[string]string, log helper.Logger) (*method, helper.Made, error) {
	o, err := readOptions(line)
	if err != nil {
		return nil, helper.Made{}, err
	}
	m := &method{options: o, log: log, places: newPlaces(maxConversations, maxShare)}
	// What modules read is theirs to know: their own folders, the host's users, keys.
	return m, helper.Made{Warnings: o.found(), Files: sandbox.Files{Read: []string{"/"}}}, nil
}

// start begins a transaction with libpam.
func (m *method) start(name string, peer netip.Addr, talk pam.ConversationFunc) (t *pam.Transaction, err error) {
	if m.confDir != "" {
		t, err = pam.StartConfDir(m.service, name, talk, m.confDir)
	} else {
		t, err = pam.Start(m.service, name, talk)
	}
	if err == nil && peer.IsValid() {
		err = t.SetItem(pam.Rhost, peer.String())
	}
	return t, err
}

// Begin begins the conversation, and returns its first question.
func (m *method) Begin(ctx context.Context, a helper.Applicant) (helper.Dialogue, helper.Verdict) {
	d := &login{m: m, who: a, answers: make(chan string), verdicts: make(chan helper.Verdict, 1), gone: make(chan struct{})}
	if !m.places.enter(d) {
		return nil, helper.Verdict{Outcome: helper.Unavailable, Why: "PAM: too many conversations are under way"}
	}
	go d.run()
	return d, d.next(ctx)
}

// login is the dialogue: a conversation of modules on a goroutine of its own.
type login struct {
	m        *method
	who      helper.Applicant
	answers  chan string
	verdicts chan helper.Verdict // one at a time: the next question, or the end
	gone     chan struct{}       // closed by End
	once     sync.Once

	// Of places.
	source netip.Prefix
	since  time.Time
	idle   atomic.Bool // a module waits for an answer

	// Owned by run.
	said    []string // by modules, without a question
	prompt  string   // asked last
	counter uint32   // questions that were others than the one before
}

// End ends a conversation that is under way.
func (d *login) End() { d.once.Do(func() { close(d.gone) }) }

// Answer gives the answer to the module that asks.
func (d *login) Answer(ctx context.Context, answer []byte) helper.Verdict {
	select {
	case d.answers <- string(answer):
	case <-d.gone:
		return gaveWay
	case <-ctx.Done():
		return helper.Verdict{Outcome: helper.Unavailable, Why: errGone.Error()}
	}
	return d.next(ctx)
}

// gaveWay is the verdict on a conversation whose place became another's.
var gaveWay = helper.Verdict{Outcome: helper.Unavailable, Why: "PAM: the conversation gave way to others"}

func (d *login) next(ctx context.Context) helper.Verdict {
	select {
	case v := <-d.verdicts:
		return v
	case <-d.gone:
		return gaveWay
	case <-ctx.Done(): // the modules hear of it when they ask
		d.End()
		return helper.Verdict{Outcome: helper.Unavailable, Why: errGone.Error()}
	}
}

// run plays the service.
func (d *login) run() {
	defer d.m.places.leave(d)
	t, err := d.m.start(d.who.User, d.who.Peer, d.talk)
	if err != nil {
		d.end(verdictOf(err))
		return
	}
	defer t.End()
	wrong := false
	if err = t.Authenticate(0); err == nil {
		err = d.account(t)
	} else {
		wrong = true
	}
	v := verdictOf(err)
	v.Wrong = v.Wrong && wrong
	if err == nil {
		v = d.admit(t)
	} else if len(d.said) > 0 {
		v.Why += ": " + strings.Join(d.said, "; ")
	}
	d.end(v)
}

// end gives the last verdict. There may be a question before it that nobody has read.
func (d *login) end(v helper.Verdict) {
	select {
	case d.verdicts <- v:
	case <-d.gone:
	}
}

// account is the account stage, and the change of a password that has expired.
func (d *login) account(t *pam.Transaction) error {
	err := t.AcctMgmt(0)
	if errors.Is(err, pam.ErrNewAuthtokReqd) {
		err = t.ChangeAuthTok(pam.ChangeExpiredAuthtok)
	}
	return err
}

// talk is the conversation with modules: it keeps what they say and asks what they ask.
func (d *login) talk(style pam.Style, text string) (string, error) {
	text = strings.TrimSpace(strings.ToValidUTF8(text, "?"))
	switch style {
	case pam.ErrorMsg, pam.TextInfo:
		if len(d.said) < 16 && text != "" {
			d.said = append(d.said, text)
		}
		return "", nil
	case pam.PromptEchoOff, pam.PromptEchoOn:
		return d.ask(cmp.Or(text, answerless))
	}
	return "", fmt.Errorf("pam: a message of style %d", style)
}

func (d *login) ask(prompt string) (string, error) {
	if d.prompt != "" && prompt != d.prompt { // openconnect takes its next answer (ocserv, passwd_counter)
		d.counter++
	}
	d.prompt = prompt
	text := strings.Join(append(d.said, prompt), "\n")
	d.said = nil
	if len(text) > maxPrompt {
		text = strings.ToValidUTF8(text[:maxPrompt], "")
	}
	select {
	case d.verdicts <- helper.Verdict{Outcome: helper.Ask, Prompt: text, Counter: d.counter}:
	case <-d.gone:
		return "", errGone
	}
	d.idle.Store(true)
	defer d.idle.Store(false)
	select {
	case a := <-d.answers:
		return a, nil
	case <-d.gone:
		return "", errGone
	}
}

// admit says who has logged in: modules may know a better name.
func (d *login) admit(t *pam.Transaction) helper.Verdict {
	name, err := t.GetItem(pam.User)
	if err != nil || name == "" {
		return helper.Verdict{Outcome: helper.Unavailable, Why: "PAM: the modules name no user"}
	}
	return helper.Verdict{Outcome: helper.Admit, User: name, Groups: helper.HostGroups(name, d.m.gidMin)}
}

// unknowing are errors that say nothing of the user.
var unknowing = []error{
	pam.ErrAuthinfoUnavail, pam.ErrAbort, pam.ErrSystem, pam.ErrService, pam.ErrBuf, pam.ErrOpen, pam.ErrSymbol, pam.ErrModuleUnknown, pam.ErrTryAgain,
	pam.ErrAuthtokLockBusy,
}

// refusing are errors of somebody who gave no wrong answer.
var refusing = []error{pam.ErrAcctExpired, pam.ErrPermDenied, pam.ErrNewAuthtokReqd, pam.ErrAuthtok, pam.ErrConv}

func verdictOf(err error) helper.Verdict {
	if err == nil {
		return helper.Verdict{}
	}
	is := func(list []error) bool {
		for _, e := range list {
			if errors.Is(err, e) {
				return true
			}
		}
		return false
	}
	v := helper.Verdict{Why: "PAM: " + err.Error()}
	switch {
	case is(unknowing):
		v.Outcome = helper.Unavailable
	case !is(refusing):
		v.Wrong = true
	}
	return v
}

// Tell opens a session for a session's beginning, and closes it for its end.
func (m *method) Tell(_ context.Context, a helper.Accounting) error {
	if a.Event == helper.Interim {
		return nil
	}
	t, err := m.start(a.User, a.Peer, func(style pam.Style, _ string) (string, error) {
		if style == pam.ErrorMsg || style == pam.TextInfo {
			return "", nil
		}
		return "", errGone
	})
	if err != nil {
		return fmt.Errorf("PAM: %w", err)
	}
	defer t.End()
	if a.Event == helper.Stop {
		err = t.CloseSession(pam.Silent)
	} else if err = t.AcctMgmt(pam.Silent); err == nil {
		err = t.OpenSession(pam.Silent)
	}
	if err == nil {
		return nil
	}
	if verdictOf(err).Outcome != helper.Unavailable { // it would say the same once more
		m.log.Warn("PAM session refused", "user", a.User, "end", a.Event == helper.Stop, "err", err)
		return nil
	}
	return fmt.Errorf("PAM: %w", err)
}
