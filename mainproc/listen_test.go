package mainproc

import (
	"log/slog"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rocserv/internal/config"
)

// Connections have the congestion control of the configuration, and a name that
// this host does not allow is an error that tells which it does.
func TestCongestionControl(t *testing.T) {
	g := &config.Global{Listen: []string{"127.0.0.1"}, Congestion: "reno"} // every kernel has and allows it
	p, err := openPorts(g, passed{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	out, err := net.Dial("tcp", p.tcp[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := out.Write([]byte("x")); err != nil { // or it is held back (TCP_DEFER_ACCEPT)
		t.Fatal(err)
	}
	in, err := p.tcp[0].AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	raw, err := in.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var name string
	if e := raw.Control(func(fd uintptr) {
		name, err = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	}); e != nil || err != nil {
		t.Fatal(e, err)
	}
	if name != "reno" {
		t.Errorf("an accepted connection has %q", name)
	}

	g.Congestion = "nosuch"
	_, err = openPorts(g, passed{}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "nosuch") || !strings.Contains(err.Error(), "reno") {
		t.Errorf("an unknown one: %v", err)
	}
}
