// Package secret has the types that passwords, keys, cookies and the like are
// kept in: what prints them prints "[redacted]".
//
// # Theory of operation
//
// Package fmt calls no method of a value that it reaches through an unexported
// field: there a type with String, and even one with Format, is printed as what
// it is made of. So Text and Bytes hold what they hold behind a pointer. Printed
// by themselves, by fmt with any verb, by slog, as JSON or text, they say
// "[redacted]"; printed as an unexported field of something else, they are an
// address. Reveal is the one way to the secret, and easy to search for.
//
// A copy of a Text or Bytes is the same secret: Clear of one clears all. Text is
// for what comes as a string and cannot be cleared (configuration); what a user
// or a peer sends belongs into Bytes.
//
// test/house finds fields with the names of secrets and a type that prints.
package secret
