// Package ipc carries messages between main, sec-mod and the workers.
//
// # Theory of operation
//
// Every channel is a Unix SEQPACKET socketpair that main made before one end
// was given away; there is no socket in the file system between the roles, so
// who is at the other end is decided by which descriptor one holds.
// SEQPACKET keeps message boundaries, and descriptors (SCM_RIGHTS) travel with
// their message.
//
//	record = type (1 byte) | request id (uint32, big endian) | protobuf body
//
// A record is at most MaxRecord bytes and never empty (an empty record cannot
// be told from the end of the stream). What can be longer (routes, rules,
// chains) travels as a sealed memfd beside the message: see Seal and ReadSealed.
// The id is 0 on lock-step channels (worker to main, worker to sec-mod: one
// request at a time, the answer is the next record that is no notification)
// and names the request on the channels between main and sec-mod and between
// sec-mod and a login helper, where many are outstanding.
//
// A refused password is an answer. A record that is too long, truncated,
// unknown, without a decodable body, or with another number of descriptors
// than its type has (types.go) is a Violation: the receiver closes the
// channel and main ends the worker. Descriptors of such a record are closed.
//
// Both sides write, and workers read, with code that vtprotobuf generates: the
// tables of protobuf's own, which it makes at the first message, would be a part of
// every worker's memory. main and sec-mod read what workers send with protobuf, which
// wants strings to be UTF-8 (Conn.Trust).
//
// Built with the tag lean, as a program that is nothing but a worker is, the messages
// are the same types without protobuf's description of them, and nothing of protobuf's
// runtime is linked (lean/).
//
// The generated types are for transport: code that decides something
// converts at its edge.
//
// # Invariants
//
// Only recvmsg is used (a plain read truncates silently), with MSG_TRUNC and
// MSG_CTRUNC checked. Received descriptors are close-on-exec. Send never
// blocks longer than its channel's write deadline.
package ipc

//go:generate sh -c "protoc --plugin=protoc-gen-go=$(go tool -n protoc-gen-go) --go_out=. --go_opt=paths=source_relative --plugin=protoc-gen-go-vtproto=$(go tool -n protoc-gen-go-vtproto) --go-vtproto_out=. --go-vtproto_opt=paths=source_relative,features=marshal+unmarshal+size ipc.proto"
//go:generate ./lazily ipc.pb.go
//go:generate go run ./lean ipc.pb.go ipc_vtproto.pb.go ipc_lean.pb.go
