// Package house holds the tests that keep the house true: who may import whom,
// that every package explains itself, that ARCHITECTURE.md's map and the
// folders agree, that generated files are current, and what a worker's start
// may cost.
//
// They read the tree and `go list`; they run nothing of the server but a
// worker's start-up.
package house
