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
// A token is good (method.go) if one of the keys has signed it, the provider has
// issued it, now is between its times, and it has every required claim. The user is
// who user_name_claim names, with the groups of groups_claim, which is ours.
//
// # Security
//
// A token is good for whoever has it until it expires, and for every program of the
// provider's, unless required_claims has an aud: a file without one gets a warning.
// Only signatures of public keys count; a token cannot choose another kind. The
// provider is reached by HTTPS with the host's authorities, or those of ca; by HTTP on
// the loopback only. What it says is bounded in bytes and time.
//
// # Standards
//
// OpenID Connect Core 1.0 section 3.1.3.7, OpenID Connect Discovery 1.0, RFC 7517,
// RFC 7519, RFC 6750; ocserv, auth/openidconnect.c and doc/README-oidc.md.
package oidc
