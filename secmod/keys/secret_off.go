//go:build !goexperiment.runtimesecret

package keys

// do runs f. With GOEXPERIMENT=runtimesecret it also erases what f leaves in
// registers, on the stack and, after the next collection, on the heap.
func do(f func()) { f() }
