// Package slack says how late a timer of a thread may be: its timer slack, in prctl(2).
// The kernel gives each thread 50 µs, and what a thread has, the threads and processes
// it makes have, too, through every exec.
//
// The Go runtime has a thread that looks after the others (sysmon in runtime/proc.go):
// whether one stays long in a system call, or a goroutine on its processor. While
// something runs it looks every 20 µs at first, and again after each quiet time: a
// process that does not live long knows nothing else. A look is a timer, an interrupt
// and two changes of thread, and on a virtual machine timers are dear: a worker that
// shakes hands and goes pays a sixth of what it costs for them (decision 19). Nobody
// there needs the looks.
//
// So main relaxes itself, and with itself every process that it starts: that thread
// begins before any code of ours, so that it can only inherit. A worker takes the usual
// slack back before there are packets: what moves them waits for timers of the runtime,
// too, and an upload over TLS was slower by a third. It does so when its client has had
// the first answer, since afterwards passwords come (see Restore). Main, sec-mod and
// the helpers have no timers that a millisecond matters to. Programs of the operator's
// get the usual slack.
//
// Where the runtime cannot reach all threads, in a program with cgo, nothing is relaxed,
// for it could not be taken back.
package slack
