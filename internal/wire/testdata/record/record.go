// Record is a TLS relay that writes down what passes through it, decrypted and
// with secrets replaced: how the transcripts beside it were made. It is no part
// of the server (go build ignores testdata); capture.sh runs it.
//
//	go run record.go LISTEN-ADDR SERVER-ADDR CERT KEY OUTPUT
//
// A line of the output is "> " (client) or "< " (server) and a Go string
// literal: one line of HTTP, or one read of what follows the CONNECT.
package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

const sid = "c2FtcGxlLXNpZC1zYW1wbGUtc2lkLXNhbXBsZS1zaWQ=" // as long as ocserv's

var secrets = []struct {
	re *regexp.Regexp // group 2 is the secret
	by string         // repeated to its length
}{
	{regexp.MustCompile(`((?:webvpn|webvpncontext)=)([A-Za-z0-9+/=]{20,})()`), sid},
	{regexp.MustCompile(`(X-DTLS-Master-Secret: )([0-9A-F]+)()`), "0123456789ABCDEF"},
	{regexp.MustCompile(`(X-AnyConnect-STRAP-[A-Za-z-]+: )([A-Za-z0-9+/=]+)()`), "c3RyYXAg"},
	{regexp.MustCompile(`(X-DTLS-(?:App|Session)-ID: )([0-9a-f]+)()`), "0123456789abcdef"},
}

func sanitise(s string) string {
	for _, x := range secrets {
		s = x.re.ReplaceAllStringFunc(s, func(m string) string {
			g := x.re.FindStringSubmatch(m)
			return g[1] + strings.Repeat(x.by, len(g[2])/len(x.by)+1)[:len(g[2])]
		})
	}
	return s
}

// transcript is the output of all connections.
type transcript struct {
	mu  sync.Mutex // protects out
	out io.Writer
}

func (t *transcript) printf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out, format, args...)
}

func (t *transcript) chunk(dir string, b []byte, tunnel bool) {
	if tunnel {
		if len(b) >= 8 && b[6] != 0 { // not the inner packets
			t.printf("%s %s\n", dir, strconv.Quote(string(b)))
		}
		return
	}
	for _, l := range bytes.SplitAfter(b, []byte("\n")) {
		if len(l) > 0 {
			t.printf("%s %s\n", dir, strconv.Quote(sanitise(string(l))))
		}
	}
}

// relay copies one direction until it ends.
func (t *transcript) relay(dir string, to, from *tls.Conn, tunnel *tunnel) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 1<<16)
	for {
		n, err := from.Read(b)
		if n > 0 {
			t.chunk(dir, b[:n], tunnel.see(dir, b[:n]))
			to.Write(b[:n])
		}
		if err != nil {
			return
		}
	}
}

// tunnel knows whether a connection's reply to CONNECT has passed.
type tunnel struct {
	mu sync.Mutex
	up bool
}

func (u *tunnel) see(dir string, b []byte) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	was := u.up
	if dir == "<" && bytes.HasPrefix(b, []byte("HTTP/1.1 200 CONNECTED")) {
		u.up = true
	}
	return was && bytes.HasPrefix(b, []byte("STF"))
}

func main() {
	listen, server, certFile, keyFile, output := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		log.Fatal(err)
	}
	f, err := os.Create(output)
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		log.Fatal(err)
	}
	t := &transcript{out: f}
	config := &tls.Config{Certificates: []tls.Certificate{cert}, DynamicRecordSizingDisabled: true}
	for n := 1; ; n++ {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		client := tls.Server(c, config)
		s, err := tls.Dial("tcp", server, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			log.Fatal(err)
		}
		t.printf("# connection %d\n", n)
		var u tunnel
		go t.relay(">", s, client, &u)
		go t.relay("<", client, s, &u)
	}
}
