package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// Beyond64 is an address of tgt that speaks IPv4 only: srv reaches it by the
// NAT64 of StartNAT64, under 64:ff9b::/96. It is none of those for documentation,
// which tayga translates under no well-known prefix (RFC 6052 section 3.1).
const Beyond64 = "203.0.114.7"

// taygaConfig: IPv6 hosts get addresses of dynamic-pool on the IPv4 side.
const taygaConfig = `
tun-device nat64
ipv4-addr 192.168.255.1
ipv6-addr fd77:64::1
prefix 64:ff9b::/96
dynamic-pool 192.168.255.0/24
data-dir %s
`

// StartNAT64 makes tgt a router that translates for hosts with IPv6 only.
func (l *Lab) StartNAT64() (*Process, error) {
	if _, err := exec.LookPath("tayga"); err != nil {
		return nil, err
	}
	dir := l.Path("tayga")
	file := dir + "/tayga.conf"
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(file, fmt.Appendf(nil, taygaConfig, dir), 0o644)); err != nil {
		return nil, err
	}
	if _, err := l.Tgt.Run("tayga", "--mktun", "-c", file); err != nil {
		return nil, err
	}
	if err := errors.Join(l.Tgt.Sysctl("net/ipv6/conf/all/forwarding=1", "net/ipv4/ip_forward=1"),
		l.Tgt.IP("link set nat64 up", "route add 64:ff9b::/96 dev nat64", "route add 192.168.255.0/24 dev nat64", "addr add "+Beyond64+"/32 dev lo")); err != nil {
		return nil, err
	}
	l.translated = true
	p, err := l.Tgt.Start("tayga", nil, nil, "tayga", "-d", "-c", file)
	if err != nil {
		return nil, err
	}
	if err := l.Srv.IP("route replace 64:ff9b::/96 via " + Tgt6); err != nil {
		return p, err
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err = l.Srv.Run("ping", "-6", "-n", "-c", "1", "-W", "1", "64:ff9b::"+Beyond64); err == nil {
			return p, nil
		}
		if time.Now().After(deadline) || !p.Running() {
			return p, fmt.Errorf("tayga does not translate: %w\n%s", err, p.Story())
		}
	}
}

// beyond is where dante listens for who comes by the NAT64.
func (l *Lab) beyond(port int) string {
	if !l.translated {
		return ""
	}
	return fmt.Sprintf("internal: %s port = %d\n", Beyond64, port)
}
