package worker

import (
	"bufio"
	"crypto/sha1"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rocserv/internal/wire"
	"rocserv/netstack/stacktest"
	"rocserv/worker/compress"
)

// vpnClient speaks the protocol over the connection and has a network stack on top.
type vpnClient struct {
	*stacktest.Client
	t    testing.TB
	tls  *tls.Conn
	r    *bufio.Reader
	mu   sync.Mutex // one frame, one write
	head map[string][]string
	// frames that are not data
	control chan wire.Packet
	sum     [20]byte

	offers   string             // compressions
	encoding compress.Algorithm // that the server has chosen
	by       *compress.Compressor
	packed   [2]atomic.Int64 // packets that went and came compressed
}

func (w *world) dial() *vpnClient {
	w.t.Helper()
	return w.dialBy(nil, 0)
}

// dialBy is dial with a cache of TLS sessions, and of one version of TLS.
func (w *world) dialBy(cache tls.ClientSessionCache, version uint16) *vpnClient {
	w.t.Helper()
	c := &vpnClient{t: w.t, control: make(chan wire.Packet, 100)}
	c.tls = tls.Client(w.clientC, &tls.Config{
		InsecureSkipVerify: true, DynamicRecordSizingDisabled: true, ServerName: "vpn", ClientSessionCache: cache,
		MinVersion: version, MaxVersion: version,
	})
	if err := c.tls.Handshake(); err != nil {
		w.t.Fatal(err)
	}
	c.sum = sha1.Sum(c.tls.ConnectionState().PeerCertificates[0].Raw)
	c.r = bufio.NewReaderSize(c.tls, 64<<10)
	return c
}

// request sends one request and returns status line, headers and body.
func (c *vpnClient) request(method, path, body string, header ...string) (status, head, reply string) {
	c.t.Helper()
	if !slices.ContainsFunc(header, func(h string) bool { return strings.HasPrefix(h, "User-Agent:") }) {
		header = slices.Insert(slices.Clone(header), 0, "User-Agent: Open AnyConnect VPN Agent v9.01")
	}
	msg := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: vpn\r\nContent-Length: %d\r\n%s\r\n%s",
		method, path, len(body), strings.Join(append(header, ""), "\r\n"), body)
	if _, err := c.tls.Write([]byte(msg)); err != nil {
		c.t.Fatal(err)
	}
	var length int
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Fatalf("reading the reply: %v", err)
		}
		line = strings.TrimSuffix(line, "\r\n")
		if line == "" {
			break
		}
		if status == "" {
			status = line
		}
		head += line + "\n"
		fmt.Sscanf(line, "Content-Length: %d", &length)
	}
	b := make([]byte, length)
	if _, err := io.ReadFull(c.r, b); err != nil {
		c.t.Fatal(err)
	}
	return status, head, string(b)
}

func authReply(fields string) string {
	return `<?xml version="1.0"?><config-auth client="vpn" type="auth-reply"><auth>` + fields + `</auth></config-auth>`
}

const rightAnswers = `<username>alice</username><password>right</password>`

// login logs in and returns the session cookie.
func (c *vpnClient) login() string {
	c.t.Helper()
	_, head, body := c.request("POST", "/auth", authReply(rightAnswers))
	m := regexp.MustCompile(`Set-Cookie: webvpn=([^;]+);`).FindStringSubmatch(head)
	if m == nil || !strings.Contains(body, `<auth id="success">`) {
		c.t.Fatalf("login gave\n%s\n%s", head, body)
	}
	return m[1]
}

// connect opens the tunnel and brings the client's stack up on it.
func (c *vpnClient) connect(cookie string) {
	c.t.Helper()
	stack, err := stacktest.NewClient(stacktest.ClientConfig{Addrs: []netip.Addr{clientIP, clientV6}, MTU: 1400, Up: c.up})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(stack.Close)
	c.connectStack(cookie, stack)
}

// connectStack opens the tunnel for a stack that there is.
func (c *vpnClient) connectStack(cookie string, stack *stacktest.Client) {
	c.t.Helper()
	status, head, _ := c.request("CONNECT", "/CSCOSSLC/tunnel", "", "Cookie: webvpn="+cookie,
		"X-CSTP-Address-Type: IPv6,IPv4", "X-CSTP-Full-IPv6-Capability: true", "X-CSTP-Base-MTU: 1500", "X-CSTP-Accept-Encoding: "+c.offers)
	if status != "HTTP/1.1 200 CONNECTED" {
		c.t.Fatalf("CONNECT gave %q", head)
	}
	c.head = map[string][]string{}
	for _, line := range strings.Split(head, "\n") {
		if k, v, ok := strings.Cut(line, ": "); ok {
			c.head[k] = append(c.head[k], v)
		}
	}
	if list := c.head["X-CSTP-Content-Encoding"]; len(list) > 0 {
		c.encoding, c.by = compress.Algorithm(list[0]), compress.NewCompressor(compress.Algorithm(list[0]))
	}
	c.Client = stack
	stack.SetUp(c.up)
	go c.down()
}

func (c *vpnClient) frame(typ wire.PacketType, payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := append([]byte{'S', 'T', 'F', 1, 0, 0, byte(typ), 0}, payload...)
	binary.BigEndian.PutUint16(f[4:], uint16(len(payload)))
	c.tls.Write(f)
}

func (c *vpnClient) up(pkts [][]byte) {
	for _, p := range pkts {
		if c.by != nil {
			c.mu.Lock()
			b := make([]byte, len(p))
			n := c.by.Compress(b, p)
			c.mu.Unlock()
			if n > 0 {
				c.packed[0].Add(1)
				c.frame(wire.Compressed, b[:n])
				continue
			}
		}
		c.frame(wire.Data, p)
	}
}

func (c *vpnClient) down() {
	defer close(c.control)
	h := make([]byte, 8)
	for {
		if _, err := io.ReadFull(c.r, h); err != nil {
			return
		}
		b := make([]byte, binary.BigEndian.Uint16(h[4:]))
		if _, err := io.ReadFull(c.r, b); err != nil {
			return
		}
		switch typ := wire.PacketType(h[6]); {
		case typ == wire.Data:
			c.Deliver(b)
		case typ == wire.Compressed && c.encoding != "":
			p := make([]byte, 1500)
			n, err := c.encoding.Decompress(p, b)
			if err != nil {
				c.t.Errorf("%d bytes compressed: %v", len(b), err)
			}
			c.packed[1].Add(1)
			c.Deliver(p[:n])
		default:
			c.control <- wire.Packet{Type: wire.PacketType(h[6]), Payload: b}
		}
	}
}

func (c *vpnClient) await(what string, typ wire.PacketType) wire.Packet {
	c.t.Helper()
	select {
	case p, ok := <-c.control:
		if !ok || p.Type != typ {
			c.t.Fatalf("waiting for %s: got type %d (%v)", what, p.Type, ok)
		}
		return p
	case <-time.After(10 * time.Second):
		c.t.Fatalf("no %s", what)
	}
	panic("unreachable")
}
