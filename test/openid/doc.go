// Package openid is an OpenID provider for tests: the example server of
// github.com/zitadel/oidc, in the test's process, with its user test-user@localhost and
// the clients web and other. Tokens are those of its own flow (response_type id_token,
// OpenID Connect Core 1.0 section 3.2), with its login page.
package openid
