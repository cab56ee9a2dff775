// Package sandbox takes from a process what its role does not need.
//
// # Theory of operation
//
// Every role calls Prepare once, first of all in its life, before it reads
// anything of others. What a role may keep is a profile (profile.go): a table
// with a reason on each line. Prepare works it off in this order, which
// matters:
//
//  1. what needs /proc while it is still ours: the name, the OOM score;
//  2. signals that only main may send, umask, resource limits;
//  3. no_new_privs;
//  4. not dumpable, after which /proc/self belongs to root.
//
// The system call filter and the Landlock rules of a profile are a second
// stage with a point in time of its own (after certificates are read, before
// the first byte of a client); they are to be applied after Prepare, and are
// a field each of the profile.
//
// Prepare says what it reached, for the log and for doctor. What is missing in
// some containers (an OOM score that cannot be written) is named in the report
// and is no error. What Linux gives every process (no_new_privs, not dumpable,
// no core) is an error where it fails: a server that believes to be confined
// and is not must not start.
//
// # Security
//
// All roles run as one uid. Without step 4 each could attach to each and read
// its memory: sec-mod's keys would be a worker's to read. An exec makes a
// process dumpable again, so there is a window until Prepare; a binary that
// root owns with mode 0711 closes it.
//
// RLIMIT_NPROC, RLIMIT_FSIZE and RLIMIT_AS are left alone. The first counts
// all threads of the uid, and the Go runtime aborts when it gets no thread;
// the second silences a log in a file; the third is met by Go's reservations
// of address space at once.
package sandbox
