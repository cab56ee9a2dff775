// Package mainproc is main: the process that listens, starts the others, and
// keeps the tables of who is connected. It holds no key, no password and no
// cookie, and reads nothing of what clients send but the prefix of a DTLS
// ClientHello. Of trusted proxies it reads a PROXY header.
//
// # Theory of operation
//
// Files, in the order a client meets them:
//
//	run.go                      start, signals, stop
//	roles.go spawn.go reap.go   the processes: one table, one place that forks, reaps, kills
//	program.go                  other programs: the one of the workers, and whether it is of this build
//	folios.go                   the pages that the kernel keeps that one in
//	logs.go                     what children write to standard error
//	service.go                  what a service manager passes, and is told
//	listen.go ports.go          the ports, and errors that help
//	door.go proxy.go slots.go   connections, until each has a worker
//	turns.go                    more slowly while sec-mod is behind
//	pool.go                     workers that wait for a client
//	worker.go dispatch.go       one worker: its life, and what it may say
//	cookie.go sessions.go       AUTH_COOKIE_REQ, and the table of sessions
//	keepers.go                  workers that keep flows of a session
//	credits.go                  local UDP ports, divided among the workers
//	peers.go                    clients that reach each other: who may, and pairs
//	hooks.go                    the operator's scripts
//	rebind.go                   clients that a translator gave another port
//	demux.go hellos.go          datagrams, until their peer has a socket of its own:
//	udpsock.go                  whose they are, whether they may, the socket
//	secmod.go sender.go         the channel to sec-mod; the one writer of a channel
//	helpers.go                  login helpers, which sec-mod asks for
//	security.go records.go      sec-mod's death: another one, and what it is given
//	store.go                    what outlives main, in a file
//	generation.go reload.go watch.go  the configuration, and when it is read again
//	console.go show.go          the control socket: what operators ask and order
//	detail.go ledger.go         what there is to show of a tunnel, and of those that ended
//	upgrade.go trial.go         another program in our place: tried, executed
//	state.go handover.go hall.go  what it goes on from
//	hostinfo.go nat64.go        what the host is
//	confine.go                  what main and its children cannot do
//
// A TCP connection's way: accept (door.accept) refuses banned sources before
// anything else. Where a proxy announces it, its header is read (proxy.go), and
// from there on the client is who the header says: for bans, shares, logs and
// sec-mod. The connection then waits in main until its first byte is there
// (awaitFirstByte looks and leaves it), so that port scanners and health probes
// cost no process. It gets a place among the logins (slots), a worker
// out of the pool, and an identity: connection id, peer, local address, time.
// The identity goes to sec-mod with sec-mod's end of the worker's channel
// (SECM_WORKER) and to the worker with the connection and its configuration
// (WORKER_STARTUP); main closes its copies. The worker does TLS and HTTP.
//
// A session's way: the worker sends the client's SID (AUTH_COOKIE_REQ). Main
// hashes it, passes it to sec-mod (SECM_SESSION_OPEN), and clears it. Sec-mod's
// answer makes the worker the newest of its session (sessions.attach), with
// the lease the session has or a new one. Older workers of the session retire
// (RETIRE, RETIRED): they stop reading and stay for their flows, or are killed
// after two seconds; connect-script may refuse; then the session is granted
// under a new App-ID and the worker answered (AUTH_COOKIE_REP). When a worker has no client any more,
// sec-mod is told (SECM_SESSION_CLOSE), once; the session and its lease stay
// until sec-mod says that the cookie is void (SECM_CLI_STATS, SECM_ENDED), and
// so long a worker may wait for its client's return (DETACHED).
//
// From client to client: a worker is told where other clients are (PEER_NETS),
// asks for one (PEER_REQ), and both workers get an end of a packet pair, or
// the one that asked hears why not. Packets never pass main.
//
// A client's UDP flows each take one of the host's local ports, of which all
// clients together have a part. A worker gets some with its tunnel, asks for more
// and gives back in blocks (PORTS_REQ, PORTS; credits.go), without a word for a
// flow. Those of a keeper go to the newest worker with its mappings.
//
// A datagram's way: demux looks the App-ID of a ClientHello up, asks whether it
// is a replay or one too many (hellos.go), makes a socket
// connected to the peer, and hands it to the session's newest worker (UDP_FD).
// What such a socket took of others between bind and connect goes through
// demux again; what a peer has in flight to main's socket follows it to the
// worker (UDP_DATAGRAMS). A record without a hello is offered (UDP_OFFER) to
// sessions whose channel is at that address: the one that can open it moves there.
//
// Sec-mod's death: security.lost, after which whoever asks fails at once and
// new connections wait. Another one is started (replaceSecMod, with back-off),
// gets the configuration in effect out of its memfd, the records, and a channel
// to every worker with a client (rejoin). Then it is sec-mod. Ends of workers
// that the one before did not confirm are told again (closings).
//
// A login helper (SECM_HELPER_REQ, SECM_HELPER) is a child like a worker; main gives
// sec-mod the channel to it and has no part in what is said there.
//
// Another program takes over (ctl upgrade): tryProgram, standStill, then the
// leader executes it, and takeOver goes on in it. Workers have another reader
// of their channels and notice nothing but a new sec-mod. What main keeps in
// memory has to be in inherited, or is lost with the next upgrade.
//
// # Goroutines
//
// The one that called Run is locked to the leader thread and does nothing but
// fork, for a child dies with the thread that forked it. One (live) starts,
// waits for signals and stops. One reaps. One per listener accepts, one per
// connection without a worker waits. A worker has three: run reads its channel
// and executes its requests, one after the other; one sends; one reads its
// log. Sec-mod has the same; what is called back with its answers runs where
// they are read, in their order, and does not wait. One per UDP socket demuxes.
//
// # Invariants
//
// Nobody waits for a worker, and for sec-mod only who asked: records go out
// through bounded queues, and a peer that does not read costs itself its life.
// Locks are held for table work only, never over input or output, but for
// procs.mu over fork. Where several are held the order is applicant, worker,
// then one of registry, sender or procs; sessions, slots, demux and pool come
// before worker or alone.
//
// A pid is signalled only while its process is not reaped. Every descriptor is
// close-on-exec; children get theirs by number. Whoever accepts an outgoing
// record closes its descriptors, sent or not. A session's newest worker is the
// only one its App-ID leads to.
//
// # Security
//
// A worker is taken for hostile. What it may say is a table (dispatch.go) of
// states; anything else, anything twice, more than ten messages a second, and
// more than six questions for other clients
// ends it and is counted. It cannot name another client: identity, lease and
// session are main's. A panic in what a worker's message sets off ends that
// worker. Sec-mod is trusted, but a record out of place ends it: another one is started.
//
// Strangers are bounded in what they hold: connections without a byte, workers
// before login, sockets per session and per source, bans, remembered peers,
// log lines; with a share per source prefix where one could take it all. The
// number of workers is what the machine can bear (internal/capacity).
//
// Children get no environment but what roles.go says; scripts that of main and
// what package scripts adds.
//
// # Standards
//
// DTLS session selection by App-ID: draft-mavrogiannopoulos-openconnect-04
// section 2.1.5. Names in the log and of messages are ocserv's.
package mainproc
