// Package descriptors tells tests what this process has open, and what a test has
// left open.
//
// A descriptor is told by its number and by what is there: a count alone would also
// tell of what an earlier test closes late.
package descriptors
