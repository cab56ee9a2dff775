// Rocserv-pam is the login helper for `auth = pam` and `acct = pam`: the only program of
// the server's that has C in it, built with cgo and the tag pam (make pam). Main starts
// it for sec-mod if it lies in the folder of the server's own program, with the same
// arguments and the same channel as any login helper; package secmod/helper/pam says what
// it does there. Built without the tag it only says so.
package main
