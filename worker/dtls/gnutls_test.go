package dtls

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"rocserv/internal/dtlsrecord"
	"rocserv/internal/wire"
)

// gnutlsClient runs gnutls-cli against a port, to echo lines.
type gnutlsClient struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func startGnuTLS(t *testing.T, port uint16, cipher string) *gnutlsClient {
	t.Helper()
	tool, err := exec.LookPath("gnutls-cli")
	if err != nil {
		t.Skip("no gnutls-cli")
	}
	g := &gnutlsClient{t: t}
	g.cmd = exec.Command(tool, "--udp", "--priority", "NORMAL:-VERS-ALL:+VERS-DTLS1.2:-KX-ALL:+PSK"+cipher,
		"--pskusername", pskIdentity, "--pskkey", hex.EncodeToString(testPSK), "-p", fmt.Sprint(port), "127.0.0.1")
	if g.in, err = g.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	g.out = bufio.NewScanner(out)
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(testWait, func() { g.cmd.Process.Kill() })
	t.Cleanup(func() {
		kill.Stop()
		g.cmd.Process.Kill()
		g.cmd.Wait()
	})
	return g
}

// echo has n lines go up and come back, and returns everything that was printed.
func (g *gnutlsClient) echo(n int) string {
	g.t.Helper()
	var printed strings.Builder
	for i := range n {
		want := fmt.Sprintf("echo %d", i)
		fmt.Fprintln(g.in, want)
		for line := ""; line != want; {
			if !g.out.Scan() {
				g.t.Fatalf("line %d did not come back; printed:\n%s", i, printed.String())
			}
			line = strings.TrimSpace(g.out.Text())
			fmt.Fprintln(&printed, line)
		}
	}
	return printed.String()
}

// echoPackets is a Receiver's answer.
func echoPackets(c *Channel, p []wire.Packet) {
	for _, q := range p {
		c.Add(q.Type, copy(c.Next(len(q.Payload)), q.Payload))
	}
	c.Flush()
}

// The handshake and the record layer against GnuTLS, which is what openconnect
// of the distributions uses.
func TestGnuTLS(t *testing.T) {
	for _, tt := range []struct {
		cipher string
		suites []uint16
		want   string
	}{
		{"", []uint16{aes128}, "(AES-128-GCM)"},
		{"", []uint16{aes256}, "(AES-256-GCM)"},
		{"", []uint16{chacha}, "(CHACHA20-POLY1305)"},
		{"", []uint16{aes128, aes256, chacha}, "(AES-128-GCM)"},
		{":-CIPHER-ALL:+CHACHA20-POLY1305:+AES-256-GCM", []uint16{aes128, aes256, chacha}, "(AES-256-GCM)"},
	} {
		t.Run(fmt.Sprintf("%04x%s", tt.suites, tt.cipher), func(t *testing.T) {
			checkLeaks(t)
			f := listen(t, "udp4", "127.0.0.1:0")
			g := startGnuTLS(t, f.addr.Port(), tt.cipher)
			rec := newRecorder()
			rec.onPackets = echoPackets
			c := f.start(rec, func(cfg *Config) { cfg.Suites = tt.suites })
			await(t, "Established", rec.established)
			if want := "(DTLS1.2)-(PSK)-" + tt.want; c.Suite() != want {
				t.Errorf("suite %s, want %s", c.Suite(), want)
			}
			const lines = 50
			if printed := g.echo(lines); !strings.Contains(printed, "-(PSK)-"+tt.want) {
				t.Errorf("gnutls-cli has another suite:\n%s", printed)
			}
			g.in.Close() // it says close_notify
			if err := await(t, "Closed", rec.closed); !errors.Is(err, ErrCloseNotify) {
				t.Errorf("closed with %v", err)
			}
			if s := c.Stats(); s.Forged != 0 || s.RxPackets < lines {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

// GnuTLS repeats its flight after a second, under new record numbers.
func TestGnuTLSLosesOurFinished(t *testing.T) {
	checkLeaks(t)
	f := listen(t, "udp4", "127.0.0.1:0")
	p := dial(t, f)
	p.setDown(loseFirst(1, func(d []byte) bool { return has(d, dtlsrecord.TypeChangeCipherSpec, 0) }))
	g := startGnuTLS(t, between(t, p), "")
	rec := newRecorder()
	rec.onPackets = echoPackets
	c := f.start(rec, nil)
	await(t, "Established", rec.established)
	g.echo(5)
	if s := c.Stats(); s.Resent != 1 || s.Handshakes != 1 {
		t.Errorf("stats %+v", s)
	}
}

// between carries one client's datagrams over p; it returns the port to use.
func between(t *testing.T, p *path) uint16 {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 4096)
		var once sync.Once
		for {
			n, client, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			once.Do(func() {
				go func() {
					back := make([]byte, 4096)
					for {
						n, _, err := p.ReadFrom(back)
						if err != nil {
							return
						}
						conn.WriteToUDPAddrPort(back[:n], client)
					}
				}()
			})
			p.WriteTo(buf[:n], nil)
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}
