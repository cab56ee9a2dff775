// Package secclient is what a worker knows of sec-mod: its half of their channel.
//
// # Theory of operation
//
// A Client asks and waits for the answer: one request at a time, whoever calls
// (a mutex sees to it), because the channel is lock-step. Its requests are the
// worker's rows of sec-mod's table (secmod/dispatch.go), and sec-mod ends the
// channel of a worker that asks out of turn. So the caller keeps the order:
//
//	ResumeOpen, Signer, ResumeSeal   during the TLS handshake
//	AuthInit, AuthCont               after it, at most 16 of each, until AUTH_OK
//	Stats, FinalStats                once main has opened the session
//
// Signer is given to crypto/tls as the private key. It is a
// crypto.MessageSigner: sec-mod gets the text itself and looks at it. A
// connection gets one signature; a TLS handshake needs no more, with or
// without HelloRetryRequest.
//
// Statistics have no answer and never block: the newest ones wait for the
// sender, older ones are dropped, since counters only grow.
//
// When the channel breaks, the call under way and all later ones fail with
// ErrGone, until main has a new sec-mod and hands over a channel to it
// (Replace). A tunnel that is up goes on without sec-mod; a login cannot, and
// begins anew after.
//
// # Goroutines
//
// Stats starts one that ends when everything is sent; Close ends it too.
//
// # Security
//
// AuthCont clears the password it is given. Nothing of the client's input is
// in the errors.
package secclient
