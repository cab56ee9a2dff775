package config

// Option is one row of the table of options: what a line of the file may set,
// and what rocserv makes of it. The parser, the listing of what is in effect
// and the reference page are driven by the same rows.
type Option struct {
	Name    string
	Type    Type
	List    bool   // the line may be repeated, each adds a value; an empty value empties the list
	Default string // as one would write it; empty: none
	Scope   Scope
	Reload  Reload
	Status  Status
	Meaning string
	Note    string // why a Status is not InEffect, and what replaces it; of one that is, what it does otherwise than in ocserv
	Quiet   bool   // the Note is no warning: the option makes no difference that matters
	Ours    bool   // not an option of ocserv, which skips it with a warning
	Secret  bool   // read by sec-mod only
	Alias   string // the name this one stands for
	Merge   bool   // a per-user file adds to the list, by name, and does not replace it
	Into    string // the list that this one adds to; its order is that of all such lines

	most int64 // of a number: larger ones are lowered to it; 0: what 32 bits hold

	at  func(*target) any                   // the field; its type decides how a value is read
	set func(p *parser, t *target, it item) // where one field is not enough
	get func(*target) []string              // reads back what set has put
}

// Type is the kind of value of an option, in words for the reference.
type Type string

// The types of values.
const (
	Bool         Type = "true or false"
	Number       Type = "number"
	Seconds      Type = "seconds"
	Milliseconds Type = "milliseconds"
	Bytes        Type = "bytes"
	PortNumber   Type = "port"
	Text         Type = "text"
	Raw          Type = "text, taken with its quotes"
	File         Type = "file"
	Folder       Type = "directory"
	Hosts        Type = "address or host name"
	Address      Type = "IP address"
	Network4     Type = "IPv4 network"
	Mask4        Type = "dotted mask"
	Network6     Type = "IPv6 network"
	Route        Type = "network/length, network/mask or default"
	Prefixes     Type = "networks or addresses"
	MethodText   Type = "method, or method[key=value,...]"
	GroupText    Type = "name, or name[friendly name]"
	PortList     Type = "tcp(443), udp(53), icmp(), or !(...)"
	WayText      Type = "name, URL (direct, socks5://, http://, https://), and perhaps key=value ..."
	ViaText      Type = "name,name ... for network, domain, tcp(443), user:name, group:name ..."
	RuleText     Type = "network, domain or any, then perhaps tcp(443), udp(8000-8080), icmp()"
	ResolverText Type = "address, tls://host or https://host/path, perhaps key=value, and perhaps for zone, zone ..."
	KDCText      Type = "PATH REALM tcp|udp@HOST:PORT"
	BlockText    Type = "domains, and files of domains, which have a / in them"
	Priorities   Type = "GnuTLS priority string"
)

// Scope says where an option may stand.
type Scope uint8

// The scopes. Each but the last two may stand in the file before the first section.
const (
	ScopeGlobal   Scope = iota // not inside [vhost:NAME]: an error there
	ScopeAnywhere              // global, but ocserv takes it inside [vhost:NAME] as well
	ScopeVhost                 // global or inside [vhost:NAME]
	ScopeUser                  // as ScopeVhost, and in per-user and per-group files
	ScopeUserOnly              // only in per-user and per-group files
)

func (s Scope) String() string {
	return [...]string{"global", "global (anywhere)", "vhost", "vhost, group, user", "group, user"}[s]
}

// Reload says when a changed option is taken over.
type Reload uint8

// The classes.
const (
	OnReload  Reload = iota // with SIGHUP, for new sessions
	OnRestart               // never while the server runs
	Contents                // the name never, the file's content with SIGHUP
)

func (r Reload) String() string {
	return [...]string{"reload", "restart", "restart; contents on reload"}[r]
}

// Status says what rocserv does with an option.
type Status uint8

// The statuses.
const (
	InEffect Status = iota // does what Meaning says
	Later                  // accepted, not yet in effect: a warning if it is set to something
	Refused                // not in effect, and to go on without it would be less safe than the file says: an error if it is switched on
	NoEffect               // has nothing to do without a kernel tun, root or GnuTLS; Note says what replaces it
	Gone                   // ocserv itself has dropped it
)

func (s Status) String() string {
	return [...]string{"in effect", "not yet in effect", "refused", "no effect", "gone"}[s]
}

// Part is a part of the table: the options about one matter.
type Part struct {
	Title   string
	Options []Option
}

// Parts returns the table in its parts, in the order of the reference. Every
// call makes a new one.
func Parts() []Part {
	return []Part{
		{"Processes, sockets and files", processOptions()},
		{"Certificates and keys", keyOptions()},
		{"The server as a whole", serverOptions()},
		{"Who is let in", admissionOptions()},
		{"TLS and the channels", vhostOptions()},
		{"Login, groups and files of users", loginOptions()},
		{"Sessions", userOptions()},
		{"Addresses, routes and names", networkOptions()},
		{"What clients may reach, and by which way", egressOptions()},
		{"How the gateway answers DNS", resolverOptions()},
		{"Limits of flows", flowOptions()},
		{"Older names", oldOptions()},
	}
}

// Options returns the table in one.
func Options() (rows []Option) {
	for _, part := range Parts() {
		rows = append(rows, part.Options...)
	}
	return rows
}

// Most is the largest value of a number; 0: what 32 bits hold.
func (o *Option) Most() int64 { return o.most }

// target is where assignments go: the settings of one virtual host and what
// they are part of. For a per-user file only user and draft are there.
type target struct {
	global *Global
	vhost  *Vhost
	user   *User
	draft  *draft
}
