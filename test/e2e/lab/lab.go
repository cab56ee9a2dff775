package lab

import (
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Addresses of the lab. Clients' outer ones are ClientAddr4 and ClientAddr6.
const (
	Srv4, Srv6         = "10.77.1.1", "fd77:1::1" // the server's, towards clients
	SrvIn4, SrvIn6     = "10.77.9.1", "fd77:9::1" // the server's, towards tgt
	Tgt4, Tgt6         = "10.77.9.2", "fd77:9::2"
	Silent4, Silent6   = "10.77.9.66", "fd77:9::66"  // in tgt, answers nothing
	Absent4, Absent6   = "10.77.9.99", "fd77:9::99"  // on the wire to tgt, but nobody's
	NoRoute4, NoRoute6 = "10.78.0.1", "fd78::1"      // srv has no route there
	Metadata4          = "169.254.169.254"           // in tgt, and srv has a route there
	Pool4, Pool6       = "10.66.0.0/24", "fd66::/64" // of addresses for clients
	Gateway4, Gateway6 = "10.66.0.1", "fd66::1"
	Far64, Behind64    = "203.0.113.7", "64:ff9b::203.0.113.7" // the same host, by a NAT64
)

//go:embed janitor.sh
var janitorScript string

// Lab is a set of namespaces with wires between them, and a folder.
type Lab struct {
	Dir      string // mode 0755, removed by Close
	Srv, Tgt Netns
	Cli      []Netns
	Routed   *routed  // nil but for OpenRouted
	Distant  *distant // nil but for OpenDistant

	translated bool // StartNAT64 has been

	janitor *exec.Cmd
	hold    io.Closer // the janitor waits for its end
}

// Open makes a lab with so many clients.
func Open(clients int) (*Lab, error) { return open(clients, func(*Lab, string) {}) }

// open makes a lab to which add has added namespaces, named with the prefix.
func open(clients int, add func(l *Lab, prefix string)) (*Lab, error) {
	dir, err := os.MkdirTemp("", "rocserv-lab-")
	if err != nil {
		return nil, err
	}
	prefix := fmt.Sprintf("roc%d-%s", os.Getpid(), strings.ToLower(rand.Text()[:6]))
	l := &Lab{Dir: dir, Srv: Netns{prefix + "-srv"}, Tgt: Netns{prefix + "-tgt"}}
	for i := range clients {
		l.Cli = append(l.Cli, Netns{fmt.Sprintf("%s-cli%d", prefix, i+1)})
	}
	add(l, prefix)
	if err := l.hireJanitor(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := l.build(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Close ends every program of the lab and removes it.
func (l *Lab) Close() error {
	l.hold.Close()
	if err := l.janitor.Wait(); err != nil {
		return fmt.Errorf("lab not removed: %w", err)
	}
	return nil
}

func (l *Lab) namespaces() []Netns {
	return slices.Concat([]Netns{l.Srv, l.Tgt}, l.Cli, l.Routed.namespaces(), l.Distant.namespaces())
}

func (l *Lab) hireJanitor() error {
	args := []string{"-c", janitorScript, "janitor", l.Dir}
	for _, n := range l.namespaces() {
		args = append(args, n.Name)
	}
	l.janitor = exec.Command("sh", args...)
	l.janitor.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // an interrupt from the terminal is not for it
	l.janitor.Stderr = os.Stderr
	hold, err := l.janitor.StdinPipe()
	if err != nil {
		return err
	}
	l.hold = hold
	return l.janitor.Start()
}

// ClientAddr4 is the outer address of client i, counted from 0.
func ClientAddr4(i int) string { return fmt.Sprintf("10.77.1.%d", 11+i) }

// ClientAddr6 is the same in IPv6.
func ClientAddr6(i int) string { return fmt.Sprintf("fd77:1::%x", 11+i) }

func (l *Lab) build() error {
	if err := os.Chmod(l.Dir, 0o755); err != nil {
		return err
	}
	var adds []string
	for _, n := range l.namespaces() {
		adds = append(adds, "netns add "+n.Name)
	}
	if err := ipBatch(nil, adds...); err != nil {
		return err
	}
	for _, n := range l.namespaces() {
		// No address is tentative for a second, none is made by accident.
		if err := n.Sysctl("net/ipv6/conf/default/accept_dad=0", "net/ipv6/conf/default/accept_ra=0",
			"net/ipv4/conf/all/rp_filter=0", "net/ipv4/conf/default/rp_filter=0"); err != nil {
			return err
		}
	}
	if err := l.wire(); err != nil {
		return err
	}
	if l.Routed != nil {
		if err := l.wireRouted(); err != nil {
			return err
		}
	}
	if l.Distant != nil {
		if err := l.wireDistant(); err != nil {
			return err
		}
	}
	if err := l.Tgt.Nft("silent", "input ip daddr "+Silent4+" drop", "input ip6 daddr "+Silent6+" drop"); err != nil {
		return err
	}
	return l.Srv.SetResolvers(Tgt4)
}

// wire makes links, addresses and routes.
func (l *Lab) wire() error {
	srv := []string{
		"link set lo up",
		"link add br0 type bridge forward_delay 0",
		"link add eth0 type veth peer name eth0 netns " + l.Tgt.Name,
		"link set eth0 up",
		"addr add " + SrvIn4 + "/24 dev eth0",
		"addr add " + SrvIn6 + "/64 dev eth0",
		"route add " + Metadata4 + " dev eth0",
	}
	for i, c := range l.Cli {
		srv = append(srv,
			fmt.Sprintf("link add c%d type veth peer name eth0 netns %s", i+1, c.Name),
			fmt.Sprintf("link set c%d master br0 up", i+1))
	}
	srv = append(srv, "link set br0 up", "addr add "+Srv4+"/24 dev br0", "addr add "+Srv6+"/64 dev br0")
	if err := l.Srv.IP(srv...); err != nil {
		return err
	}
	if err := l.Tgt.IP("link set lo up", "link set eth0 up",
		"addr add "+Tgt4+"/24 dev eth0", "addr add "+Tgt6+"/64 dev eth0",
		"addr add "+Silent4+"/32 dev eth0", "addr add "+Silent6+"/128 dev eth0 preferred_lft 0",
		"addr add "+Metadata4+"/32 dev eth0"); err != nil {
		return err
	}
	for i, c := range l.Cli {
		if err := c.IP("link set lo up", "link set eth0 up",
			"addr add "+ClientAddr4(i)+"/24 dev eth0", "addr add "+ClientAddr6(i)+"/64 dev eth0"); err != nil {
			return err
		}
	}
	return nil
}

// AddInterface gives client i (from 0) another wire to the server, which is down.
func (l *Lab) AddInterface(i int, name string) error {
	end := fmt.Sprintf("c%d-%s", i+1, name)
	return l.Srv.IP("link add "+end+" type veth peer name "+name+" netns "+l.Cli[i].Name, "link set "+end+" master br0 up")
}

// Forward lets srv forward between a server's tun devices and tgt, which a
// server with a kernel tun needs; still not between clients' wires and tgt.
func (l *Lab) Forward() error {
	if err := l.Srv.Sysctl("net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"); err != nil {
		return err
	}
	if err := l.Srv.Nft("forwarding", "forward iifname br0 drop", "forward oifname br0 drop"); err != nil {
		return err
	}
	return l.Tgt.IP("route add "+Pool4+" via "+SrvIn4, "route add "+Pool6+" via "+SrvIn6)
}

// CutUDP drops what client i (from 0) and the server send each other by UDP.
// Neither is told.
func (l *Lab) CutUDP(i int) error {
	if err := l.Cli[i].Nft("cut", fmt.Sprintf("input udp sport %d drop", Port)); err != nil {
		return err
	}
	return l.Srv.Nft("cut",
		fmt.Sprintf("input ip saddr %s udp dport %d drop", ClientAddr4(i), Port),
		fmt.Sprintf("input ip6 saddr %s udp dport %d drop", ClientAddr6(i), Port))
}

// RestoreUDP ends CutUDP.
func (l *Lab) RestoreUDP(i int) error {
	return errors.Join(l.Cli[i].Nft("cut"), l.Srv.Nft("cut"))
}

// OpenPing opens or closes unprivileged ping sockets in srv to the server's
// group, whichever it is.
func (l *Lab) OpenPing(open bool) error {
	if open {
		return l.Srv.Sysctl(fmt.Sprintf("net/ipv4/ping_group_range=%d %d", SandboxGID, ServerID))
	}
	return l.Srv.Sysctl("net/ipv4/ping_group_range=1 0")
}

// Path is a file in the lab's folder.
func (l *Lab) Path(elem ...string) string { return filepath.Join(append([]string{l.Dir}, elem...)...) }
