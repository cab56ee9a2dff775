package doctor

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"rocserv/internal/build"
	"rocserv/internal/capacity"
	"rocserv/internal/config"
	"rocserv/internal/sandbox"
)

// Look finds out the facts; cfg is nil where there is no configuration.
func Look(cfg *config.Config) *Facts {
	root := os.DirFS("/")
	resolv, _ := fs.ReadFile(root, "etc/resolv.conf") // no file: no resolver
	f := &Facts{
		UID: os.Getuid(), Container: container(root, os.Getenv), Network: lookNetwork(), UDP: lookUDP(),
		Kernel:   Kernel{Landlock: sandbox.LandlockABI(), Filter: filterAvailable()},
		Capacity: capacity.Read(root, os.Getuid()), CPUs: runtime.NumCPU(), Resolvers: resolvers(resolv),
		Workers: lookWorkers(),

		PAM:   pamHelper(),
		Low:   bind(Port{"tcp", netip.MustParseAddrPort("127.0.0.1:443")}),
		Ports: map[Port]error{}, Files: map[string]error{},
	}
	if cfg == nil {
		return f
	}
	for _, p := range portsOf(&cfg.Global) {
		f.Ports[p] = bind(p)
	}
	for _, name := range filesOf(cfg) {
		f.Files[name] = readable(name)
	}
	return f
}

// lookWorkers asks the program beside this one as main does when it starts.
func lookWorkers() (w Workers) {
	const patience = 5 * time.Second
	self, err := os.Executable()
	if err != nil {
		return w
	}
	file, err := build.Worker(self)
	if errors.Is(err, fs.ErrNotExist) {
		return w
	}
	w.Program, w.Err = build.Beside(self, build.WorkerName), err
	if err != nil {
		return w
	}
	file.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.Program, build.Ask)
	cmd.Env, cmd.WaitDelay = []string{}, time.Second
	said, err := cmd.Output()
	switch {
	case err != nil:
		w.Err = cause(err)
	case strings.TrimSpace(string(said)) != build.Fingerprint():
		w.Err = errOtherBuild
	}
	return w
}

var errOtherBuild = errors.New("it is of another build than this program")

// pamHelper looks for the program that main starts for auth = pam.
func pamHelper() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	path := filepath.Join(filepath.Dir(self), "rocserv-pam")
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("needs %s, which is not there", path)
	}
	return nil
}

func container(root fs.FS, env func(string) string) string {
	has := func(name string) bool { _, err := fs.Stat(root, name); return err == nil }
	switch {
	case env("KUBERNETES_SERVICE_HOST") != "":
		return "kubernetes"
	case has("run/.containerenv"):
		return "podman"
	case has(".dockerenv"):
		return "docker"
	}
	return ""
}

func lookNetwork() Network {
	// The targets are addresses of the root name server A; nothing is sent.
	return Network{
		Out4:  routed(unix.AF_INET, &unix.SockaddrInet4{Port: 53, Addr: netip.MustParseAddr("198.41.0.4").As4()}),
		Out6:  routed(unix.AF_INET6, &unix.SockaddrInet6{Port: 53, Addr: netip.MustParseAddr("2001:503:ba3e::2:30").As16()}),
		IPv6:  with(unix.AF_INET6, 0, func(int) error { return nil }),
		Ping4: with(unix.AF_INET, unix.IPPROTO_ICMP, func(int) error { return nil }),
		Ping6: with(unix.AF_INET6, unix.IPPROTO_ICMPV6, func(int) error { return nil }),
	}
}

// with does something with a datagram socket.
func with(family, proto int, do func(fd int) error) error {
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return do(fd)
}

func routed(family int, to unix.Sockaddr) bool {
	return with(family, 0, func(fd int) error { return unix.Connect(fd, to) }) == nil
}

func lookUDP() (u UDP) {
	const askFor = 64 << 20
	u.Segment = with(unix.AF_INET, 0, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT, 1200) })
	u.GRO = with(unix.AF_INET, 0, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1) })
	_ = with(unix.AF_INET, 0, func(fd int) error { // without a socket it stays 0
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, askFor); err != nil {
			return err
		}
		n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
		u.Receive = n / 2 // the kernel doubles it, socket(7)
		return err
	})
	return u
}

// filterAvailable asks whether a filter could end the process, without installing one.
func filterAvailable() error {
	const getActionAvail = 2
	action := uint32(unix.SECCOMP_RET_KILL_PROCESS)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, getActionAvail, 0, uintptr(unsafe.Pointer(&action)))
	if errno != 0 {
		return errno
	}
	return nil
}

// bind tries a port and lets it go.
func bind(p Port) error {
	if p.Network == "udp" {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(p.Addr))
		if err == nil {
			c.Close()
		}
		return cause(err)
	}
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(p.Addr))
	if err == nil {
		l.Close()
	}
	return cause(err)
}

// cause is the kernel's word of an error of package net.
func cause(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

func readable(name string) error {
	err := unix.Access(name, unix.R_OK)
	if err != nil {
		return err
	}
	return nil
}

func resolvers(conf []byte) (list []netip.Addr) {
	for in := bufio.NewScanner(bytes.NewReader(conf)); in.Scan(); {
		if f := strings.Fields(in.Text()); len(f) >= 2 && f[0] == "nameserver" {
			if a, err := netip.ParseAddr(f[1]); err == nil && !slices.Contains(list, a) {
				list = append(list, a)
			}
		}
	}
	return list
}

// portsOf is what the server would listen on. Names are main's to look up.
func portsOf(g *config.Global) (list []Port) {
	add := func(network string, hosts []string, port int) {
		if len(hosts) == 0 {
			hosts = []string{"0.0.0.0"}
		}
		for _, h := range hosts {
			if a, err := netip.ParseAddr(strings.Trim(h, "[]")); err == nil {
				list = append(list, Port{network, netip.AddrPortFrom(a, uint16(port))})
			}
		}
	}
	add("tcp", g.Listen, g.TCPPort)
	if g.UDPPort == 0 {
		return list
	}
	udp := g.UDPListen
	if len(udp) == 0 {
		udp = g.Listen
	}
	add("udp", udp, g.UDPPort)
	return list
}

// filesOf is what sec-mod opens at start.
func filesOf(cfg *config.Config) (list []string) {
	add := func(names ...string) {
		for _, n := range names {
			if n != "" && !slices.Contains(list, n) {
				list = append(list, n)
			}
		}
	}
	for _, v := range cfg.Vhosts {
		for _, k := range v.Keys {
			add(k.Cert, k.Key)
		}
		add(v.PinFile, v.CACert, v.CRL)
		for _, m := range slices.Concat(v.Auth, v.EnableAuth) {
			add(m.Options["passwd"], m.Options["otp"])
		}
	}
	return list
}
