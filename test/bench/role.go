package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"rocserv/test/e2e/lab"
)

// roles are what this program is when it is started inside a namespace: its
// first argument names one, standard input has the question and standard output
// gets the answer, both JSON.
var roles = map[string]func(in []byte) (any, error){
	"__rr":    role(roundTrips),
	"__crr":   role(connects),
	"__rate":  role(handshakes),
	"__hold":  role(hold),
	"__load":  role(loadRole),
	"__flood": role(flood),
	"__pour":  role(pour),
}

// role adapts a function to its JSON.
func role[Q, A any](run func(Q) (A, error)) func([]byte) (any, error) {
	return func(in []byte) (any, error) {
		var q Q
		if err := json.Unmarshal(in, &q); err != nil {
			return nil, err
		}
		return run(q)
	}
}

// runRole runs a role to its end.
func runRole(run func([]byte) (any, error)) error {
	var in json.RawMessage
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		return err
	}
	a, err := run(in)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(a)
}

// ask runs a role in a namespace.
func ask[A any](n lab.Netns, name string, question any, limit time.Duration) (A, error) {
	var a A
	self, err := os.Executable()
	if err != nil {
		return a, err
	}
	q, err := json.Marshal(question)
	if err != nil {
		return a, err
	}
	out, err := n.RunFor(limit, string(q), self, name)
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		return a, fmt.Errorf("%s: %w in %q", name, err, out)
	}
	return a, nil
}
