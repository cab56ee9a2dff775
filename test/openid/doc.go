// Package openid is an OpenID provider for tests: the example server of
// github.com/zitadel/oidc, in the test's process, with its users and the clients web,
// other, vpn and public; a claim groups is added to what it keeps of users. Tokens are
// those of its own flows (OpenID Connect Core 1.0 section 3), with its login page.
package openid
