// Reference writes what the table of options says for people: doc/config.md,
// a page of all options, and doc/sample.config, a file that can be started
// from. `make gen` runs it; test/house has it run again to see that what is in
// doc/ is what it writes.
//
// # Theory of operation
//
// Everything comes from config.Parts, and nothing is said here that the table
// does not say, but for one thing: what a line looks like in the sample where
// the default is none (examples.go). A line that a server cannot do without, or
// hardly anybody will, stands in the sample as it is; every other one behind a #,
// so that taking the # away makes a line that is right.
package main
