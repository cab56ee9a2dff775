// Package relay is a bad path: delay, loss, bursts of loss, reordering,
// duplicates, and a rate with a queue, in each direction.
//
// A Line is one direction as a model, without time of its own: it says when a
// packet that is sent now arrives. Tests of netstack/recovery run it in virtual
// time. Run moves packets between two tun devices in different network
// namespaces as two Lines say, in real time; make bench puts it between a client
// and the server.
package relay
