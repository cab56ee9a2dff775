package quickstart

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

const defaultPort = 8443

// listen is where the server listens; an empty host is every address.
type listen struct {
	host string
	port int
}

// parseListen reads ADDR:PORT, :PORT or PORT.
func parseListen(s string) (listen, error) {
	wrong := fmt.Errorf("%w: --listen is ADDR:PORT, :PORT or PORT, as in --listen :%d, not '%s'", ErrListen, defaultPort, s)
	if !strings.Contains(s, ":") {
		s = ":" + s
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return listen{}, wrong
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || !hostLike(host) {
		return listen{}, wrong
	}
	return listen{host: host, port: int(n)}, nil
}

// hostLike tells whether s is empty, an address, or made like a host name.
func hostLike(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && r != '.' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// checkPort explains, before anything is made, what the kernel would only refuse.
func checkPort(port int, h *host) error {
	if port >= h.firstPort || h.privileged {
		return nil
	}
	return fmt.Errorf("%w: port %d is reserved for privileged users (ports below %d are, on this host).\n"+
		"Take another port, as in --listen :%d, or let an administrator open this one with\n"+
		"  sysctl net.ipv4.ip_unprivileged_port_start=%d", ErrListen, port, h.firstPort, defaultPort, port)
}

// relisten returns a configuration with other values in the lines that say
// where to listen. What is not in effect there (no udp-port, a port of 0)
// stays so. Sections are left alone: they cannot say it.
func relisten(conf []byte, l listen) []byte {
	var out bytes.Buffer
	inSection, placed := false, false
	for line := range strings.Lines(string(conf)) {
		key, value, _ := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		inSection = inSection || strings.HasPrefix(line, "[")
		switch {
		case inSection:
		case key == "listen-host" && l.host == "":
			line = "#" + line
		case key == "listen-host":
			line = "listen-host = " + l.host + "\n"
			placed = true
		case key == "tcp-port":
			line = fmt.Sprintf("tcp-port = %d\n", l.port)
			if l.host != "" && !placed {
				line = "listen-host = " + l.host + "\n" + line
				placed = true
			}
		case key == "udp-port" && value != "0":
			line = fmt.Sprintf("udp-port = %d\n", l.port)
		}
		out.WriteString(line)
	}
	return out.Bytes()
}
