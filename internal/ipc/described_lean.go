//go:build lean

package ipc

import "errors"

// described is what is needed of a message where protobuf's own code is not there.
type described interface{ validStrings() bool }

var errNotUTF8 = errors.New("a string is not UTF-8")

// unmarshal reads a message whose strings must be UTF-8.
func unmarshal(b []byte, m Message) error {
	if err := m.UnmarshalVT(b); err != nil {
		return err
	}
	if !m.validStrings() {
		return errNotUTF8
	}
	return nil
}
