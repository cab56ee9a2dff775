// Package slapd makes a directory for tests: Debian's slapd with a few people,
// groups and a password policy.
//
// # Invariants
//
// Everything is below the folder that is given. The password of everybody is
// Password; alice is in ops and staff, bob in staff, limited in both too, but one
// search of his gives one entry; nobody else is in any group.
package slapd
