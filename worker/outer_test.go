package worker

import (
	"crypto/tls"
	"fmt"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"rocserv/internal/ipc"
	"rocserv/internal/wire"
	"rocserv/worker/cstp"
)

// net-priority and output-buffer arrive at sockets of both families and kinds.
func TestOuter(t *testing.T) {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
			get := func(o outer, level, option int) int {
				fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer unix.Close(fd)
				o.set(fd)
				n, err := unix.GetsockoptInt(fd, level, option)
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
			usual := get(outer{priority: -1}, unix.SOL_SOCKET, unix.SO_SNDBUF)
			if n := get(outer{priority: 6}, unix.SOL_SOCKET, unix.SO_PRIORITY); n != 6 {
				t.Errorf("priority %d, want 6", n)
			}
			level, option := unix.IPPROTO_IP, unix.IP_TOS
			if family == unix.AF_INET6 {
				level, option = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
			}
			if n := get(outer{priority: typeOfService | 0xb8}, level, option); n != 0xb8 {
				t.Errorf("type of service %#x, want 0xb8", n)
			}
			if n := get(outer{priority: -1}, level, option); n != 0 {
				t.Errorf("type of service %#x without a word of the operator", n)
			}
			o := outerOf(&offer{cfg: &ipc.SessionConfig{OutputBuffer: 10, NetPriority: -1}, tunnel: &wire.Tunnel{MTU: wire.MTU{Link: 1500}}})
			if n := get(o, unix.SOL_SOCKET, unix.SO_SNDBUF); n != 2*15000 { // the kernel doubles it, socket(7)
				t.Errorf("send buffer %d, want 30000; %d without a word of the operator", n, usual)
			}
		}
	}
	if o := outerOf(&offer{cfg: &ipc.SessionConfig{OutputBuffer: 1 << 31}, tunnel: &wire.Tunnel{MTU: wire.MTU{Link: 1500}}}); o.buffer <= 0 {
		t.Errorf("a very large buffer is %d", o.buffer)
	}
}

// The client's connection has a descriptor, by which its options are set and the
// path to the client is known.
func TestOuterOfTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := &client{raw: cstp.NewConn(conn)}
	outer{priority: 5}.setTCP(c)
	rc, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var priority int
	rc.Control(func(fd uintptr) { priority, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY) })
	if err != nil || priority != 5 {
		t.Errorf("priority %d, %v; want 5", priority, err)
	}
	if mtu := c.pathMTU(); mtu < wire.MinMTU {
		t.Errorf("the path to the client carries %d bytes", mtu)
	}
}

// match-tls-dtls-ciphers: which suites go with which of TLS.
func TestMatching(t *testing.T) {
	for suite, want := range map[uint16]string{
		tls.TLS_AES_128_GCM_SHA256:                      fmt.Sprint([]wire.Suite{wire.SuitePSKAES128GCM}),
		tls.TLS_AES_256_GCM_SHA384:                      fmt.Sprint([]wire.Suite{wire.SuitePSKAES256GCM}),
		tls.TLS_CHACHA20_POLY1305_SHA256:                fmt.Sprint([]wire.Suite{wire.SuitePSKChaCha20}),
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:     fmt.Sprint([]wire.Suite{wire.SuitePSKAES128GCM}),
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:       fmt.Sprint([]wire.Suite{wire.SuitePSKAES256GCM}),
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256: fmt.Sprint([]wire.Suite{wire.SuitePSKChaCha20}),
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA:          "[]",
		tls.TLS_RSA_WITH_AES_128_CBC_SHA256:             "[]",
	} {
		got := []wire.Suite{}
		for _, s := range matching(suite) {
			got = append(got, wire.Suite(s))
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%s: %v, want %v", tls.CipherSuiteName(suite), got, want)
		}
	}
}
