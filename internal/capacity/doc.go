// Package capacity says how many workers a machine can bear.
//
// # Theory of operation
//
// Read collects the limits that hold for this process: threads (the cgroup's
// pids.max at every level, RLIMIT_NPROC, the kernel's own), open files, and
// memory (the cgroup's, else what the machine has left). Each divided by what a
// worker costs, less what main, sec-mod and the operator need, is a number of
// workers; the smallest decides. main bounds itself by it at start, together
// with max-clients, and `rocserv doctor` shows the same table.
//
// The costs were measured; a worker that outgrows them is found by the test of
// idle memory in test/e2e.
//
// It reads files and calls getrlimit, and changes nothing.
package capacity
