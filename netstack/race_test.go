//go:build race

package netstack

// raceDetector is on: sync.Pool forgets at random, allocations cannot be counted.
const raceDetector = true
