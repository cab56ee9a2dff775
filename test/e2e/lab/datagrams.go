package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Volley is datagrams for one address. Each is sent from a socket of its own.
type Volley struct {
	To        string
	From      string // source address
	Datagrams [][]byte
	Wait      time.Duration // for answers, after the last
}

// Answers is what came back to a Volley.
type Answers struct {
	Datagrams int
	Sources   int // of the volley, how many got an answer
}

// SendVolley sends it and counts the answers.
func SendVolley(n Netns, v Volley) (Answers, error) {
	return ask[Volley, Answers](n, roleVolley, v, v.Wait+30*time.Second)
}

// volley is the role.
func volley(v Volley) (Answers, error) {
	const atOnce = 1000 // sockets
	var a Answers
	for part := range slices.Chunk(v.Datagrams, atOnce) {
		conns := make([]net.Conn, len(part))
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(v.From)}}
		for i, b := range part {
			c, err := d.Dial("udp", v.To)
			if err != nil {
				return a, err
			}
			defer c.Close()
			if _, err := c.Write(b); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
				return a, err
			}
			conns[i] = c
		}
		deadline := time.Now().Add(v.Wait)
		for _, c := range conns {
			if n := answersTo(c, deadline); n > 0 {
				a.Datagrams += n
				a.Sources++
			}
		}
		for _, c := range conns {
			c.Close()
		}
	}
	return a, nil
}

func answersTo(c net.Conn, deadline time.Time) (n int) {
	b := make([]byte, 2048)
	c.SetReadDeadline(deadline)
	for {
		if _, err := c.Read(b); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return n
			}
			continue // an ICMP error is no answer; the deadline ends this
		}
		n++
	}
}

// CaptureHello starts to wait for the first DTLS ClientHello that leaves a
// namespace; the function returns it.
func CaptureHello(n Netns) func() ([]byte, error) {
	type result struct {
		hello []byte
		err   error
	}
	ready := make(chan result, 1)
	go func() {
		b, err := ask[int, []byte](n, roleCapture, Port, connectLimit)
		ready <- result{b, err}
	}()
	time.Sleep(500 * time.Millisecond) // for the socket to be there; the client takes longer
	return func() ([]byte, error) { r := <-ready; return r.hello, r.err }
}

// capture is the role: a packet socket that sees what leaves by eth0.
func capture(port int) ([]byte, error) {
	dev, err := net.InterfaceByName("eth0")
	if err != nil {
		return nil, err
	}
	all := uint16(unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8) // in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: dev.Index}); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	b := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			return nil, err
		}
		if hello, ok := helloIn(b[:n], port); ok {
			return hello, nil
		}
	}
}

// helloIn is the ClientHello in an IP packet to that port.
func helloIn(b []byte, port int) ([]byte, bool) {
	const udpHeader, handshake, clientHello = 8, 22, 1
	proto, body, ok := split(b)
	if !ok || proto != unix.IPPROTO_UDP || len(body) < udpHeader+14 || int(body[2])<<8|int(body[3]) != port {
		return nil, false
	}
	d := body[udpHeader:]
	return d, d[0] == handshake && d[13] == clientHello
}

// UDPSockets counts the connected UDP sockets in the process's network
// namespace whose peer is that address.
func UDPSockets(pid int, peer string) (int, error) {
	b, err := os.ReadFile(procFile(pid, "net/udp"))
	if err != nil {
		return 0, err
	}
	const remote = 2
	n := 0
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > remote {
			if a, err := parseHexAddr(f[remote]); err == nil && a.String() == peer {
				n++
			}
		}
	}
	return n, nil
}

// Descriptors is how many a process has.
func Descriptors(pid int) (int, error) {
	list, err := os.ReadDir(procFile(pid, "fd"))
	if err != nil {
		return 0, fmt.Errorf("descriptors: %w", err)
	}
	return len(list), nil
}
