// Package moderation lets packets gather before they are read, while there are
// many of them: a bounded wait between receive batches.
//
// # Theory of operation
//
// What a packet costs is for the most part what its batch costs: a system call
// to read it, a wake-up of the stack, an acknowledgement to the client and a
// write to the host. A goroutine that reads as fast as it can, beside a client
// that sends as fast as it can, gets a few packets each time. So it yields, for
// the stack to work the batch off, and then naps about as long as the next batch
// needs to fill; the whole process naps, for it has one processor.
//
//	what comes                  gathers about                at most
//	less than 20,000 packets/s  no nap
//	long packets, an upload     64: what is read at once      600 µs
//	short packets, a stream     48                            200 µs
//	short packets, datagrams    32                            100 µs
//
// Where the client's window is held small (worker/cstp) it is closed when enough
// has come, and then nothing more does: Gather waits for that, a tenth of a
// millisecond at a time.
//
// Short packets are acknowledgements of a download as a rule. What they let the
// stack send is late by the nap, so it is short; shortest over DTLS, where no more
// than a hundred packets find room on their way to the client.
//
// # Measured
//
// Server s/GB and Mbit/s with openconnect, builds in turns (test/bench/run -servers
// rocserv=A,rocserv=B,rocserv=C -rows 'dtls-up-*,tls-up-*' -rounds 2), two processors, nothing else running; longest nap and packets that make a batch
// large enough:
//
//	              400 µs, 45              600 µs, 64              800 µs, 90
//	DTLS, 1 flow  2.10, 2.11  1560, 1528  1.97, 1.96  1570, 1535  1.99, 2.01  1407, 1404
//	DTLS, 8       2.72, 2.69  1173, 1136  2.54, 2.57  1201, 1193  2.39, 2.50  1182, 1148
//	TLS, 1        2.63, 2.74  1174, 1136  2.17, 2.27  1349, 1211  1.97, 1.96  1268, 1319
//	TLS, 8        3.46, 3.11   984, 1018  2.93, 2.88  1035, 1035  2.59, 2.59  1030, 1047
//
// Without naps TLS with one flow took 6.6 s/GB and 152,000 reads a GB. At 600 µs
// no packet of half a million overflowed the server's UDP socket (UdpRcvbufErrors, by hand).
//
// Datagrams of hosts gather as short ones do, whatever their length (egress): UDP down,
// 39,000 packets of 64 bytes a second, two samples each in turns, µs of server CPU for
// each: 5.46, 4.95 without and 3.16, 3.50 with naps.
//
// Downloads over TLS, two samples each in turns, naps for short packets:
//
//	        none                    100 µs, 32              200 µs, 48              300 µs, 64
//	1 flow  2.66, 2.58  1225, 1333  2.10, 2.12  1286, 1356  2.05        1341        2.13, 2.23  1188, 1196
//	8       3.04, 2.87  1192, 1217  2.53, 2.65  1137, 1249  2.34, 2.75  1267, 1105  2.34, 2.22  1164, 1300
//
// # Goroutines
//
// None. A Meter belongs to the goroutine that reads. A nap is a system call of
// which the scheduler is not told: no other goroutine runs meanwhile, which is
// why it is bounded by less than a millisecond and comes after a yield.
package moderation
