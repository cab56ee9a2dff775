package config

import (
	"fmt"
	"net/netip"
	"time"

	"rocserv/internal/secret"
)

// Config is one ocserv.conf, parsed and checked. The zero value of a field
// means "not set" only where its comment says so; otherwise Parse has put the
// default in.
type Config struct {
	Global   Global
	Vhosts   []*Vhost  // the default vhost first
	Warnings []Problem // what the operator should see, in file order
	Notes    []Problem // what ocserv prints as "note: "

	file  string
	lines map[place][]int // where an option was set: of a list every line, else the last
}

// place is an option in a virtual host.
type place struct {
	vhost, option string
}

// Place says where an option of a virtual host was set, as Line does. i is which
// value of a list it is about.
func (c *Config) Place(vhost, option string, i int) string { return c.Line(c.line(vhost, option, i)) }

// Line is a line of the file as FILE:LINE, or FILE for 0.
func (c *Config) Line(n int) string {
	if n == 0 {
		return c.file
	}
	return fmt.Sprintf("%s:%d", c.file, n)
}

// line finds it in the virtual host's own section, else before all sections; 0:
// it is a default.
func (c *Config) line(vhost, option string, i int) int {
	for _, v := range []string{vhost, ""} {
		if list := c.lines[place{v, option}]; len(list) > 0 {
			return list[min(i, len(list)-1)]
		}
	}
	return 0
}

// Vhost returns the virtual host of that name (as canonicalised from SNI), or the default one.
func (c *Config) Vhost(name string) *Vhost {
	for _, v := range c.Vhosts[1:] {
		if v.Name == name {
			return v
		}
	}
	return c.Vhosts[0]
}

// Problem is a message about a place in the file. Its String is FILE:LINE: TEXT.
type Problem struct {
	File string
	Line int    // 0: about the whole
	Text string // "error: ..." without the prefix
}

// Global settings hold for the whole server.
type Global struct {
	Listen         []string // listen-host; empty: every address
	UDPListen      []string // udp-listen-host; empty: as Listen
	TCPPort        int
	UDPPort        int    // 0: no DTLS
	Congestion     string // tcp-congestion-control; empty: bbr where allowed
	RunAsUser      string
	RunAsGroup     string
	SocketFile     string        // prefix; only its folder matters to us
	WatchFiles     bool          // watch-files
	SessionStore   string        // session-store; empty: none
	ControlFile    string        // occtl-socket-file; empty: a writable run directory
	UseControl     bool          // use-occtl
	StatsReset     time.Duration // server-stats-reset-time
	PIDFile        string
	LogLevel       int  // 0-9
	LogJSON        bool // log-format = json
	SyslogFacility string
	Device         string

	Isolate            bool // isolate-workers: on unless switched off, unlike ocserv
	LimitWorkerMemory  bool
	CompressionOrder   []string // names of the wire, best first
	WorkerFiles        int      // limit-worker-files
	RequireConfinement bool
	MaxClients         int // 0: what pids, files and memory allow
	ListenProxyProto   bool
	RateLimit          time.Duration // rate-limit-ms
	Drain              time.Duration // server-drain-ms
	AuthTimeout        time.Duration
	MaxBanScore        int // 0: off
	BanTime            time.Duration
	BanResetTime       time.Duration
	BanPointsPassword  int
	BanPointsConnect   int
	BanPointsKDC       int // ban-points-kkdcp
	Attempts           Attempts
	ConnectScript      string
	DisconnectScript   string
	HostUpdateScript   string
	ExitOnSecModDeath  bool
	EgressAllowUnsafe  []netip.Prefix

	// Who may say whom a connection is from, and who is never banned.
	ProxyTrusted []netip.Prefix // proxy-proto-trusted; empty: everyone
	BanExempt    []netip.Prefix
	BanLocal     bool
}

// Attempts says how many wrong answers to logins are listened to: attempts-user,
// attempts-source and attempts-pair, each at once and again in attempts-time.
type Attempts struct {
	User, Source, Pair int // 0: no limit
	Time               time.Duration
}

// Vhost is a virtual host: what can differ by TLS server name.
type Vhost struct {
	Name string // "" is the default vhost

	Keys           []KeyPair // server-cert and server-key, in order
	KeyPin         Secret    // key-pin; read by sec-mod only
	PinFile        string
	CACert         string
	CRL            string
	OCSPResponse   string
	TLS            TLS
	Auth           []Method // auth: every one of them
	EnableAuth     []Method // enable-auth: or any one of them
	CertUserOID    string
	CertGroupOID   string
	PreLoginBanner string
	Banner         string

	CookieTimeout      time.Duration
	PersistentCookies  bool
	SwitchToTCP        time.Duration // 0: never
	DefaultDomain      string
	DTLSPSK            bool
	DTLSLegacy         bool
	CiscoClientCompat  bool
	CiscoSVCCompat     bool
	PredictableIPs     bool
	MatchCiphers       bool
	Compression        bool
	NoCompressLimit    int // bytes of a packet
	OutputBuffer       int // packets; 0: the kernel's default
	RekeyTime          time.Duration
	RekeyNewTunnel     bool // rekey-method = new-tunnel (ssl is sent as new-tunnel too)
	ProxyURL           string
	CustomHeaders      []string
	HTTPHeaders        []string // included-http-headers
	DefaultSelectGroup string
	SelectGroups       []Group
	SelectGroupByURL   bool
	AutoSelectGroup    bool
	ConfigPerUser      string
	ConfigPerGroup     string
	DefaultUserConfig  string
	DefaultGroupConfig string
	AppendRoutes       bool
	ExposeIRoutes      bool
	ListenDynDNS       bool
	TryMTUDiscovery    bool
	Camouflage         bool
	CamouflageSecret   Secret // read by sec-mod only
	CamouflageRealm    string
	Acct               []Method // acct: the last one, if any
	KDCs               []KDC    // kkdcp, in order

	// Unused holds the values of options that have no field, as written or
	// defaults, by name. Those of global options are in the default vhost.
	Unused map[string][]string

	User User // what per-user and per-group files can override
}

// KeyPair is a certificate chain and its key, as files.
type KeyPair struct {
	Cert, Key string
}

// TLS holds protocol settings as plain values: main must not link crypto/tls.
type TLS struct {
	Priorities string // tls-priorities as written
	MinVersion uint16 // 0x0303 or 0x0304
	MaxVersion uint16
	Suites     []uint16 // IANA numbers in order of preference; empty: Go's own
	Curves     []uint16
}

// Method is one way to log in, as in `auth = "plain[passwd=FILE]"`.
type Method struct {
	Name    string            // plain, certificate, pam, radius, gssapi, oidc, ldap
	Options map[string]string // by name
	Line    int
}

// Group is a group offered in the login form.
type Group struct {
	Name  string
	Label string // friendly name; empty: Name
}

// User holds what a vhost sets and per-user and per-group files override.
type User struct {
	TunnelAllDNS      bool
	Keepalive         time.Duration
	DPD               time.Duration
	MobileDPD         time.Duration
	UserProfile       string
	ClientBypass      bool
	RestrictToRoutes  bool
	Ports             []Port // restrict-user-to-ports
	PortsDeny         bool   // ! ( ... )
	MTU               int    // of the link; 0: 1500
	NetPriority       int    // -1: none; 0-6; 0x100|TOS
	RxPerSec          uint64 // bytes
	TxPerSec          uint64
	DenyRoaming       bool
	StatsReport       time.Duration // 0: off
	SessionTimeout    time.Duration // 0: none
	IdleTimeout       time.Duration // 0: none
	MobileIdleTimeout time.Duration // 0: as IdleTimeout
	MaxSameClients    int           // 0: no limit
	ReplaceOldest     bool          // max-same-clients-policy = replace-oldest
	IPv4Network       netip.Prefix  // invalid: none
	IPv6Network       netip.Prefix
	IPv6SubnetBits    int
	SplitDNS          []string
	Routes            []netip.Prefix // empty: default route
	NoRoutes          []netip.Prefix
	DNS               []netip.Addr
	NBNS              []netip.Addr
	NoUDP             bool
	EgressInternet    bool // egress-profile = internet
	EgressRules       []EgressRule
	Flows             Flows
	Ways              []Way
	Via               []Via
	Fingerprint       string
	Resolver          Resolver
	ClientDNS         string // allow, intercept, deny
	Forwards          []Forward
	ClientToClient    bool

	// Only in per-user and per-group files.
	IRoutes      []netip.Prefix
	ExplicitIPv4 netip.Addr
	ExplicitIPv6 netip.Addr
	Hostname     string
}

// Flows bound what one client can have open; zero means the default.
type Flows struct {
	TCP, UDP, ICMP int
	Dials          int
	PerSecond      int
	Buffers        int  // bytes
	FullCone       bool // nat-filtering = full-cone
}

// Port is one element of restrict-user-to-ports.
type Port struct {
	Proto string // tcp udp sctp icmp icmpv6 esp
	Port  int    // 0: all
}

// Secret is a string that never prints itself.
type Secret = secret.Text
