package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	pion "github.com/pion/dtls/v3"
	pionmsg "github.com/pion/dtls/v3/pkg/protocol/handshake"

	"rocserv/internal/dtlsrecord"
)

// handshake does the DTLS handshake and returns the channel.
func handshake(ctx context.Context, server string, o *offer) (*datagrams, error) {
	dialled, err := net.Dial("udp", server)
	if err != nil {
		return nil, err
	}
	conn := &observed{UDPConn: dialled.(*net.UDPConn)}
	d, err := conn.handshake(ctx, o)
	if err != nil {
		conn.UDPConn.Close()
		return nil, fmt.Errorf("DTLS: %w", err)
	}
	return d, nil
}

// observed is the socket while pion does the handshake on it.
type observed struct {
	*net.UDPConn
	secret dtlsrecord.Secret
	suite  uint16
	sent   uint64      // records of epoch 1
	over   atomic.Bool // pion has nothing to say any more
}

func (c *observed) handshake(ctx context.Context, o *offer) (*datagrams, error) {
	hs, err := pion.ClientWithOptions(c, c.RemoteAddr(),
		pion.WithPSK(func([]byte) ([]byte, error) { return o.psk, nil }),
		pion.WithPSKIdentityHint([]byte("psk")),
		pion.WithCipherSuites(pion.TLS_PSK_WITH_AES_128_GCM_SHA256),
		pion.WithClientHelloMessageHook(func(m pionmsg.MessageClientHello) pionmsg.Message {
			m.SessionID = o.appID
			return &m
		}),
		pion.WithFlightInterval(time.Second),
		pion.WithKeyLogWriter(c),
	)
	if err != nil {
		return nil, err
	}
	if err := hs.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	// pion's reader holds the socket: it is woken, and its goroutines end with it.
	c.over.Store(true)
	c.UDPConn.SetReadDeadline(time.Unix(1, 0))
	hs.Close()
	if err := c.UDPConn.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	suite, err := dtlsrecord.LookupSuite(c.suite)
	if err != nil {
		return nil, err
	}
	return newDatagrams(c.UDPConn, suite, &c.secret, c.sent)
}

// ReadFrom implements net.PacketConn.
func (c *observed) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := c.UDPConn.Read(b)
	if err == nil {
		c.note(b[:n])
	}
	return n, c.RemoteAddr(), err
}

// note finds what the ServerHello says (RFC 5246 section 7.4.1.3, in the frame
// of RFC 6347 section 4.2.2).
func (c *observed) note(datagram []byte) {
	const (
		serverHello = 2
		random      = dtlsrecord.HeaderLen + 12 + 2
	)
	for len(datagram) > 0 {
		h, record, rest, ok := dtlsrecord.Cut(datagram)
		if !ok {
			return
		}
		datagram = rest
		if h.Type != dtlsrecord.TypeHandshake || h.Epoch != 0 || len(record) < random+32+3 || record[dtlsrecord.HeaderLen] != serverHello {
			continue
		}
		copy(c.secret.ServerRandom[:], record[random:])
		suite := random + 32 + 1 + int(record[random+32])
		if len(record) >= suite+2 {
			c.suite = binary.BigEndian.Uint16(record[suite:])
		}
	}
}

// WriteTo implements net.PacketConn.
func (c *observed) WriteTo(b []byte, _ net.Addr) (int, error) {
	if c.over.Load() {
		return len(b), nil // close_notify would end what just begins
	}
	for rest := b; len(rest) > 0; {
		h, _, more, ok := dtlsrecord.Cut(rest)
		if !ok {
			break
		}
		if rest = more; h.Epoch == dtlsrecord.Epoch {
			c.sent = max(c.sent, h.Sequence+1)
		}
	}
	return c.UDPConn.Write(b)
}

// Close implements net.PacketConn: pion does not close the socket.
func (c *observed) Close() error { return nil }

// Write takes a line of the key log: "CLIENT_RANDOM", random, master secret.
func (c *observed) Write(line []byte) (int, error) {
	f := bytes.Fields(line)
	if len(f) == 3 && len(f[1]) == 2*len(c.secret.ClientRandom) && len(f[2]) == 2*len(c.secret.Master) {
		hex.Decode(c.secret.ClientRandom[:], f[1])
		hex.Decode(c.secret.Master[:], f[2])
	}
	return len(line), nil
}
