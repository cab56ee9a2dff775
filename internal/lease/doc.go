// Package lease is main's table of the addresses that sessions hold.
//
// # Theory of operation
//
// A session is known by an owner string of the caller's choice. Take gives it
// addresses from the networks of its request, Free takes them back, and in
// between every Take of the same owner gives the same lease again, byte for
// byte: openconnect ends its session when a reconnect brings other addresses.
// Restore enters a lease that was made before this process started.
//
// An address is found in three steps:
//
//  1. The seed, a hash of the user's name (predictable-ips) or a random number,
//     is masked into the network: what ocserv does, so the same user mostly gets
//     the same address.
//  2. If that is taken, a few more come from hashing the seed again and again.
//  3. Then the network is walked from the last candidate on, around its end.
//     Every step passes an address in use, so a walk ends after as many steps as
//     there are leases, however large the network is; and "exhausted" is said
//     only when nothing is left.
//
// IPv6 is handed out as subnets of Request.SubnetBits6; the lease is an address
// inside. IPv4 is the same with subnets of one address. Not handed out are, of
// IPv4, the network's and the broadcast address and the server's own (the
// network's with the last bit set); of IPv6 the first subnet, where the
// server's own address is, unless there is only one.
//
// # Invariants
//
// No two leases overlap, whatever networks they were taken from: users can have
// networks of their own inside or around each other's, and subnets of several
// sizes. An explicit address is entered like any other. Either a request gets
// everything it wants or the table stays as it was.
//
// # Security
//
// An address is how a worker's packets are told from another's, so a double
// lease would let one client receive what is meant for another. The table is
// pure: it reads the random source it was given and nothing else.
//
// # Standards
//
// RFC 3021 (31-bit prefixes have neither network nor broadcast address), RFC
// 4291 section 2.6.1 (an IPv6 subnet's first address is its routers').
package lease
