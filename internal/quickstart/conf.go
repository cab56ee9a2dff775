package quickstart

import (
	"fmt"
	"net/netip"
	"strings"

	"rocserv/internal/config"
)

// newConf is the text of a first configuration.
func newConf(f Files, l listen, pool4, pool6 netip.Prefix) []byte {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# Made by `rocserv quickstart`, which from now on keeps it: change what you like.")
	p("# The format and the options are those of ocserv; `rocserv -t -c FILE` checks a file.")
	p("")
	p("# Where to listen. TCP carries TLS, UDP carries DTLS, which is faster; without UDP everything")
	p("# goes over TCP. No listen-host means every address. Ports below 1024 need a privilege.")
	if l.host == "" {
		p("#listen-host = 192.0.2.1")
	} else {
		p("listen-host = %s", l.host)
	}
	p("tcp-port = %d", l.port)
	p("udp-port = %d", l.port)
	p("")
	p("# Who may log in: the users of this file. Add one, or set a password, with")
	p("#   rocserv passwd -c FILE USER")
	p("auth = \"plain[passwd=%s]\"", f.Users)
	p("")
	p("# Who the server is. The certificate is self-signed, so clients must be told its pin, as in the")
	p("# openconnect line that quickstart prints. With a certificate of a public authority they need not.")
	p("server-cert = %s", f.Cert)
	p("server-key = %s", f.Key)
	p("")
	p("# The run directory, and the name sessions are shown with.")
	p("socket-file = %s/rocserv", f.Run)
	p("device = vpns")
	p("")
	p("# rocserv ctl shows who is connected, disconnects, reloads.")
	p("use-occtl = true")
	p("")
	p("# Addresses for clients. They exist only inside the server: what a client sends leaves as the")
	p("# host's own traffic. They were chosen so as not to be in use where the server is.")
	p("ipv4-network = %s", pool4)
	p("ipv6-network = %s", pool6)
	p("")
	p("# Which traffic comes here. No route means all of it. To carry only some networks, name them:")
	p("#route = 192.168.0.0/16")
	p("# DNS servers for clients:")
	p("#dns = 192.0.2.53")
	p("")
	p("# Where clients may go: lan is the internet and private networks, internet is without the latter.")
	p("# The host itself (its loopback and own addresses) is out of reach either way.")
	p("egress-profile = lan")
	p("")
	p("# How many clients in all, and how many times the same user. 0 is no limit.")
	p("max-clients = 0")
	p("max-same-clients = 0")
	p("")
	p("# A client that is silent for two of these (seconds) is asked whether it is there; mobile ones")
	p("# are asked less often, which spares their batteries.")
	p("dpd = 90")
	p("mobile-dpd = 1800")
	p("")
	p("# How long (seconds) a client that lost its connection may come back without a new login.")
	p("cookie-timeout = 300")
	p("")
	p("# An address is refused for ban-time seconds once it has this many points (10 for a wrong password).")
	p("max-ban-score = 80")
	p("ban-time = 300")
	return []byte(b.String())
}

// understood parses a configuration, as main and sec-mod will.
func understood(f Files, conf []byte) (*config.Config, error) {
	c, err := config.Parse(f.Config, conf, config.Main)
	if err != nil {
		return nil, fmt.Errorf("%w: the configuration has errors:\n%w\nMend them, or remove %s to have a new one made",
			ErrState, err, f.Config)
	}
	return c, nil
}

// checkMade makes sure that a new configuration says what it was meant to:
// paths with odd characters do not survive the format.
func checkMade(f Files, conf []byte) (*config.Config, error) {
	c, err := config.Parse(f.Config, conf, config.Main)
	if err == nil {
		v := c.Vhosts[0]
		if len(v.Keys) == 1 && v.Keys[0] == (config.KeyPair{Cert: f.Cert, Key: f.Key}) &&
			passwordFile(c) == f.Users && c.Global.SocketFile == f.Run+"/rocserv" {
			return c, nil
		}
	}
	return nil, fmt.Errorf("%w: the name of the directory %q has characters that cannot stand in a configuration; "+
		"name another with --state-dir DIR", ErrNoPlace, f.Dir)
}

// passwordFile is where the default virtual host's users are, or "".
func passwordFile(c *config.Config) string {
	for _, m := range c.Vhosts[0].Auth {
		if m.Name == "plain" {
			return m.Options["passwd"]
		}
	}
	return ""
}
