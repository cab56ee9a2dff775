// Command lean writes the messages once more, for programs that are built with the tag
// lean: the same types and fields without protobuf's description of them, and so
// without its runtime.
//
//	lean ipc.pb.go ipc_vtproto.pb.go ipc_lean.pb.go
//
// It reads what protoc-gen-go has made, which it gives the tag's opposite, and takes
// from vtprotobuf's code the one thing that needs the runtime: that it is not too old.
// Instead of reflection each message gets a method that looks at its strings.
package main
