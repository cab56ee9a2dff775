package scripts

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"rocserv/internal/control"
	"rocserv/internal/ipc"
)

// What a script is called for: REASON.
const (
	Connect    = "connect"
	Disconnect = "disconnect"
	HostUpdate = "host-update"
)

// maxWord bounds what a client says of itself, in bytes.
const maxWord = 256

// searchPath is PATH where the server has none.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Facts is what there is to tell.
type Facts struct {
	Reason         string
	Session        control.Session    // as people see it
	Config         *ipc.SessionConfig // what the client was given
	IPv6Bits       int                // how much of IPv6 is the session's
	DeviceType     string
	DevicePlatform string
	Ended          *Ended // with Disconnect
}

// Ended is a connection that is over.
type Ended struct {
	BytesIn, BytesOut uint64 // from and to the client
	Duration          time.Duration
	Why               string
}

// private are variables by which a service manager talks to the server alone.
var private = []string{"NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "CREDENTIALS_DIRECTORY", "INVOCATION_ID", "JOURNAL_STREAM", "ROCSERV_"}

// ours are the names that a script takes for ours, set or not.
var ours = []string{
	"REASON", "ID", "VHOST", "USERNAME", "GROUPNAME", "HOSTNAME", "REMOTE_HOSTNAME", "DEVICE", "USER_AGENT", "DEVICE_TYPE",
	"DEVICE_PLATFORM", "IP_", "IPV6_", "OCSERV_", "STATS_", "DISCONNECT_REASON",
}

// Environment is the script's whole environment: what the server was started
// with, and the facts.
func (f *Facts) Environment(inherited []string) []string {
	env := slices.DeleteFunc(slices.Clone(inherited), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return named(name, private) || named(name, ours)
	})
	if !slices.ContainsFunc(env, func(entry string) bool { return strings.HasPrefix(entry, "PATH=") }) {
		env = append(env, "PATH="+searchPath)
	}
	v := variables{env}
	f.client(&v)
	f.addresses(&v)
	f.network(&v)
	if e := f.Ended; e != nil {
		v.set("STATS_BYTES_IN", strconv.FormatUint(e.BytesIn, 10))
		v.set("STATS_BYTES_OUT", strconv.FormatUint(e.BytesOut, 10))
		v.set("STATS_DURATION", strconv.FormatInt(int64(e.Duration/time.Second), 10))
		v.set("DISCONNECT_REASON", e.Why)
	}
	return v.list
}

// named says whether a name is on a list, whose entries that end in _ stand for
// all that begin so.
func named(name string, list []string) bool {
	return slices.ContainsFunc(list, func(n string) bool {
		return name == n || strings.HasSuffix(n, "_") && strings.HasPrefix(name, n)
	})
}

type variables struct{ list []string }

// set adds a variable, unless there is nothing to say.
func (v *variables) set(name, value string) {
	if value != "" {
		v.list = append(v.list, name+"="+value)
	}
}

// family adds a list of networks or addresses three times: all, and those of
// each family.
func (v *variables) family(name string, all []string) {
	is6 := func(s string) bool { return strings.Contains(s, ":") }
	is4 := func(s string) bool { return !is6(s) }
	v.set(name, spaced(all))
	v.set(name+"4", spaced(slices.DeleteFunc(slices.Clone(all), is6)))
	v.set(name+"6", spaced(slices.DeleteFunc(slices.Clone(all), is4)))
}

// spaced is the words, each with a space behind it.
func spaced(words []string) string {
	var b strings.Builder
	for _, w := range words {
		b.WriteString(w + " ")
	}
	return b.String()
}

// client is who it is.
func (f *Facts) client(v *variables) {
	s := &f.Session
	vhost := s.Vhost
	if vhost == "" {
		vhost = "default"
	}
	v.set("REASON", f.Reason)
	v.set("ID", strconv.Itoa(s.ID))
	v.set("VHOST", vhost)
	v.set("USERNAME", s.User)
	v.set("GROUPNAME", s.Group)
	v.set("HOSTNAME", word(s.Hostname))
	v.set("REMOTE_HOSTNAME", word(s.Hostname))
	v.set("DEVICE", s.Device)
	v.set("USER_AGENT", word(s.UserAgent))
	v.set("DEVICE_TYPE", word(f.DeviceType))
	v.set("DEVICE_PLATFORM", word(f.DevicePlatform))
}

// word is a client's word on one printable line.
func word(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, s[:min(len(s), 2*maxWord)])
	return strings.ToValidUTF8(s[:min(len(s), maxWord)], "")
}

// addresses are those outside and inside. Without IPv4 the plain names are of IPv6.
func (f *Facts) addresses(v *variables) {
	s := &f.Session
	v.set("IP_REAL", s.RemoteIP)
	v.set("IP_REAL_LOCAL", s.LocalIP)
	local, remote := s.IPv4PtP, s.IPv4
	if remote == "" {
		local, remote = s.IPv6PtP, s.IPv6
	}
	v.set("IP_LOCAL", local)
	v.set("IP_REMOTE", remote)
	if s.IPv6 != "" {
		v.set("IPV6_LOCAL", s.IPv6PtP)
		v.set("IPV6_REMOTE", s.IPv6)
		v.set("IPV6_PREFIX", strconv.Itoa(f.IPv6Bits))
	}
}

// network is what the client may reach and is told.
func (f *Facts) network(v *variables) {
	c := f.Config
	v.family("OCSERV_ROUTES", c.GetRoutes())
	v.family("OCSERV_NO_ROUTES", c.GetNoRoutes())
	var dns []string
	for _, b := range c.GetDns() {
		if a := ipc.Addr(b); a.IsValid() {
			dns = append(dns, a.String())
		}
	}
	v.family("OCSERV_DNS", dns)
	if c.GetRestrictToRoutes() {
		v.set("OCSERV_RESTRICT_TO_ROUTES", "1")
	}
	name := "OCSERV_ALLOW_PORTS"
	if c.GetPortsDeny() {
		name = "OCSERV_DENY_PORTS"
	}
	var ports []string
	for _, p := range c.GetPorts() {
		port := "all"
		if p.Port != 0 {
			port = strconv.Itoa(int(p.Port))
		}
		ports = append(ports, p.Proto+" "+port)
	}
	v.set(name, spaced(ports))
}
