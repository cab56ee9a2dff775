package radius

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"rocserv/internal/secret"
	"rocserv/secmod/helper"
)

// Defaults of radcli.
const (
	authPort       = 1812 // RFC 2865
	acctPort       = 1813 // RFC 2866
	defaultTimeout = 10 * time.Second
	defaultRetries = 3
	maxConf        = 1 << 20 // bytes of a file
)

// conf is a file as radcli reads it (radiusclient.conf), with its servers' file.
type conf struct {
	servers       []server
	nasIdentifier string
	nasIP         netip.Addr // invalid: what the client reached
	bind          netip.Addr // invalid: any
	timeout       time.Duration
	retries       int // after the first try
	deadTime      time.Duration
	unsigned      bool           // answers without Message-Authenticator are taken
	serversFile   string         // empty: there is none
	dynamic       netip.AddrPort // where acctservers may have sessions ended; invalid: nowhere
}

// server is one RADIUS server.
type server struct {
	name   string // as configured, for messages
	host   string
	port   uint16
	addr   string // IP:port
	secret secret.Text
}

// ignored are options that mean nothing here, or only to other programs.
var ignored = []string{
	"authserver", "acctserver", "dictionary", "default_realm", "login_tries", "login_timeout", "login_radius", "login_local", "nologin", "issue", "mapfile", "seqfile",
	"auth_order", "radius_log", "clientdebug", "use-public-addr",
}

// draft is a conf before its servers' names are looked up.
type draft struct {
	conf
	names   []named
	secrets secrets
}

// purpose is what servers are for.
type purpose struct {
	option string // that names them
	port   uint16 // where theirs is not said
}

var (
	logins   = purpose{"authserver", authPort}
	accounts = purpose{"acctserver", acctPort}
)

// named is a server as it is configured.
type named struct {
	host string
	port uint16
	word secret.Text // zero: it is in the servers' file
}

// readConf reads the file and the one of secrets that it names, and looks up the
// servers.
func readConf(name string, use purpose, find helper.Lookup) (c *conf, warnings []string, err error) {
	d, warnings, err := readDraft(name, use)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), helper.ResolveTime)
	defer cancel()
	if d.servers, err = d.find(ctx, find); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return &d.conf, warnings, nil
}

// readDraft reads both files.
func readDraft(name string, use purpose) (d *draft, warnings []string, err error) {
	d = &draft{conf: conf{timeout: defaultTimeout, retries: defaultRetries}}
	secrets, tls := "", false
	err = eachLine(name, func(key, value string) error {
		var err error
		switch key {
		case use.option:
			err = d.add(value, use.port)
		case "servers":
			secrets = value
		case "nas-identifier":
			d.nasIdentifier = value
		case "nas-ip":
			d.nasIP, err = netip.ParseAddr(value)
		case "bindaddr":
			if value != "*" {
				d.bind, err = netip.ParseAddr(value)
			}
		case "radius_timeout":
			d.timeout, err = seconds(value, 1)
		case "radius_retries":
			d.retries, err = number(value, 0)
		case "radius_deadtime":
			d.deadTime, err = seconds(value, 0)
		case "serv-type":
			tls = !strings.EqualFold(value, "udp")
		case "dynauth-listen":
			d.dynamic, err = listenAt(value)
		case "require-message-authenticator":
			d.unsigned = value == "no" || value == "false" || value == "0"
		default:
			if !slices.Contains(ignored, key) {
				warnings = append(warnings, fmt.Sprintf("%s: unknown option '%s'", name, key))
			}
		}
		return err
	})
	switch {
	case err != nil:
		return nil, nil, err
	case tls:
		return nil, nil, fmt.Errorf("%s: serv-type: only udp is spoken", name)
	case len(d.names) == 0:
		return nil, nil, fmt.Errorf("%s: no %s", name, use.option)
	}
	if secrets != "" && !filepath.IsAbs(secrets) {
		secrets = filepath.Join(filepath.Dir(name), secrets)
	}
	d.serversFile = secrets
	if d.secrets, err = readSecrets(secrets); err != nil {
		return nil, nil, err
	}
	if d.unsigned {
		warnings = append(warnings, name+": require-message-authenticator = no: who is on the way to the server can let anybody in (CVE-2024-3596)")
	}
	return d, warnings, nil
}

// listenAt reads ADDRESS:PORT, or a port of every address.
func listenAt(value string) (netip.AddrPort, error) {
	if port, err := strconv.ParseUint(value, 10, 16); err == nil && port > 0 {
		return netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(port)), nil
	}
	a, err := netip.ParseAddrPort(value)
	if err == nil && a.Port() == 0 {
		err = errors.New("a port that is 0")
	}
	return a, err
}

// add takes the servers of a line, which blanks or commas separate.
func (d *draft) add(value string, defaultPort uint16) error {
	for _, s := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }) {
		host, port, word, err := splitServer(s, defaultPort)
		if err != nil {
			return err
		}
		d.names = append(d.names, named{host, port, secret.NewText(word)})
	}
	return nil
}

// eachLine calls f with the option and the value of each line.
func eachLine(name string, f func(key, value string) error) error {
	b, err := helper.ReadFile(name, maxConf)
	if err != nil {
		return err
	}
	defer clear(b) // may hold secrets
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, maxConf)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value := line, ""
		if i := strings.IndexAny(line, " \t"); i >= 0 {
			key, value = line[:i], strings.TrimSpace(line[i:])
		}
		if err := f(key, value); err != nil {
			return fmt.Errorf("%s:%d: %w", name, n, err)
		}
	}
	return lines.Err()
}

func number(s string, least int) (int, error) {
	const most = 1 << 20
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("'%s' is no number from %d to %d", s, least, most)
	}
	return n, nil
}

func seconds(s string, least int) (time.Duration, error) {
	n, err := number(s, least)
	return time.Duration(n) * time.Second, err
}

// secrets are those of the servers' file.
type secrets []struct {
	host string
	word secret.Text
}

// readSecrets reads lines of a host and a secret; the host may be a pair of
// client/server or server/client.
func readSecrets(name string) (list secrets, err error) {
	if name == "" {
		return nil, nil
	}
	err = eachLine(name, func(host, word string) error {
		if word == "" {
			return errors.New("a server without a secret")
		}
		for _, h := range strings.Split(host, "/") {
			list = append(list, secrets{{h, secret.NewText(word)}}...)
		}
		return nil
	})
	return list, err
}

// find finds the address and the secret of each server.
func (d *draft) find(ctx context.Context, find helper.Lookup) (list []server, err error) {
	for _, n := range d.names {
		addrs, err := find.Addresses(ctx, n.host)
		if err != nil {
			return nil, fmt.Errorf("server %s: %w", n.host, err)
		}
		if n.word.IsZero() {
			n.word = d.secrets.of(ctx, find, n.host, n.port, addrs)
		}
		if n.word.IsZero() {
			return nil, fmt.Errorf("server %s has no secret in the file that 'servers' names", n.host)
		}
		list = append(list, server{
			name: net.JoinHostPort(n.host, strconv.Itoa(int(n.port))), host: n.host, port: n.port, addr: netip.AddrPortFrom(addrs[0], n.port).String(), secret: n.word,
		})
	}
	return list, nil
}

// of finds the secret of a server: by its name, with or without its port, or by
// one of its addresses.
func (s secrets) of(ctx context.Context, find helper.Lookup, host string, port uint16, addrs []netip.Addr) secret.Text {
	for _, e := range s {
		if e.host == host || e.host == net.JoinHostPort(host, strconv.Itoa(int(port))) {
			return e.word
		}
	}
	for _, e := range s {
		others, err := find.Addresses(ctx, strings.Trim(e.host, "[]"))
		if err == nil && slices.ContainsFunc(others, func(a netip.Addr) bool { return slices.Contains(addrs, a) }) {
			return e.word
		}
	}
	return secret.Text{}
}

// splitServer reads host, host:port and host:port:secret, and the same with an
// IPv6 address in brackets.
func splitServer(s string, defaultPort uint16) (host string, port uint16, word string, err error) {
	rest := ""
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if host, rest, ok = strings.Cut(inner, "]"); !ok {
			return "", 0, "", errors.New("no closing bracket in the name of a server")
		}
		rest = strings.TrimPrefix(rest, ":")
	} else {
		host, rest, _ = strings.Cut(s, ":")
	}
	at, word, _ := strings.Cut(rest, ":")
	n, err := strconv.ParseUint(cmp.Or(at, strconv.Itoa(int(defaultPort))), 10, 16)
	if err != nil || n == 0 || host == "" {
		return "", 0, "", fmt.Errorf("server '%s': not HOST, HOST:PORT or HOST:PORT:SECRET", host)
	}
	return host, uint16(n), word, nil
}
