// Package oidc is the login method of `auth = "oidc[config=FILE]"`: a login helper that
// takes tokens which an OpenID provider has signed (`Authorization: Bearer`).
//
// # Theory of operation
//
// FILE is ocserv's JSON (conf.go). A login is one answer, the token, a JWT. The
// provider's configuration and keys (provider.go) are fetched when the first token
// comes, kept, and fetched again when a token names a key that is not among them, not
// more often than minimum_jwk_refresh_time. Where they cannot be had, nothing is said
// of the user.
//
// With sso = true a login is in the user's browser instead (browser.go): authorization
// code with PKCE. What its client gets is a name for it in a URL, and then
//
//	browser   the login URL          a trip begins: state, nonce, verifier and a cookie are made
//	          at the provider        it is not ours to see
//	browser   the callback           the trip is over: state and cookie are right, once, in time
//	          exchange.go            code and verifier for an ID token; claims it lacks are asked for
//	browser   the client's listener, or the end that the client waits for, with a token
//	client    Answer                 the token
//
// A token is good (method.go) if one of the keys has signed it, the provider has
// issued it, now is between its times, and it has every required claim. The user is
// who user_name_claim names, with the groups of groups_claim, which is ours.
//
// # Security
//
// A token is good for whoever has it until it expires, and for every program of the
// provider's, unless required_claims has an aud: a file without one gets a warning.
// A login in the browser belongs to three at once: to the client that has its SID, to the
// browser that has the trip's cookie, and to the user whom the provider names. The token
// goes from the browser to the client and is nowhere else: sealed to the client's key,
// by a listener on the browser's own machine, or in a cookie of a browser inside of the
// client. So who sends somebody else his own login's URL gets nothing for it, and who
// gives a browser another's callback has not its cookie. Codes, states and tokens are
// good once and for a short time, in one login; a login has one trip at a time and not
// many in all. What a browser brings that is not of its trip changes nothing.
//
// Only signatures of public keys count; a token cannot choose another kind. The
// provider is reached by HTTPS with the host's authorities, or those of ca; by HTTP on
// the loopback only. What it says is bounded in bytes and time.
//
// # Standards
//
// OpenID Connect Core 1.0 section 3.1.3.7, OpenID Connect Discovery 1.0, RFC 7517,
// RFC 7519, RFC 6750, RFC 6749, RFC 7636; openconnect, hpke.c; ocserv, auth/openidconnect.c and doc/README-oidc.md.
package oidc
