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
//  3. no_new_privs, which a child of main's has already;
//  4. not dumpable, after which /proc/self belongs to root.
//
// Confine is the second stage, once a role has opened what it needs: Landlock
// (landlock.go), then the system call filter (filter.go, calls.go, and in
// the kernel's form assemble.go, program.go). Both hold
// for every thread, for good, and for whatever the process starts.
//
//	role     filter: a call without a rule   Landlock
//	worker   ends the worker (SIGSYS)        no file; signals and abstract sockets of its own
//	secmod   fails (EPERM)                   the folders of the files its configuration names
//	helper   fails (EPERM)                   the folders of the files its method will open again, mostly none
//	modules  as helper, and loads libraries  what the server's user may read; PAM's modules are not known
//	main     goes on                         none
//
// In all of them what only an attacker tries (another program, another process,
// executable memory, namespaces) ends the process, in main it fails; what
// libraries try and can do without fails. main's filter is a list of what
// is forbidden, because scripts that it starts inherit it, as does the next
// version of itself after an upgrade (each exec adds the same filter once
// more, which the kernel allows some hundred times).
//
// Who is started by a confined sec-mod would be as confined as it. A login
// helper needs other files, and sockets: it is therefore main's child, like a
// worker, and sec-mod gets its end of the channel.
//
// Both say what they reached, for the log and for doctor. What is missing in
// some containers (an OOM score that cannot be written, Landlock) is named in
// the report and is no error unless Options.Require says so. What Linux gives every process (no_new_privs, not dumpable,
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
// Landlock before version 8 is applied thread by thread (a worker's by takeAll, which is
// the library's without files to leave); each then is a domain
// of its own and, on kernels without the fix (erratum 2), cannot signal the
// others, which the Go runtime must. There signals are left to the filter.
//
// The rules name calls by constants of the target machine, so an unknown name
// does not compile; amd64 and arm64 have lists, others no filter. A library
// for this (elastic/go-seccomp-bpf) costs every worker 165 KB and 0.28 ms at
// start for its tables of all machines: doc/decisions.
//
// RLIMIT_NPROC, RLIMIT_FSIZE and RLIMIT_AS are left alone. The first counts
// all threads of the uid, and the Go runtime aborts when it gets no thread;
// the second silences a log in a file; the third is met by Go's reservations
// of address space at once. limit-worker-memory is RLIMIT_DATA, beyond what the
// process begins with (memory.go).
//
// # Standards
//
// seccomp(2), landlock(7), prctl(2), proc_pid_status(5).
package sandbox
