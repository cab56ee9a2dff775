package wire

import "strings"

// Agent is a class of clients, known by User-Agent. It decides about forms and
// workarounds only, never about what a client may do: anyone can name itself
// anything.
type Agent uint8

// Classes of clients.
const (
	AgentUnknown       Agent = iota
	AgentOpenConnect         // also its graphical front ends and NetworkManager
	AgentOpenConnectV3       // openconnect up to version 3
	AgentAnyConnect          // Cisco, desktop and Android; sslcon calls itself so too
	AgentAnyConnectIOS       // Cisco on Apple's mobile devices
	AgentClavister
	AgentAnyLink
	AgentIPPhone // Cisco's telephones
)

var agentNames = [...]string{
	"unknown", "openconnect", "openconnect-v3", "anyconnect", "anyconnect-ios", "clavister", "anylink", "ip-phone",
}

func (a Agent) String() string { return agentNames[a] }

// agentPrefixes are tried in order, so the longer comes before its own prefix
// (ocserv worker-http.c). Case does not count.
var agentPrefixes = []struct {
	prefix string
	agent  Agent
}{
	{"Open AnyConnect VPN Agent", AgentOpenConnect}, // openconnect <= 9.12
	{"AnyConnect-compatible OpenConnect", AgentOpenConnect},
	{"OpenConnect VPN Agent", AgentOpenConnect}, // NetworkManager, Java
	{"openconnect-gui", AgentOpenConnect},
	{"Cisco AnyConnect VPN Agent for Apple", AgentAnyConnectIOS},
	{"AnyConnect AppleSSLVPN", AgentAnyConnectIOS},
	{"Cisco AnyConnect", AgentAnyConnect},
	{"Cisco Secure Client", AgentAnyConnect},
	{"AnyConnect", AgentAnyConnect},
	{"Clavister OneConnect VPN", AgentClavister},
	{"AnyLink Secure Client", AgentAnyLink},
	{"Cisco SVC IPPhone Client", AgentIPPhone},
}

// ParseAgent finds the class of a User-Agent.
func ParseAgent(userAgent string) Agent {
	for _, p := range agentPrefixes {
		if !hasPrefixFold(userAgent, p.prefix) {
			continue
		}
		if p.agent == AgentOpenConnect && isV3(userAgent[len(p.prefix):]) {
			return AgentOpenConnectV3
		}
		return p.agent
	}
	return AgentUnknown
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// isV3 reads the rest of "Open AnyConnect VPN Agent v3.20".
func isV3(rest string) bool {
	rest, ok := strings.CutPrefix(rest, " v")
	if !ok || rest == "" || rest[0] < '0' || rest[0] > '3' {
		return false
	}
	return len(rest) == 1 || rest[1] < '0' || rest[1] > '9'
}

// BareForms says that the client wants <auth> as the root of a form, not inside
// config-auth.
func (a Agent) BareForms() bool { return a == AgentOpenConnectV3 }

// ipv6Routes says that the client knows what to do with routes and DNS servers
// of IPv6 (ocserv worker-vpn.c).
func (a Agent) ipv6Routes() bool { return a != AgentOpenConnectV3 }

// dnsHeader names the header an IPv6 DNS server is told with: old openconnect
// knows only the one it uses for both families, Cisco's clients only the other.
func (a Agent) dnsHeader(is6 bool) string {
	if is6 && a != AgentOpenConnect && a != AgentClavister {
		return "X-CSTP-DNS-IP6"
	}
	return "X-CSTP-DNS"
}

// wantsIPv6Include says that the client installs no default route of IPv6
// unless it is told one (ocserv worker-vpn.c).
func (a Agent) wantsIPv6Include() bool { return a == AgentAnyConnectIOS }
