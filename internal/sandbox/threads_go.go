//go:build !cgo

package sandbox

const withC = false // the runtime starts all threads, and reaches them
