package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What a client is told of its tunnel: the least that openconnect takes. The
// MTUs make a packet one segment of TCP, or one datagram, on a path of 1500.
const (
	connected = "HTTP/1.1 200 CONNECTED\r\nX-CSTP-Version: 1\r\nX-CSTP-Address: 10.66.0.2\r\nX-CSTP-Netmask: 255.255.240.0\r\n"
	mtuTLS    = 1411
	mtuDTLS   = 1434
)

// A frame on the TLS connection (draft-mavrogiannopoulos-openconnect-04 section
// 2.2): "STF", 1, the length, the type, 0. A datagram has the type alone.
const (
	frameHeader = 8
	frameType   = 6

	typeData    = 0
	typeDPD     = 3
	typeDPDBack = 4
)

// request is what is read of a client's request.
type request struct {
	tunnel bool // CONNECT
	dtls   bool // DTLS with a key of the TLS connection is wanted
}

func readRequest(r *bufio.Reader) (q request, err error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return q, err
		}
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case name == "":
			return q, nil
		case name == "CONNECT":
			q.tunnel = true
		case strings.EqualFold(name, "X-DTLS-CipherSuite:"):
			q.dtls = strings.Contains(value, "PSK-NEGOTIATE")
		}
	}
}

// openTunnel answers a CONNECT, takes what the client uploads and passes its echo
// requests on until it goes.
// from is what c reads.
func openTunnel(c *tls.Conn, from *gatherer, wantsDTLS bool) error {
	to := new(carrier)
	defer to.close()
	mtu, more := mtuTLS, ""
	if wantsDTLS {
		var end func()
		var err error
		if more, end, err = offerDTLS(c, to); err != nil {
			return err
		}
		defer end()
		if more != "" {
			mtu = mtuDTLS
		}
	}
	if _, err := fmt.Fprintf(c, "%sX-CSTP-MTU: %d\r\n%s\r\n", connected, mtu, more); err != nil {
		return nil // a client that went
	}
	from.begin()
	echoes, err := newEchoer(func(p []byte) error {
		frame := []byte{'S', 'T', 'F', 1, byte(len(p) >> 8), byte(len(p)), typeData, 0}
		_, err := c.Write(append(frame, p...))
		return err
	})
	if err != nil {
		return err
	}
	defer echoes.close()
	frame := make([]byte, 16<<10)
	for {
		n, err := c.Read(frame) // one record, and openconnect puts one packet into one
		if err != nil {
			return nil
		}
		if n < frameHeader {
			continue
		}
		switch frame[frameType] {
		case typeData:
			if p := frame[frameHeader:n]; !echoes.ask(p) {
				err = to.packet(p)
			}
		case typeDPD:
			_, err = c.Write([]byte{'S', 'T', 'F', 1, 0, 0, typeDPDBack, 0})
		}
		if err != nil {
			return err
		}
	}
}

// How much gathers before it is read, what one write to the target takes, or for
// how long: a wake-up for each packet would be the client's time too.
const (
	gatherSize = 64 << 10
	gatherTime = 400 * time.Microsecond
	busyTime   = 5 * gatherTime // a client is busy if so many reads are no further apart
	busyReads  = 4
)

// gatherer reads from a connection in large pieces once begin was called, and waits
// between them while they follow each other: a client that sends now and then does not.
type gatherer struct {
	net.Conn
	buf  []byte
	have []byte // of buf, not read yet
	last int    // bytes of the last system call
	when time.Time
	soon int // system calls in a row of which each returned soon after the one before
}

func (g *gatherer) begin() { g.buf = make([]byte, 2*gatherSize) }

func (g *gatherer) Read(b []byte) (int, error) {
	if g.buf == nil {
		return g.Conn.Read(b)
	}
	if len(g.have) == 0 {
		if g.last < gatherSize && g.soon > busyReads {
			nap()
		}
		n, err := g.Conn.Read(g.buf)
		if g.last = n; err != nil {
			return 0, err
		}
		now := time.Now()
		if g.soon++; now.Sub(g.when) > busyTime {
			g.soon = 0
		}
		g.when = now
		g.have = g.buf[:n]
	}
	n := copy(b, g.have)
	g.have = g.have[n:]
	return n, nil
}

// nap stops the whole worker, which has one processor.
func nap() {
	t := unix.NsecToTimespec(int64(gatherTime))
	unix.Nanosleep(&t, nil) // woken early it gathers less
}
