// Package blocklist is lists of DNS names that are not to be answered: how they
// are written in files, and how they are kept so that many processes can have
// long ones.
//
// # Theory of operation
//
// sec-mod reads the files (Parse) and gives workers the Set: eight bytes for
// each name, a hash, sorted. A name is looked up with each domain it is in, from
// the shortest on: a list's entry holds for itself and everything below. Two
// names with the same 64 bits are taken for one another; among a million names a
// given other one meets that with a probability of 1 in 10^13.
//
// # Formats
//
// A line is a domain, "*.DOMAIN" or "||DOMAIN^", which mean the same here, or,
// as in hosts(5), an address and names; # begins a remark. Of lines with an
// address, names without a dot (localhost) are left out.
//
// # Security
//
// Files are the operator's, often from somewhere else: what is no name is
// counted and left out, and how many names there can be is bounded. Parse is
// fuzzed.
package blocklist
