// Command bench measures rocserv beside ocserv: the same clients, the same
// network, the same iperf3, in turns.
//
//	test/bench/run                        everything, three rounds, at most 15 minutes
//	test/bench/run -quick                 one short round of what changes most
//	test/bench/run -rows 'dtls-*,ping'    some rows (-list names them)
//	test/bench/run -servers rocserv -set 'dtls-psk = false'   with another configuration
//	test/bench/run -servers ocserv,rocserv,rocserv=/tmp/before   with another build, called before;
//	                                      with ROCSERV_BIN and here workers are what lies beside the program
//	test/bench/run -json out.json         keeps every sample
//	test/bench/run -from out.json -doc doc   makes doc/performance.md and its charts
//
// # Theory of operation
//
// Each server is a contender (contender.go): a lab of test/e2e with namespaces
// of its own, the server, and clients that stay connected from the first round
// to the last. ocserv runs as root with kernel tun devices, rocserv as an
// ordinary uid without capabilities and without a tun. All labs exist at the
// same time and only one is busy at any moment. So what differs between two
// neighbouring measurements is the server and a few seconds.
//
// A row (rows.go) is one thing that is measured, with one or more figures. A
// round measures every row on every contender, and the next round does it again
// with the contenders in the other order. What is reported is the median of the
// rounds, and the ratio of the medians.
//
// Server CPU is utime + stime of all processes of the server, children that
// have ended included, divided by the payload that was received.
//
// # The floor
//
// In some rows test/floor is measured too: a program of the same shape with
// nothing of ours, alone and with the libraries that rocserv is built of. The
// page shows it below the table (doc/decisions/0014). A goal that we miss, and the
// floor of the row too, with a figure that is better than ours, is shown as missed
// by the floor too; a disturbed measurement says nothing of that.
//
// To the floor a client uploads UDP, for which it needs no TCP of its own: pour.go
// keeps the queue of the client's device full (doc/decisions/0015). Echo requests it
// passes on (doc/decisions/0018).
//
// # Key exchange
//
// The clients of this program and of test/client, which open the connections of the
// rows "new connections" and the tunnels of test/client, are crypto/tls. They offer the
// groups that openconnect does (client.Offer), none of them post-quantum, so that all
// servers do the key exchange of the clients that they are for. What an ML-KEM exchange
// costs is in none of the rows. Until that was so these clients began with
// X25519MLKEM768, and such figures do not compare with the ones since.
//
// # A quiet machine
//
// What other programs do to the machine in the meantime is read from /proc/stat
// (quiet.go): steal, and foreign load, which is what the processors did in user
// and system mode minus what the processes below this one used. A measurement
// that was disturbed is repeated at most twice. If it still was, it is kept and
// marked, and the medians are made without it as long as another one is there.
//
// # Roles
//
// What must run inside a client's namespace and is no other program (the round
// trips, the connection rate, the load of test/client) is a role of this very
// program, started there with a JSON question and giving a JSON answer (role.go).
//
// # What the figures are for
//
// The column "must" is the project's own goal, for a ratio to ocserv measured in
// the same run or for a figure by itself. A row that misses it says so.
package main
