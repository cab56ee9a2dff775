//go:build !lean

package ipc

import "google.golang.org/protobuf/proto"

// described is what protobuf's own code needs of a message.
type described interface{ proto.Message }

// unmarshal reads a message whose strings must be UTF-8.
func unmarshal(b []byte, m Message) error { return proto.Unmarshal(b, m) }
