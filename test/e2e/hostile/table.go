package hostile

import (
	"net/netip"
	"slices"
)

// Stages of a worker's life.
const (
	Pooled    = "pooled"
	Handshake = "handshake"
	Login     = "login"
	Tunnel    = "tunnel"
)

// Want is what must come of an attempt.
type Want string

const (
	Refused Want = "refused" // it gets an error, and lives
	Ended   Want = "ended"   // it is ended, and that is counted as a violation
	Broken  Want = "broken"  // the other client's worker hangs up, and counts that
	Allowed Want = "allowed" // it is no misdeed: so an attempt beside it could succeed
)

// Attempt is something that a worker must not get away with.
type Attempt struct {
	Name   string
	Stages []string
	Want   Want
	do     func(*taken, *Order) error // nil: it got away with it
}

// Order is what a client tells the worker to try.
type Order struct {
	Attempt  string `json:"attempt"`
	Stage    string `json:"stage"`
	User     string `json:"user"`
	Password string `json:"password"`

	Main   int `json:"main"` // pids
	SecMod int `json:"secmod"`
	Other  int `json:"other"` // another client's worker

	Key    string `json:"key"`     // the private key's file
	Config string `json:"config"`  // the configuration file
	Port   int    `json:"port"`    // the server's
	SafeID string `json:"safe_id"` // of another client's session, as people are shown it

	// Addresses of the client beside, of the network behind it, and of that
	// behind the worker's own client.
	Beside, BehindOther, Behind netip.Addr
}

// Prefix of the line with an Order.
const Prefix = "hostile "

// In is the answer after an attempt that was successful.
const In = "in"

// Table is all of them.
func Table() []Attempt {
	return slices.Concat(kernelAttempts(), mainAttempts(), secModAttempts(), peerAttempts())
}

func find(name string) (Attempt, bool) {
	for _, a := range Table() {
		if a.Name == name {
			return a, true
		}
	}
	return Attempt{}, false
}
