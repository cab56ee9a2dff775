// Package slapd makes a directory for tests: Debian's slapd with a few people,
// groups and a password policy.
//
// # Invariants
//
// Everything is below the folder that is given. The password of everybody is
// Password; alice is in ops and staff, bob in staff, nobody else in any group.
package slapd
