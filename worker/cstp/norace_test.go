//go:build !race

package cstp

const raceEnabled = false
