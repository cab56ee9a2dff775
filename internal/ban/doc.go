// Package ban counts what is held against source addresses and says which of
// them are banned.
//
// # Theory of operation
//
// A source is one IPv4 address or one IPv6 /64, since a host chooses freely
// among the addresses of its own /64. Points come from two sides. Connect is
// asked for every new connection: it refuses a banned source and gives the
// others the points of a connection. Add takes the points of wrong passwords
// and of whatever else main is told.
//
// A source is banned once its points reach Policy.MaxScore. The ban ends
// BanTime after the last points below the threshold, or after the points that
// crossed it; what is added during a ban does not move its end, so that a
// client that polls is not banned for ever. After a ban a source starts from
// nothing. A source that is not banned starts from nothing ResetTime after the
// first of its points.
//
// Sources inside Exempt (the host's own networks, as in ocserv, unless the
// operator says otherwise, and those he names) are never refused and get no points for connecting.
// Points for wrong passwords are counted against them as well: they show in
// lists, and count as soon as the source is exempt no longer.
//
// # Invariants
//
// The table is pure: no clock, no goroutine, no log. The time is an argument.
// It holds at most MaxEntries sources, in two lists in the order of last use:
// those that are banned and those that are not. A full table forgets the
// source that was quiet longest, and one that is banned only if all are.
//
// # Security
//
// Someone with very many addresses can push single points out of the table,
// at the price of MaxEntries connections, but lifts no ban before every entry
// is a ban. Addresses behind one translator share one entry; Exempt is the
// remedy.
package ban
