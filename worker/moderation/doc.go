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
//	long packets, an upload     45: one super-segment, 64 KB  400 µs
//	short packets               32                            100 µs, or no nap
//
// Short packets are acknowledgements of a download as a rule. What they let the
// stack send is late by the nap, so it is short, and over CSTP, where it has not
// been shown to pay, there is none.
//
// # Measured
//
// TLS up, one flow, on a busy machine of two processors, medians of three rounds:
//
//	longest nap   none     100 µs   250 µs   400 µs
//	server s/GB   6.6      4.2      3.6      3.2
//	Mbit/s        700      768      792      902
//	reads a GB    152,000  33,000            20,000
//
// # Goroutines
//
// None. A Meter belongs to the goroutine that reads. A nap is a system call of
// which the scheduler is not told: no other goroutine runs meanwhile, which is
// why it is bounded by less than a millisecond and comes after a yield.
package moderation
