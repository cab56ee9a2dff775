// Provider runs the provider of package openid at the address that is its first argument,
// with redirects that are the others, until it is ended. When it can be asked it prints a
// token for the client web and one for the client other, each on a line with the client's
// name before it: end to end tests start it in the namespace of the server.
package main
