// Package match finds, for a destination, the first of an ordered list of
// rules. The rules of what a client may reach and those of which way it takes
// are both such lists.
//
// # Theory of operation
//
// A rule holds for networks, domains or anything, and there for all protocols
// and ports or for some. New turns the list inside out: every network and every
// domain that rules name becomes a node, and a node holds, for each protocol,
// disjoint ranges of ports with the number of the first rule that has them.
//
//	Find   the node of the longest network around the address, and those around
//	       it → of each, the range of the port → the lowest number
//	       for each name of the address: the node of the name, of its parent …
//
// So a lookup costs a step in a prefix trie, a step for each network of the
// list that contains another around this address, and a binary search in each;
// how many rules there are does not matter (BenchmarkFind).
//
// A domain holds for its name and all names below it, "*.example.org" only for
// those below. An address has the names by which the client asked for it.
//
// # Invariants
//
// A Table does not change. Find allocates nothing.
package match
