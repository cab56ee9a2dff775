package ipc

import (
	"bytes"
	"testing"
)

// TestDigest: it is of the messages' types and descriptors too, and always the same.
func TestDigest(t *testing.T) {
	first := Digest()
	if !bytes.Equal(first, Digest()) {
		t.Error("two of one program differ")
	}
	was := fds[WorkerStartupT]
	fds[WorkerStartupT] = [2]int{2, 3}
	if bytes.Equal(first, Digest()) {
		t.Error("a descriptor more makes no difference")
	}
	fds[WorkerStartupT] = was
	name := typeNames[WhyT]
	typeNames[WhyT] = ""
	if bytes.Equal(first, Digest()) {
		t.Error("a message less makes no difference")
	}
	typeNames[WhyT] = name
	if !bytes.Equal(first, Digest()) {
		t.Error("it is not the same again")
	}
}
