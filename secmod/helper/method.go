package helper

import (
	"context"
	"net/netip"
	"time"

	"rocserv/internal/ipc"
	"rocserv/internal/sandbox"
)

// Method is a way to log in, as one line of the configuration says it.
type Method interface {
	// Begin hears who wants to log in. With Ask the login goes on with the
	// dialogue; otherwise there is none.
	Begin(ctx context.Context, a Applicant) (Dialogue, Verdict)
}

// Dialogue is a login under way.
type Dialogue interface {
	// Answer takes the client's answer, which is cleared when it returns. Any
	// verdict but Ask ends the login.
	Answer(ctx context.Context, answer []byte) Verdict
	// End is called once, when the login is over, for whatever reason.
	End()
}

// Browsing is a dialogue that the user's browser has a part in: its answer is what the
// browser gets here for the client.
type Browsing interface {
	Dialogue
	// Browse takes what a browser has brought. It may be called several times, while
	// Answer is under way, and after End. The ticket and the virtual host are right.
	Browse(ctx context.Context, q *ipc.Browse) *ipc.Browsed
}

// Account is what is told of sessions, as a line acct of the configuration says it.
type Account interface {
	// Tell returns when it is accounted, or cannot be: then it may be told again.
	// Of one session one thing is told at a time, in the order in which it happened.
	Tell(ctx context.Context, a Accounting) error
}

// Target names sessions; what is set must all be theirs.
type Target struct {
	SafeID string
	User   string
	Lease  netip.Addr
	Peer   netip.Addr // the login came from
}

// Disconnect has sessions ended that are accounted by the helper's method, and
// returns how many there were.
type Disconnect func(context.Context, Target) (int, error)

// Event is what became of a session.
type Event uint8

// The events.
const (
	Start Event = iota
	Interim
	Stop
)

// Accounting is a session at some event.
type Accounting struct {
	Event  Event
	At     time.Time // of the event
	SafeID string
	User   string
	Group  string
	Vhost  string
	Agent  string     // what the client's program calls itself
	Peer   netip.Addr // the client, at its login
	Local  netip.Addr // that it reached; invalid: not known
	Lease  []netip.Addr
	Login  time.Time
	Up     uint64 // bytes from the client
	Down   uint64
	Reason ipc.Reason // with Stop
}

// Applicant is who wants to log in.
type Applicant struct {
	User  string // by the client's own word, as is all but the addresses
	Group string // as asked for; empty: none
	Vhost string
	Agent string     // what its program calls itself
	Peer  netip.Addr // of the client
	Local netip.Addr // that it reached; invalid: not known

	Browser *ipc.Browser // with a login in the browser
	Ticket  string       // by which that finds it: in URLs
}

// Outcome is what a method made of a step.
type Outcome uint8

// The outcomes.
const (
	Refused     Outcome = iota // for good
	Ask                        // the login goes on
	Admit                      // logged in
	Unavailable                // who would know cannot be asked
)

// Verdict is a method's answer to a step.
type Verdict struct {
	Outcome Outcome
	Prompt  string   // with Ask
	Counter uint32   // with Ask: which of several passwords is asked for, from 0
	Wrong   bool     // the client gave a wrong answer: points against its address
	Why     string   // for the log; never holds what the client sent
	User    string   // with Admit: who it is
	Leg     []byte   // for the client's program (Negotiate); with Ask it answers
	Groups  []string // with Admit: the user's groups; the first is taken unless another is asked for
	Grant   Grant    // with Admit

	LoginURL, FinalURL string // with Ask, of a Browsing: where the browser begins, and will be in the end
}

// Grant is what a method's server says of a session; zero values are as the
// configuration has them.
type Grant struct {
	IPv4, IPv6     netip.Addr
	Bits4          int          // of the network IPv4 is in
	Net6           netip.Prefix // all of it is the session's
	Routes         []netip.Prefix
	DNS            []netip.Addr
	SessionTimeout time.Duration
	IdleTimeout    time.Duration
	Interim        time.Duration // between two interim accounts
	RxPerSec       uint64        // bytes from the client
	TxPerSec       uint64
}

// Relay takes what a client sends to a server of the operator's, and returns the
// server's answer.
type Relay func(ctx context.Context, message []byte) ([]byte, error)

// Made is a method that is ready.
type Made struct {
	Method   Method
	Account  Account                           // of a line acct, in place of Method
	Relay    Relay                             // of a line kkdcp, in place of Method
	Listen   func(context.Context, Disconnect) // if set, runs once the helper is confined, until the context ends
	Warnings []string                          // for the operator
	Files    sandbox.Files                     // folders in which it will open files again
	Watch    []string                          // files that it has read because its options' file names them
}

// Make makes a method of the options of a line of the configuration. It opens
// what they name; log is for what happens later.
type Make func(options map[string]string, log Logger) (Made, error)

// Check reads what Make would, and asks nobody for it: no name is looked up.
type Check func(options map[string]string) (warnings []string, err error)

// Kind is a method as the program has it.
type Kind struct {
	Make  Make
	Check Check

	// The same for lines of acct; nil: it has no accounting.
	MakeAccount  Make
	CheckAccount Check
	// Together says what keeps lines of acct, each of which is good, from being in
	// effect at the same time. nil: nothing does.
	Together func(lines []map[string]string) error

	Modules bool // it loads libraries in C once it is confined
}

// Table has the methods, by their names in the configuration.
type Table map[string]Kind
