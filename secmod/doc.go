// Package secmod is sec-mod: the process with the private keys, the passwords
// and the sessions.
//
// # Theory of operation
//
// sec-mod has a channel to main (descriptor 3) and one to every worker that
// has a client. main makes the latter and names them: SECM_WORKER carries the
// channel's end and says who the worker's client is. What a worker says of
// itself counts nowhere. There is no other way in: sec-mod opens no socket and
// parses nothing of a client's but names and a password. A login method that needs
// a server or a library in C is played by a login helper (package helper), to which
// main makes the channel: SECM_HELPER.
//
// Everything it can be asked is one table (dispatch.go): which message, from
// whom, in which states, how often, and what is done. main's first message is
// the configuration; nothing is served before it.
//
// A worker's channel is lock-step and goes through these states:
//
//	              RESUME_OPEN (opened)      SEC_SIGN
//	     ┌──────────► resumed ───────────────────┐
//	     │               │  RESUME_SEAL ↺        ▼  RESUME_SEAL ↺
//	   fresh ────────────┼───────SEC_SIGN─────► signed
//	  SECM_WORKER        │                       │
//	                     ├───────────────────────┘
//	                     │ SEC_AUTH_INIT, SEC_AUTH_CONT (SEC_BROWSE: ↺, without a step)
//	                     ▼                AUTH_OK
//	                  inAuth ↺ ─────────────────► authenticated
//
//	rejoined, from main: as fresh or signed, since nobody knows
//	any of these ─── SECM_SESSION_OPEN by main ──► open (SEC_CLI_STATS, SEC_WAY_SIGN ↺)
//	any ──── violation, panic, end of the channel ──► closed
//
// The handshake names a virtual host and the worker is held to it. A login may
// go on at another worker, since clients take a new TLS connection for a step
// when they like: what they bring along is the SID. A client with a cookie
// makes its handshake and goes to main, who asks here (SECM_SESSION_OPEN).
//
// One unit of work, a login with a tunnel:
//
//	worker  SEC_SIGN               the text is checked and signed (keys)
//	worker  SEC_AUTH_INIT          a method begins; the SID is minted (session)
//	worker  SEC_AUTH_CONT          the password is hashed; a new SID is the cookie
//	main    SECM_SESSION_OPEN      cookie, expiry, roaming; vhost + group's file +
//	                               user's file = the worker's SessionConfig
//	main    SECM_SESSION_LEASED    the tunnel is open, with these addresses
//	worker  SEC_CLI_STATS          counters, the largest ones count
//	main    SECM_SESSION_CLOSE     what is left of the worker's channel is read,
//	                               totals go to main, the cookie lives on or not
//	        SECM_ENDED             it expired: main frees the addresses
//
// # Configuration
//
// SECM_CONFIG carries the file's bytes; sec-mod parses them and opens what
// they name: certificates and keys, password files, OCSP responses. All or
// nothing: an error leaves the generation in effect alone. main learns the
// public chains. A key keeps its index as long as it is configured, and the
// generation before the current one can still sign, so a worker that main
// named while it was taking over the new one is served.
//
// Before it opens anything, sec-mod confines itself to the folders of the files
// that the first configuration names (confine.go): folders, because tools
// replace files by renaming. Landlock cannot be widened, so a later
// configuration that names another folder is refused with an error that says
// so, and what is in effect stays.
//
// Per-user and per-group files are read at every SECM_SESSION_OPEN, the users
// file when it changed.
//
// # Login helpers
//
// One per method and configuration (helpers.go): started and ready before the
// configuration takes effect, which is refused if it cannot open what it should;
// another one, after a pause, when it ends by itself. One of an older configuration
// stays until its logins are over. A step of a login (remote.go) waits for it on the
// goroutine of its own worker, at most auth-timeout long, and at most 64 wait at the
// same time: who comes then is told AUTH_BUSY. Where there is no helper or no answer
// the login is over as AUTH_UNAVAILABLE, which costs the client nothing but the
// login. What a method's server grants (addresses, routes, timeouts) is kept with
// the session and wins over files (grant.go). The helper hears of every login that
// ends.
//
// A login in the user's browser (browse.go) has two workers: the client's, where it was
// begun, and the browser's, which knows of it what stands in URLs. That one may ask
// for the part of the helper's dialogue that is the browser's, SEC_BROWSE, and gets a
// place to send it; it lets nobody in.
//
// # Accounting
//
// With `acct` a helper is told of sessions too (accounting.go): when the first tunnel
// is open, what workers count, and when the cookie is no more, with the reason why
// the last worker left. Of one session one thing is told at a time, in order; a
// beginning or an end that nobody takes is told again, for an hour. What is kept for it goes into
// the session's record, so that the next sec-mod tells of a beginning that nobody had taken;
// ends that are not told yet when sec-mod dies are lost.
//
// # The sec-mod after this one
//
// Whenever a session changes, main gets it sealed (SECM_RECORD, records.go)
// before anybody hears of the change. When sec-mod dies main starts another,
// with the same configuration and the keyring that SECM_CONFIG_REP left, gives
// it the records (SECM_RESTORE) and names every worker again (SECM_WORKER with
// rejoined): in state open if it has a session, else in state rejoined, which
// is anywhere before. Logins under way are lost. doc/decisions/0006 says what
// the seal holds against.
//
// # Goroutines
//
// Run reads main's channel and never waits: what takes time (files, the end of a worker's channel) is
// answered from a goroutine per request, and ids tell the answers apart. Each
// worker's channel has a goroutine that reads a request and answers it. One
// more sweeps expired sessions. The session table, the tickets and the map of
// workers have a mutex each and none is held over anything slow.
//
// Passwords are hashed by at most half of the CPUs, and at most 64 logins wait
// for that; who comes then is told AUTH_BUSY, which costs no try. Signatures
// have places of their own, so wrong passwords do not hold up handshakes.
//
// # Security
//
//   - A violation (malformed, unknown, out of turn, too often, about a key that
//     is not the virtual host's, a text that is no handshake's) closes that
//     worker's channel, is counted and, at most once a second, logged. Nobody
//     else notices. A violation by main ends sec-mod. A refused password, an
//     expired SID, a ticket that cannot be opened are answers.
//   - A panic while a worker's request is dealt with costs that worker its
//     channel; it is counted.
//   - A signature is made of handshake texts only (package keys), once per
//     connection: crypto/tls signs once, with HelloRetryRequest too. A worker
//     that is taken over can impersonate the server to its one client. The keys
//     of certificates for proxies (waysign.go) sign for workers whose user may
//     take the way, texts of clients, or their digests under a browser's
//     fingerprint: utls gives no text.
//   - Unknown user, locked user, wrong password and wrong group are one answer,
//     cost one hash and one of three tries, and points against the address. The
//     tries belong to the login, whichever workers it is tried at; a SID that
//     is used twice at the same time is AUTH_BUSY.
//   - Wrong answers are also counted by user name, by source and by both, over
//     all virtual hosts and groups (package attempts). Past a limit a login is
//     refused before any method hears of it, with the answer of a wrong password.
//     What a client calls itself beside a ticket counts for nothing: a ticket that is
//     good names the user, and one that is not is held against the source.
//   - A virtual host has ways to log in (way.go): all auth lines together are
//     one, each enable-auth line another. A ticket (gssapi, oidc) is an answer too, to a
//     question that nobody was shown. Where a way needs a client certificate
//     its chain, use, revocation and names are checked here from the DER; that
//     the client has the key is the word of the worker, who did the handshake. The
//     name in the certificate and the one the method admits are compared in one
//     place. The session is then bound to that certificate.
//   - A one-time password counts as used before it lets anybody in (otp.go).
//   - Users with an empty hash are let in without a password, as in ocserv; the
//     load warns of them.
//   - SIDs are minted here, stored as hashes, and replaced at the end of a login.
//   - TLS session state is sealed here with a key that is nowhere else, bound to
//     the virtual host and to the client's address (tickets.go says why).
//   - Keys, passwords and SIDs have types that do not print, or are cleared
//     after use. Errors and log lines hold names and reasons, never answers.
//   - main's end is the end of the process.
//
// # What is not here yet
//
// RSA key exchange (SEC_DECRYPT) and keys in tokens are not offered.
//
// # Standards
//
// Messages and their numbers: ocserv, src/ipc.proto and common-config.h. Login
// and session rules: ocserv, sec-mod-auth.c, sec-mod-db.c, plain.c,
// sup-config/file.c. Signatures: see package keys. Certificates: RFC 5280;
// one-time passwords: see package oath.
package secmod
