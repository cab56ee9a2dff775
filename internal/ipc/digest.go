package ipc

import (
	"crypto/sha256"
	"fmt"
)

// Digest is of all that is said between the processes: the messages' description,
// their types, and the descriptors that travel with them.
func Digest() []byte {
	h := sha256.New()
	h.Write([]byte(file_ipc_proto_rawDesc))
	for t, name := range typeNames {
		fmt.Fprintln(h, t, name, fds[t])
	}
	return h.Sum(nil)
}
