//go:build race

package cstp

const raceEnabled = true
