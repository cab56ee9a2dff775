// Package attempts counts wrong answers to logins and says when no more are
// listened to.
//
// # Theory of operation
//
// Three things are counted over all virtual hosts and groups: wrong answers for
// one user name, from one source (an IPv4 address or an IPv6 /64), and for one
// name from one source, a pair. Each count has a limit and leaks away evenly, so
// that a full one is empty after Policy.Time and at its limit lets one more
// answer through every Time/limit (a leaky bucket; as in the generic cell rate
// algorithm, what is kept is the moment at which a count is back at nothing).
//
// The pair of a user and a place he logged in from is known (Know). Its answers
// are held against the pair and the source, but only the pair's own limit stops
// it: strangers who guess a user's name lock out other strangers, and guesses
// from an office's address do not keep those out who always come from there.
// Know forgets what was held against the pair. It forgets neither what is held
// against the name nor against the source, or an account of his own would buy
// somebody who guesses others' passwords fresh tries.
//
// Many answers at the same time can get beyond a limit, as many as workers have
// to give at once. What is beyond it leaks away no faster, so it buys a burst
// and not a higher rate; to hold right answers up for it would hit whole offices
// that log in in the morning. An answer that is refused is not counted: who
// polls is not locked out for ever.
//
// Names are counted as a directory may compare them: without regard to case,
// width and blanks (RFC 4518), so that spelling buys no tries. Names of users
// that do not exist are counted like any other.
//
// Beside that, Pace and Share bound what else sources ask for: how often, and how much
// of it at a time.
//
// # Invariants
//
// The table is pure: no clock, no goroutine, no log. The time is an argument.
// Each count has a bounded number of keys, in a heap by the moment at which they
// are forgotten. In a full one a new key takes the place of the one nearest to
// that, and begins with its count (Metwally, Agrawal, El Abbadi, "Efficient
// Computation of Frequent and Top-k Elements in Data Streams", 2005: Space-Saving):
// nobody's count is ever too low, so names invented to fill the table hide no
// guesses. It can be too high while the table is full, for those who are not
// known.
package attempts
