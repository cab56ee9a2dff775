//go:build cgo

package sandbox

const withC = true // libraries in C start threads, too, and Prepare reaches only its own
