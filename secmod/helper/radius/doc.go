// Package radius is the login method of `auth = "radius[config=FILE]"` and the
// accounting of `acct = "radius[config=FILE]"`: a login helper that asks RADIUS
// servers.
//
// # Theory of operation
//
// The configuration is radcli's, as ocserv has it: a file (conf.go) with servers,
// their timeouts, and the name of another file with their secrets. Both are read,
// and names of servers looked up, when the configuration is loaded; afterwards no
// file is opened but those of the resolver: the name of a server that does not answer
// is looked up again.
//
// A login (access.go) is one Access-Request with the password (PAP), and one more
// for every Access-Challenge, whose Reply-Message is the next question and whose
// State goes back to the server that sent it. A reject costs one of three tries
// unless it answers a challenge. Servers are asked in order (pool.go): one that
// does not answer radius_retries + 1 times is left out for radius_deadtime, and
// asked only after the others meanwhile. Where none answers, nothing is said of
// the user: the login is unavailable, not wrong.
//
// An Access-Accept names the user's groups by Class, and with groupconfig says
// what the session is like (attributes.go): addresses, routes, DNS, timeouts,
// limits. What cannot be read there is left out.
//
// Accounting (account.go) is one Accounting-Request for each event of a session, to
// the file's acctservers in the same order and with the same patience. A request that
// is told again says how long ago its event was (Acct-Delay-Time).
//
// With dynauth-listen PORT in the file its acctservers may have sessions ended
// (disconnect.go): a Disconnect-Request is answered once sec-mod has ended those that
// it names, of those that are accounted by this line. A request that is sent again finds none.
// Two files with one port are refused: whose request it is would be chance.
//
// # Security
//
// A Disconnect-Request counts if it comes from an acctserver's address with its
// secret, and within 300 s of its Event-Timestamp; without one it must name the
// session. Nothing else has an answer, and requests are dealt with one after the other.
//
// RADIUS over UDP is protected by MD5 and a secret, on which an attacker on the
// way can work (Blast-RADIUS, CVE-2024-3596). Requests begin with a
// Message-Authenticator and answers must have one (sign.go), unless the file says
// require-message-authenticator = no. Even so the way to the servers should be a
// network of the operator's, or a tunnel. An answer that cannot be verified is as
// if it had not come, and what anybody sends to the port costs a hash.
//
// # Standards
//
// RFC 2865 (RADIUS), RFC 2866 (accounting), RFC 2869 and RFC 3579 (extensions,
// Message-Authenticator), RFC 5176 (Disconnect-Request), RFC 3162, RFC 4818 and RFC 6911 (IPv6), RFC 2548
// (Microsoft's attributes). Packets are those of layeh.com/radius.
package radius
