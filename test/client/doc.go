// Package client is a VPN client for load: many tunnels in one process, without
// tun devices and without privileges. It speaks what openconnect speaks (login
// by XML forms, CONNECT, CSTP, DTLS by PSK-NEGOTIATE) and works with ocserv as
// well as with rocserv, so that both can be measured beyond what openconnect can
// take in.
//
// # Theory of operation
//
//	Open     TLS → login (login.go) → CONNECT (connect.go) → DTLS handshake by
//	         pion, then our own record layer (handshake.go, datagrams.go)
//	Tunnel   packets in, packets out, in batches: a packet.Sink and a callback
//	Host     a gVisor stack on a tunnel, for TCP (host.go)
//	Run      what test/load and the bench ask for (load.go): hold tunnels, move
//	         bytes up or down, bounce datagrams
//
// The CSTP channel is worker/cstp: the frames are the same in both directions.
// The DTLS channel is the mirror of worker/dtls, with UDP_SEGMENT to send and
// UDP_GRO to receive, to be faster than what it measures.
//
// Certificates are not verified: this is for labs. The server is told that this
// is openconnect, and offered the key exchanges that openconnect offers (offer.go).
//
// # Goroutines
//
// One reads each channel of a tunnel. A Host adds gVisor's own.
//
// # Not here
//
// Keepalive, dead peer detection, rekeying and reconnecting: a tunnel that
// breaks stays broken, and is counted.
package client
