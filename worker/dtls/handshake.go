package dtls

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	pion "github.com/pion/dtls/v3"

	"rocserv/internal/dtlsrecord"
)

const (
	handshakeMTU   = 1200                   // what any path carries
	flightInterval = 400 * time.Millisecond // as ocserv
	pskIdentity    = "psk"                  // as openconnect names it
)

// association is what a completed handshake brings. The sealer belongs to the
// sending side, all else to the reading goroutine.
type association struct {
	suite  dtlsrecord.Suite
	sealer *dtlsrecord.Sealer
	opener *dtlsrecord.Opener
	random [randomLen]byte // of the ClientHello
	flight [][]byte        // our last flight, until the client is known to have it
	resent time.Time
}

// handshake is one that pion is busy with.
type handshake struct {
	random  [randomLen]byte // of the ClientHello
	started time.Time
	conn    *pionConn
	cancel  context.CancelFunc

	// Set before the handshake is put into the mailbox.
	result *association
	err    error
}

// startHandshake begins the handshake a ClientHello asks for. Its outcome
// arrives in the mailbox.
func (c *Channel) startHandshake(h hello) *handshake {
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.HandshakeTimeout)
	peer := net.UDPAddrFromAddrPort(c.cfg.Peer)
	hs := &handshake{random: h.random, started: c.cfg.Now(), conn: newPionConn(c.sock, peer), cancel: cancel}
	suite, err := dtlsrecord.LookupSuite(h.choose(c.cfg.Suites))
	if err != nil { // newChannel has checked them
		panic(fmt.Sprintf("dtls: internal error: %v", err))
	}
	c.shakes.Go(func() {
		defer cancel()
		hs.result, hs.err = hs.run(ctx, c.cfg.PSK.Reveal(), suite, c.cfg.Peer)
		c.mail.handshake(hs)
		c.sock.wake()
	})
	return hs
}

// run does the handshake and takes the record layer over from pion.
func (hs *handshake) run(ctx context.Context, psk []byte, suite dtlsrecord.Suite, peer netip.AddrPort) (*association, error) {
	keys := keyLog{secret: new(dtlsrecord.Secret)}
	defer keys.secret.Clear()
	server, err := pion.ServerWithOptions(hs.conn, net.UDPAddrFromAddrPort(peer),
		pion.WithPSK(func(identity []byte) ([]byte, error) {
			if string(identity) != pskIdentity {
				return nil, errors.New("dtls: unknown PSK identity")
			}
			return psk, nil
		}),
		suiteOption(suite),
		// The App-ID in the ClientHello came to the client by TLS, so who sends
		// it has been there: no need for a cookie (RFC 6347 section 4.2.1 lets
		// a server leave it out).
		pion.WithInsecureSkipVerifyHello(true),
		pion.WithMTU(handshakeMTU),
		pion.WithFlightInterval(flightInterval),
		pion.WithKeyLogWriter(&keys),
	)
	if err == nil {
		err = server.HandshakeContext(ctx)
	}
	sent := hs.conn.takeOver() // in any case: nothing of pion goes on
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	if !keys.set || !sent.haveHello || sent.suite != suite.ID() || sent.next == 0 {
		panic("dtls: internal error: a handshake was completed that nobody saw")
	}
	keys.secret.ServerRandom = sent.random
	a := &association{suite: suite, random: hs.random, flight: sent.last}
	a.sealer, a.opener = suite.NewServer(keys.secret, sent.next)
	return a, nil
}

// keyLog receives the master secret from pion, in the NSS key log format:
// "CLIENT_RANDOM", the client's random value, the secret. There is no other way
// that holds for all suites.
type keyLog struct {
	secret *dtlsrecord.Secret // a pointer: it is not printed with it
	set    bool
}

// Write takes one line.
func (k *keyLog) Write(line []byte) (int, error) {
	f := bytes.Fields(line)
	if len(f) != 3 || string(f[0]) != "CLIENT_RANDOM" ||
		len(f[1]) != 2*len(k.secret.ClientRandom) || len(f[2]) != 2*len(k.secret.Master) {
		return len(line), nil
	}
	_, err1 := hex.Decode(k.secret.ClientRandom[:], f[1])
	_, err2 := hex.Decode(k.secret.Master[:], f[2])
	k.set = err1 == nil && err2 == nil
	return len(line), nil
}
