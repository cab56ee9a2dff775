package control

import "time"

// The commands of a server. Each is answered by what its constant says.
const (
	CmdStatus     = "status"     // → Status
	CmdSessions   = "sessions"   // Target → Sessions: those with a tunnel
	CmdCookies    = "cookies"    // CookiesArgs → Cookies: all that sec-mod knows
	CmdBans       = "bans"       // → Bans
	CmdUnban      = "unban"      // UnbanArgs →
	CmdLimits     = "limits"     // → Limits
	CmdUnlimit    = "unlimit"    // UnlimitArgs →
	CmdDisconnect = "disconnect" // Target → Ended
	CmdTerminate  = "terminate"  // Target → Ended
	CmdReload     = "reload"     // →
	CmdStop       = "stop"       // →
	CmdUpgrade    = "upgrade"    // → Upgrade
	CmdWhy        = "why"        // WhyArgs → Why
)

// Target names sessions: by exactly one of its fields, or, where a command
// allows it, by none: all.
type Target struct {
	User    string `json:"user,omitempty"`
	ID      int    `json:"id,omitempty"`      // of the worker process
	Session string `json:"session,omitempty"` // the whole id, or how it begins
}

// Named is how many of the fields are set.
func (t Target) Named() int {
	n := 0
	for _, set := range []bool{t.User != "", t.ID != 0, t.Session != ""} {
		if set {
			n++
		}
	}
	return n
}

// CookiesArgs choose among cookies.
type CookiesArgs struct {
	Valid   bool   `json:"valid,omitempty"`   // only those good for a tunnel
	Session string `json:"session,omitempty"` // only those whose id begins so
}

// UnbanArgs name an address.
type UnbanArgs struct {
	IP string `json:"ip"`
}

// UnlimitArgs name a user or an address: one of them.
type UnlimitArgs struct {
	User string `json:"user,omitempty"`
	IP   string `json:"ip,omitempty"`
}

// EventsArgs choose among events.
type EventsArgs struct {
	Types []string `json:"types,omitempty"` // none: all
}

// Upgrade says what main is about to become: Status.Upgrades grows when it is.
type Upgrade struct {
	Program  string `json:"program"`
	Version  string `json:"version"`
	Upgrades int    `json:"upgrades"` // so far
}

// WhyArgs ask what becomes of a user's traffic to a destination.
type WhyArgs struct {
	User  string `json:"user"`
	Host  string `json:"host"` // name or address
	Port  int    `json:"port,omitempty"`
	Proto string `json:"proto,omitempty"` // tcp, udp or icmp; empty: tcp
	Dial  bool   `json:"dial,omitempty"`  // and connect (tcp)
}

// Why answers CmdWhy, for the user's newest tunnel.
type Why struct {
	User      string       `json:"user"`
	ID        int          `json:"id"` // of the worker process
	Host      string       `json:"host"`
	Port      int          `json:"port,omitempty"`
	Proto     string       `json:"proto"`
	Addresses []WhyAddress `json:"addresses"`
}

// WhyAddress is what becomes of it at one address of the destination.
type WhyAddress struct {
	Address string   `json:"address"`
	Allowed bool     `json:"allowed"`
	Denied  string   `json:"denied,omitempty"` // why not
	Rule    string   `json:"rule,omitempty"`   // the line that decides; empty: egress-profile does
	Line    string   `json:"line,omitempty"`   // of egress-via; empty: none holds
	Name    string   `json:"name,omitempty"`   // by which a proxy is asked
	Ways    []WhyWay `json:"ways,omitempty"`   // as they would be tried
	Dial    *WhyDial `json:"dial,omitempty"`
}

// WhyWay is a way out.
type WhyWay struct {
	Name    string `json:"name"`
	Up      bool   `json:"up"`
	Carries bool   `json:"carries"` // the protocol
	Error   string `json:"error,omitempty"`
}

// WhyDial is what came of connecting.
type WhyDial struct {
	Works   bool    `json:"works"`
	Error   string  `json:"error,omitempty"`
	Seconds float64 `json:"seconds"`
}

// Ended says what disconnect and terminate did.
type Ended struct {
	Sessions []string `json:"sessions"`       // ids
	Live     []string `json:"live,omitempty"` // terminate: of these, those whose tunnel goes on until it is closed
}

// Status is the state of the server.
type Status struct {
	Version        string    `json:"version"`
	PID            int       `json:"pid"`
	SecModPID      int       `json:"secmod_pid"`
	Started        time.Time `json:"started"`
	Generation     uint64    `json:"generation"` // of the configuration
	Upgrades       int       `json:"upgrades"`   // how often the program was replaced since
	Draining       bool      `json:"draining,omitempty"`
	ActiveSessions int       `json:"active_sessions"` // with a tunnel
	AwaySessions   int       `json:"away_sessions"`   // whose client may come back
	Workers        int       `json:"workers"`         // processes that have a client
	Banned         int       `json:"banned"`
	Total          Totals    `json:"total"`
	Period         Period    `json:"period"`
	// Counters are those of the processes: of main, of sec-mod, and of all
	// workers together, those that are gone included. Their names are stable,
	// new ones may come.
	Counters map[string]map[string]uint64 `json:"counters"`
	Gauges   map[string]uint64            `json:"gauges"` // how much there is of something now
}

// Totals count since the start of the server.
type Totals struct {
	Sessions     uint64 `json:"sessions"` // connections that have ended, as ocserv counts
	AuthFailures uint64 `json:"auth_failures"`
	RX           uint64 `json:"rx"` // bytes from clients, of living tunnels too
	TX           uint64 `json:"tx"`
}

// Period counts since the last reset (server-stats-reset-time).
type Period struct {
	Since          time.Time `json:"since"`
	Sessions       uint64    `json:"sessions"`
	TimedOut       uint64    `json:"timed_out"`
	TimedOutIdle   uint64    `json:"timed_out_idle"`
	Errors         uint64    `json:"errors"`
	AuthFailures   uint64    `json:"auth_failures"`
	AvgAuthTime    float64   `json:"avg_auth_time"` // seconds
	MaxAuthTime    float64   `json:"max_auth_time"`
	AvgSessionTime float64   `json:"avg_session_time"`
	MaxSessionTime float64   `json:"max_session_time"`
	MinMTU         int       `json:"min_mtu"`
	MaxMTU         int       `json:"max_mtu"`
	RX             uint64    `json:"rx"`
	TX             uint64    `json:"tx"`
}

// Sessions answers CmdSessions.
type Sessions struct {
	Sessions []Session `json:"sessions"`
}

// Session is a session with a tunnel, as its newest worker has it.
type Session struct {
	ID        int       `json:"id"`      // pid of the worker
	Session   string    `json:"session"` // base64(SHA-1(SID)); people are shown six characters
	User      string    `json:"user"`
	Group     string    `json:"group,omitempty"`
	Vhost     string    `json:"vhost,omitempty"` // empty: the default one
	State     string    `json:"state"`           // connected
	Device    string    `json:"device"`          // a label: there is no device
	MTU       int       `json:"mtu,omitempty"`
	RemoteIP  string    `json:"remote_ip"`
	LocalIP   string    `json:"local_ip"`
	IPv4      string    `json:"ipv4,omitempty"`
	IPv4PtP   string    `json:"ipv4_ptp,omitempty"`
	IPv6      string    `json:"ipv6,omitempty"`
	IPv6PtP   string    `json:"ipv6_ptp,omitempty"`
	UserAgent string    `json:"user_agent,omitempty"`
	Hostname  string    `json:"hostname,omitempty"`
	Mobile    bool      `json:"mobile,omitempty"`
	Connected time.Time `json:"connected"` // of this tunnel
	Login     time.Time `json:"login"`

	Channel Channel `json:"channel"`
	Traffic Traffic `json:"traffic"`
	Config  Config  `json:"config"`
}

// Channel is how packets travel.
type Channel struct {
	TLS             string `json:"tls,omitempty"`
	DTLS            string `json:"dtls,omitempty"` // empty: there is no DTLS channel
	DTLSPeer        string `json:"dtls_peer,omitempty"`
	CSTPCompression string `json:"cstp_compression,omitempty"`
	DTLSCompression string `json:"dtls_compression,omitempty"`
}

// Traffic counts bytes of packets inside the tunnel: RX came from the client.
type Traffic struct {
	RX      uint64            `json:"rx"` // of this tunnel
	TX      uint64            `json:"tx"`
	TotalRX uint64            `json:"total_rx"` // since the login, over all tunnels of the session
	TotalTX uint64            `json:"total_tx"`
	At      time.Time         `json:"at"` // when the worker counted
	More    map[string]uint64 `json:"more,omitempty"`
}

// Config is what the user's configuration says.
type Config struct {
	DPD                int      `json:"dpd"` // seconds
	Keepalive          int      `json:"keepalive"`
	LimitRX            uint64   `json:"limit_rx,omitempty"` // bytes per second
	LimitTX            uint64   `json:"limit_tx,omitempty"`
	DNS                []string `json:"dns"`
	NBNS               []string `json:"nbns"`
	SplitDNS           []string `json:"split_dns"`
	Routes             []string `json:"routes"` // none: the default route
	NoRoutes           []string `json:"no_routes"`
	IRoutes            []string `json:"iroutes"`
	RestrictedToRoutes bool     `json:"restricted_to_routes"`
	RestrictedToPorts  []string `json:"restricted_to_ports"`
}

// Cookies answers CmdCookies.
type Cookies struct {
	Cookies []Cookie `json:"cookies"`
}

// The states of a cookie, in ocserv's words.
const (
	StateConnected      = "connected"
	StateAuthenticated  = "authenticated"
	StateAuthenticating = "authenticating"
	StatePreAuth        = "pre-auth"
	StateFailed         = "auth failed"
)

// Cookie is a login or a session as sec-mod has it.
type Cookie struct {
	Session   string    `json:"session"` // empty while it is a login
	State     string    `json:"state"`
	User      string    `json:"user,omitempty"`
	Group     string    `json:"group,omitempty"`
	Vhost     string    `json:"vhost,omitempty"`
	UserAgent string    `json:"user_agent,omitempty"`
	RemoteIP  string    `json:"remote_ip,omitempty"`
	Created   time.Time `json:"created"`
	Expires   time.Time `json:"expires,omitzero"` // zero: not while it is in use
	InUse     int       `json:"in_use"`           // workers
	Opened    bool      `json:"opened"`           // there was a tunnel
	TLSAuth   bool      `json:"tls_auth"`         // with a certificate
	TotalRX   uint64    `json:"total_rx"`
	TotalTX   uint64    `json:"total_tx"`
}

// Bans answers CmdBans.
type Bans struct {
	Bans []Ban `json:"bans"`
}

// Ban is an address with points against it.
type Ban struct {
	IP      string    `json:"ip"` // an IPv6 source is a /64
	Score   int       `json:"score"`
	Banned  bool      `json:"banned"`
	Expires time.Time `json:"expires,omitzero"` // of the ban
}

// Limits are those whose logins are refused after too many wrong answers.
type Limits struct {
	Limits []Limit `json:"limits"` // the latest first
	More   int     `json:"more,omitempty"`
}

// Limit is one: of a user from wherever he is not known, of an address (an IPv6
// source is a /64), or with both of that user from there.
type Limit struct {
	User  string    `json:"user,omitempty"` // in small letters
	IP    string    `json:"ip,omitempty"`
	Until time.Time `json:"until"` // when one more answer is listened to
}

// The types of events.
const (
	EventConnected    = "connected"
	EventDisconnected = "disconnected"
	EventBanned       = "banned"
	EventReloaded     = "reloaded"
	EventStopping     = "stopping"
	EventLost         = "lost" // events that this listener was too slow for
)

// Event is something that happened.
type Event struct {
	Time     time.Time `json:"time"`
	Type     string    `json:"type"`
	Session  *Session  `json:"session,omitempty"`  // connected, disconnected
	Reason   string    `json:"reason,omitempty"`   // disconnected; banned: for what
	Duration float64   `json:"duration,omitempty"` // disconnected: seconds
	IP       string    `json:"ip,omitempty"`       // banned
	Lost     int       `json:"lost,omitempty"`
}
