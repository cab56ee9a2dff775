// Package worker is the process that serves one client, from the first byte of
// its TLS connection to the last packet of its tunnel.
//
// # Theory of operation
//
// main starts workers before it needs them. Main confines the process, says
// WORKER_READY and waits; WORKER_STARTUP brings a TCP connection, who is at the
// other end (by main's word), and the worker's slice of the configuration.
// Serve then goes through these steps, each a file:
//
//	tls.go      handshake: certificates are here, keys are in sec-mod, which
//	            signs once. The vhost is chosen by server name.
//	http.go     requests, one at a time, until CONNECT
//	login.go    the login as one connection sees it: forms out, answers in,
//	            SEC_AUTH_INIT and SEC_AUTH_CONT to sec-mod, the SID as a cookie
//	sso.go      the same in the user's browser, which comes by a connection of its own:
//	            SEC_BROWSE
//	connect.go  CONNECT: AUTH_COOKIE_REQ to main, what client and server can
//	            both do, the reply with every X-CSTP and X-DTLS header
//	session.go  the tunnel: makes the netstack's parts, runs, ends, accounts
//	tunnel.go   the packets' way, up and down, in order
//	dtls.go     DTLS channels: pending, in use, replaced
//	keeper.go   the session without its client: flows kept until it is back, or
//	            for the newer worker it came back to
//	kept.go     the newest worker's side of that; handover.go: what they say
//	mtu.go      try-mtu-discovery: how long a packet gets through by DTLS
//	timers.go   one timer for DPD, idle, session, statistics, memory
//	link.go     the channel to main: its notifications reach the session here
//	others.go   other clients (worker/peers): what main says of them
//
// Packets of a client come in batches from one of its channels (worker/cstp,
// worker/dtls) and go by destination to netstack (TCP), netstack/datagram (UDP
// and ICMP echo), netstack/gateway (our own address) or worker/peers (other clients'
// addresses, and the networks behind them). What these send comes
// back through tunnel, which is their packet.Sink, and leaves by the channel in
// use: DTLS from the client's first authentic datagram on, CSTP before, after,
// and whenever DTLS falls silent.
//
// # Goroutines
//
// Serve's own (login, then waiting for the end), link.serve, cstp.Serve, one
// reader per DTLS channel, the flusher, and below them those of netstack (two
// per TCP flow) and egress (one for all packet sockets). The timer's function
// runs on a goroutine of the runtime's.
//
// # Locks
//
//	tunnel.upMu     one batch up at a time; held into netstack, relay, gateway
//	tunnel.sinkMu   one batch down at a time, from Begin to End
//	lane.mu         one writer per channel; inside sinkMu or alone
//	associations.mu pending and used DTLS channels; nothing is sent under it
//	peers.mu        pairs to other clients' workers; inside upMu or alone; nothing
//	                waits under it
//
// Everybody who sends to the client may be parked in tunnel.Begin while the
// tunnel is frozen (no channel, no newer worker); thaw and close free them. The
// goroutine of keeper.go waits for none of them.
//
// upMu may be held while sinkMu is taken (an answer to a packet), never the
// other way round. A writer parked on a client that takes nothing holds sinkMu
// and a lane; closing the connection, or the deadline goodbye sets, frees it.
//
// # Security
//
// This process meets the Internet. It holds no long-term key, no password but
// its own client's for the moment of passing it on, no session but its own. It
// opens no file and runs no program. A panic ends one client's tunnel. What a
// compromised worker can do is in doc/security.md: use its client's session, and
// open sockets as the server's uid; the egress policy is in the same process.
//
// # Standards
//
// draft-mavrogiannopoulos-openconnect-04, RFC 5705 and RFC 8446 section 7.5
// (exporter), RFC 4279 (PSK), and what openconnect and ocserv do.
package worker
