package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Version is that of the protocol. It changes when what a client of before
// relies on changes its meaning; new commands and new fields do not count.
const Version = 1

// MaxRequest is the longest request in bytes, with its newline.
const MaxRequest = 16 << 10

// Request asks for one thing.
type Request struct {
	V    int             `json:"v"`
	ID   uint64          `json:"id,omitempty"` // repeated in the answer
	Cmd  string          `json:"cmd"`
	Args json.RawMessage `json:"args,omitempty"`
}

// Reply is an answer, or an event for the request that asked for them.
type Reply struct {
	V      int             `json:"v"`
	ID     uint64          `json:"id,omitempty"`
	OK     bool            `json:"ok"`
	Error  *Error          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Event  *Event          `json:"event,omitempty"`
}

// Code says what kind of refusal an error is.
type Code string

// The codes. A client takes one it does not know for Failed.
const (
	BadRequest  Code = "bad-request"     // not to be understood, or with arguments that make no sense
	BadVersion  Code = "bad-version"     // of another protocol
	Unknown     Code = "unknown-command" //
	NotFound    Code = "not-found"       // no such user, id, session or address
	Ambiguous   Code = "ambiguous"       // the name fits several; Error.Candidates
	Busy        Code = "busy"            // too many connections
	Unavailable Code = "unavailable"     // who would have to answer does not
	Failed      Code = "failed"          // anything else
)

// Error is a request that was not fulfilled.
type Error struct {
	Code       Code     `json:"code"`
	Message    string   `json:"message"`
	Candidates []string `json:"candidates,omitempty"`
}

func (e *Error) Error() string { return e.Message }

// Errorf makes one.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// parseRequest reads one line. What is wrong with it is an *Error; the request
// then has as much as could be read, for the id.
func parseRequest(line []byte) (Request, error) {
	var r Request
	if err := decode(line, &r); err != nil {
		return r, Errorf(BadRequest, "not a request: %v", err)
	}
	if r.V != Version {
		return r, Errorf(BadVersion, "protocol version %d is not spoken here, but %d", r.V, Version)
	}
	if r.Cmd == "" {
		return r, Errorf(BadRequest, "no cmd in the request")
	}
	return r, nil
}

// decode is strict: one value, and no field that v does not have.
func decode(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value on the line")
	}
	return nil
}
