// Package session is sec-mod's table of logins and sessions.
//
// # Theory of operation
//
// A login and the session it becomes are one entry. Who holds its SID, 32
// random bytes minted here and nowhere else, holds the login, and after it the
// session: the SID is the cookie.
//
//	         Begin            Ask               Complete
//	Inactive ──────► Init ─────────► Cont ────────────────► Completed
//	                  │  Complete     │ ▲ Ask                ▲
//	                  ├───────────────┼─┴────────────────────┤
//	                  │      Fail     │                      │ Admit
//	                  └──────► Failed ◄                   Inactive
//
// Between two answers an entry holds what the method of login needs to go on
// (the type parameter). Take hands it to one caller, who must then say what
// became of it: Ask, Complete, Fail, or Release if nothing did. A second Take
// meanwhile is ErrBusy: a SID sent twice at once is one attempt, not two.
// Complete replaces the SID, so that whoever planted a login's cookie does not
// own the session.
//
// A completed session is opened by every worker that asks for the tunnel with
// its cookie. The newest worker is the session: its end starts the cookie's
// time or ends it, older ones (kept for their TCP flows, or not yet reaped)
// only bring their counters home.
//
//	newest worker ends because                  persistent-cookies off   on
//	the server or an administrator ended it     gone                     kept
//	the user left                               gone                     kept
//	session-timeout                             gone                     gone
//	anything else (DPD, idle, error, network)   kept                     kept
//
// Kept means CookieTimeout and a grace of 15 s, but never beyond
// SessionTimeout after the login, which no reconnect moves. While the newest
// worker lives the cookie does not expire. (ocserv, sec-mod-db.c and
// sec-mod-auth.c, has the same table, with a count of workers instead of the
// newest one; counting would let an older worker's end revive a session that
// an administrator ended.)
//
// Terminate makes a cookie void at once. A tunnel that it opened goes on, and
// with its newest worker's end the session is gone, whatever the reason.
//
// # Bounds
//
// Logins under way are bounded, the oldest goes first; so are sessions that
// nobody ever opened. Opened ones are bounded by the leases main has.
//
// # Invariants
//
//   - A SID is stored as its SHA-256 and found by it, so neither a dump of the
//     table nor the time of a look-up helps to guess one.
//   - What is shown to people is SafeID, the SHA-1 of the SID, and its first
//     six characters.
//   - Only a Completed entry can be opened; only an Init or Cont entry can be
//     taken; Failed entries answer nothing and wait for their end.
//   - Totals only grow: each worker's counters are taken at their maximum.
//
// # Goroutines
//
// Every method may be called from any goroutine; one mutex covers the table
// and is never held over anything slow. The clock is injected.
//
// # Security
//
// A SID never prints itself. Nothing here says whether a SID was wrong,
// expired or of another state; callers get one sentinel to log, clients none.
package session
