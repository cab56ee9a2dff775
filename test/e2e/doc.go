// Package e2e holds the end-to-end tests: real clients, a real network, the
// server as an ordinary uid. All of them have the build tag e2e; this file has
// not, so that the package exists.
//
//	make e2e                                  what is missing is named and skipped
//	test/e2e/run -run TestLogin -v            arguments are those of go test
//	SERVER=ocserv test/e2e/run                Debian's ocserv, as root, to compare
//	SANDBOX=bwrap test/e2e/run                the server as in a container
//	SANDBOX=podman test/e2e/run               the server in a container
//	ROCSERV_BIN=./rocserv test/e2e/run        a binary that is there, with what lies beside
//	GOLDEN=write test/e2e/run -run TestWhy    writes testdata/why anew
//
// # Theory of operation
//
// Each test makes a lab of its own (package lab):
//
//	cli1 … cliN ──── srv ──── tgt
//	openconnect      server   HTTP, echo, DNS, …
//
// Nothing but the VPN leads from cli to tgt. A rig (rig_test.go) is the lab
// with services, server and clients, and a testing.T; it ends the test on what
// must not fail. Its end stops the server in order, so every test also tests
// that: status 0, nothing left, no pid file, no word of a failure and no
// password in the log. If the test failed, all logs are printed.
//
// Where tests differ in data only they are tables: logins (login_test.go), what
// a tunnel carries (checks_test.go), forbidden destinations (policy_test.go),
// what keeps a server from starting (command_test.go).
//
// # Order
//
// Tests that use the processor run first, one after the other. Those that
// mostly wait (timeouts, rekeys, UDP that comes back) are parallel, which the
// testing package starts after the others.
//
// # Time
//
// Limits are there to end a test that hangs. None is a judgement on speed, but
// for what the protocol promises: a peer is dead after twice the DPD interval,
// nothing outlives main by more than a second. What is measured on the way is
// logged (go test -v).
//
// TestSoak is load for a duration: two minutes here, thirty with make soak
// (SOAK, SOAK_REPORT).
//
// # In a container
//
// With SANDBOX=podman every server runs in podman (lab/podman.go) with
//
//	--user 12345:0 --cap-drop=ALL --security-opt=no-new-privileges --read-only
//
// and podman's default profile; with SANDBOX=bwrap in bubblewrap (lab/sandbox.go)
// under the same conditions, where podman cannot run: one process namespace in
// which main is process 1, a root that is read-only, writable only its own
// folders of the lab, and the system calls of podman's default profile
// (lab/profile.go). Either has the lab's network namespace, and the host's
// programs for scripts. TestSandboxed and TestInPodman do some of each kind so in
// every run, TestUnderKubernetesProfile with the default profile of Kubernetes
// (testdata/kubernetes) in place of podman's; TestContainerfile builds the image of deploy/container and runs it.
//
// What differs there, and where the tests say so: the server's own process ids
// are not those of the host (ownPID: pid file, ID of scripts, orders to hostile
// workers); the group is 0 and there is one filter more (inSandbox). Not in it
// are ocserv of TestBesideOcserv, which needs root, and TestContainer and
// TestFirstProcess, which have a container of their own. A host that lacks
// system calls (Program.Lacks) is bubblewrap's in any case. podman makes no
// cgroup: the lab's hosts may not allow it, so its --pids-limit is not there.
//
// # Other servers
//
// With SERVER=ocserv the same tests run against ocserv. They were written
// against it, and where it does otherwise a test says so (rocservOnly).
package e2e
