package dtls

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	pion "github.com/pion/dtls/v3"
	pionmsg "github.com/pion/dtls/v3/pkg/protocol/handshake"

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
	keys := c.cfg.Keys
	options := pskOptions(keys.PSK.Reveal())
	if keys.PSK.IsZero() {
		options = resumeOptions(h, suite, keys.Master.Reveal())
	}
	c.shakes.Go(func() {
		defer cancel()
		hs.result, hs.err = hs.run(ctx, keys, suite, append(options, suiteOption(suite)), c.cfg.Peer)
		c.mail.handshake(hs)
		c.sock.wake()
	})
	return hs
}

// run does the handshake and takes the record layer over from pion.
func (hs *handshake) run(ctx context.Context, keys Keys, suite dtlsrecord.Suite, options []pion.ServerOption, peer netip.AddrPort) (*association, error) {
	log := keyLog{secret: new(dtlsrecord.Secret)}
	defer log.secret.Clear()
	server, err := pion.ServerWithOptions(hs.conn, net.UDPAddrFromAddrPort(peer), append(options,
		// The App-ID in the ClientHello came to the client by TLS, so who sends
		// it has been there: no need for a cookie (RFC 6347 section 4.2.1 lets
		// a server leave it out).
		pion.WithInsecureSkipVerifyHello(true),
		pion.WithMTU(handshakeMTU),
		pion.WithFlightInterval(flightInterval),
		pion.WithKeyLogWriter(&log),
	)...)
	if err == nil {
		err = server.HandshakeContext(ctx)
	}
	sent := hs.conn.takeOver() // in any case: nothing of pion goes on
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	if !log.set || !sent.haveHello || sent.suite != suite.ID() || sent.next == 0 {
		panic("dtls: internal error: a handshake was completed that nobody saw")
	}
	a := &association{suite: suite, random: hs.random, flight: sent.last}
	if !keys.Master.IsZero() {
		// The last flight of a resumption is the client's (RFC 5246 section 7.3):
		// it has ours, and to repeat it would make it repeat its own.
		a.flight = nil
	}
	log.secret.ClientRandom, log.secret.ServerRandom = hs.random, sent.random
	a.sealer, a.opener = suite.NewServer(log.secret, sent.next)
	return a, nil
}

// pskOptions are those of a full handshake.
func pskOptions(psk []byte) []pion.ServerOption {
	return []pion.ServerOption{pion.WithPSK(func(identity []byte) ([]byte, error) {
		if string(identity) != pskIdentity {
			return nil, errors.New("dtls: unknown PSK identity")
		}
		return psk, nil
	})}
}

// resumeOptions are those of a resumption (AnyConnect; openconnect gnutls-dtls.c,
// openssl-dtls.c): there was no session before, client and server only know the
// same master secret. So it has no extended one (RFC 7627), and no certificate is
// ever shown, though pion wants one with such a suite.
func resumeOptions(h hello, suite dtlsrecord.Suite, master []byte) []pion.ServerOption {
	session := pion.Session{
		ID: bytes.Clone(h.session), Secret: master, Version: 1, CipherSuiteID: pion.CipherSuiteID(suite.ID()),
	}
	options := []pion.ServerOption{
		pion.WithCertificates(tls.Certificate{Certificate: [][]byte{nil}, Leaf: new(x509.Certificate)}),
		pion.WithExtendedMasterSecret(pion.DisableExtendedMasterSecret),
		pion.WithSessionStore(oneSession{session}),
	}
	if !h.renegotiation { // pion would say it to a client that has not asked, against RFC 5746 section 3.6
		options = append(options, pion.WithServerHelloMessageHook(func(m pionmsg.MessageServerHello) pionmsg.Message {
			m.Extensions = nil
			return &m
		}))
	}
	return options
}

// oneSession is a pion.SessionStore with the one session a hello can resume.
type oneSession struct{ session pion.Session }

// Get implements pion.SessionStore. Without the session pion would begin a full
// handshake, which the client would take for an attack.
func (s oneSession) Get(id []byte) (pion.Session, error) {
	if !bytes.Equal(id, s.session.ID) {
		return pion.Session{}, errors.New("dtls: unknown session")
	}
	return s.session, nil
}

// Set implements pion.SessionStore.
func (oneSession) Set([]byte, pion.Session) error { return nil }

// Del implements pion.SessionStore.
func (oneSession) Del([]byte) error { return nil }

// keyLog receives the master secret from pion, in the NSS key log format:
// "CLIENT_RANDOM", a random value, the secret. There is no other way that holds
// for all suites. The random value is not looked at: in a resumption it is the
// server's (pion v3.1.15, handleHelloResume).
type keyLog struct {
	secret *dtlsrecord.Secret // a pointer: it is not printed with it
	set    bool
}

// Write takes one line.
func (k *keyLog) Write(line []byte) (int, error) {
	f := bytes.Fields(line)
	if len(f) != 3 || string(f[0]) != "CLIENT_RANDOM" || len(f[2]) != 2*len(k.secret.Master) {
		return len(line), nil
	}
	_, err := hex.Decode(k.secret.Master[:], f[2])
	k.set = err == nil
	return len(line), nil
}
