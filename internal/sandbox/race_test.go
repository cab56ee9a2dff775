//go:build race

package sandbox

const raceEnabled = true // its own memory is more than a worker may have
