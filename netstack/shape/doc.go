// Package shape keeps what a client sends, or is sent, within a rate
// (rx-data-per-sec, tx-data-per-sec).
//
// # Theory of operation
//
// A Limiter is a bucket of tokens kept as one point in time: free, when all that
// has been booked would have passed at the rate. Booking n bytes moves it on by
// their time. Ahead of now, it is a debt; behind, it is credit, of which little
// is kept.
//
// Streams wait. One at a time has the turn (Wait): it waits until the debt it
// meets is gone, moves up to a quantum of bytes and books what it moved (Done), which gives
// the turn to whoever has waited longest. So flows share the rate evenly, a new
// one waits for a quantum of each of the others, and nothing is dropped: who
// waits does not read, and TCP's windows say the rest.
//
// Datagrams cannot wait (Admit). They may run up a debt, beyond which they are
// dropped, as by a queue of a fixed length. As streams have no more than one
// quantum booked at a time, there is room for datagrams however many flows there
// are; and as the debt is bounded, streams go on however many datagrams there are.
//
// A nil Limiter lets everything pass and costs a comparison.
package shape
