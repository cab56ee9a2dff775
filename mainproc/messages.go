package mainproc

// Lines that people, their scripts and ocserv's own tests look for in the log.
// Those with a verb are formats.
const (
	msgListeningTCP  = "listening (TCP) on %s..."
	msgListeningUDP  = "listening (UDP) on %s..."
	msgInitialized   = "initialized rocserv %s"
	msgUpgraded      = "upgraded to rocserv %s"
	msgTooMany       = "reached maximum client limit"
	msgBanned        = "rejected connection from banned IP"
	msgHealthProbe   = "TCP health probe"
	msgNewSession    = "new user session"
	msgReconnected   = "user session reconnected"
	msgDevice        = "assigning tun device %s"
	msgDisconnected  = "user disconnected"
	msgDetached      = "user is away, worker keeps the flows"
	msgDiedBySignal  = "%s died with sig %d"
	msgSecModDied    = "rocserv-secmod died unexpectedly"
	msgReloaded      = "configuration reloaded"
	msgReloadFailed  = "configuration not reloaded, the one in effect is kept"
	msgMaintenance   = "forcing maintenance cycle"
	msgStopping      = "termination request received; stopping"
	msgDraining      = "listeners closed; waiting for sessions to end"
	msgViolation     = "protocol violation; worker killed"
	msgLinesDropped  = "log lines of this process were dropped"
	msgWorkerFailing = "workers do not become ready"
)
