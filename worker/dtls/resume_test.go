package dtls

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	pion "github.com/pion/dtls/v3"

	"rocserv/internal/dtlsrecord"
	"rocserv/internal/secret"
)

var (
	testMaster = bytes.Repeat([]byte{0x3c}, masterLen)
	resumed    = []uint16{
		dtlsrecord.ECDHERSAWithAES128GCMSHA256, dtlsrecord.ECDHERSAWithAES256GCMSHA384,
		dtlsrecord.RSAWithAES128GCMSHA256, dtlsrecord.RSAWithAES256GCMSHA384,
	}
)

// resume begins a resumption by pion, as AnyConnect does it.
func resume(t *testing.T, p *path, id uint16) (*pion.Conn, <-chan error) {
	t.Helper()
	p.SetReadDeadline(time.Time{})
	suite, err := dtlsrecord.LookupSuite(id)
	if err != nil {
		t.Fatal(err)
	}
	opts := []pion.ClientOption{
		pion.WithInsecureSkipVerify(true),
		pion.WithFlightInterval(100 * time.Millisecond),
		pion.WithSessionStore(anySession{pion.Session{
			ID: testAppID, Secret: bytes.Clone(testMaster), Version: 1, IsClient: true,
			CipherSuiteID: pion.CipherSuiteID(id), PeerCertificates: [][]byte{{1}},
		}}),
	}
	if id == dtlsrecord.RSAWithAES128GCMSHA256 || id == dtlsrecord.RSAWithAES256GCMSHA384 {
		s := &gcmSuite{suite: suite}
		opts = append(opts, pion.WithCustomCipherSuites(func() []pion.CipherSuite { return []pion.CipherSuite{s} }))
	} else {
		opts = append(opts, pion.WithCipherSuites(pion.CipherSuiteID(id)))
	}
	conn, err := pion.ClientWithOptions(p, net.UDPAddrFromAddrPort(p.server), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	result := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), testWait)
	t.Cleanup(cancel)
	go func() { result <- conn.HandshakeContext(ctx) }()
	return conn, result
}

// anySession is a session for every server.
type anySession struct{ session pion.Session }

func (s anySession) Get([]byte) (pion.Session, error) { return s.session, nil }
func (anySession) Set([]byte, pion.Session) error     { return nil }
func (anySession) Del([]byte) error                   { return nil }

// byMaster is the server's side: one suite, as the reply to CONNECT has named one.
func byMaster(id uint16) func(*Config) {
	return func(cfg *Config) { cfg.Keys, cfg.Suites = Keys{Master: secret.NewBytes(testMaster)}, []uint16{id} }
}

func TestResume(t *testing.T) {
	for _, id := range resumed {
		t.Run(fmt.Sprintf("%04x", id), func(t *testing.T) {
			checkLeaks(t)
			f := listen(t, "udp4", "127.0.0.1:0")
			p := dial(t, f)
			var session []byte
			p.setDown(func(d []byte) [][]byte {
				if h, rec, _, ok := dtlsrecord.Cut(d); ok && h.Type == dtlsrecord.TypeHandshake && rec[13] == msgServerHello {
					session = rec[60 : 60+rec[59]]
				}
				return [][]byte{d}
			})
			conn, result := resume(t, p, id)
			rec := newRecorder()
			c := f.start(rec, byMaster(id))
			if err := await(t, "handshake", result); err != nil {
				t.Fatal(err)
			}
			await(t, "Established", rec.established)
			suite, _ := dtlsrecord.LookupSuite(id)
			if c.Suite() != suite.String() || !bytes.Equal(session, testAppID) {
				t.Errorf("suite %s, session_id %x", c.Suite(), session)
			}
			for i := range 20 {
				echo(t, c, rec, conn, fmt.Sprint(i))
			}
			conn.Close()
			if err := await(t, "Closed", rec.closed); !errors.Is(err, ErrCloseNotify) {
				t.Errorf("closed with %v", err)
			}
			if s := c.Stats(); s.RxPackets != 20 || s.TxPackets != 20 || s.Handshakes != 1 || s.Forged != 0 || s.Resent != 0 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

// Our flight that is lost comes again, and nothing goes round in circles then.
func TestResumeLostFlight(t *testing.T) {
	checkLeaks(t)
	f := listen(t, "udp4", "127.0.0.1:0")
	p := dial(t, f)
	p.setDown(loseFirst(1, func(d []byte) bool { return has(d, dtlsrecord.TypeChangeCipherSpec, 0) }))
	conn, result := resume(t, p, dtlsrecord.ECDHERSAWithAES256GCMSHA384)
	rec := newRecorder()
	c := f.start(rec, byMaster(dtlsrecord.ECDHERSAWithAES256GCMSHA384))
	if err := await(t, "handshake", result); err != nil {
		t.Fatal(err)
	}
	await(t, "Established", rec.established)
	echo(t, c, rec, conn, "lost")
	if s := c.Stats(); s.Handshakes != 1 || s.Resent != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestResumeFails(t *testing.T) {
	for name, edit := range map[string]func(*Config){
		"another master secret": func(cfg *Config) {
			byMaster(dtlsrecord.ECDHERSAWithAES256GCMSHA384)(cfg)
			cfg.Keys.Master = secret.NewBytes(bytes.Repeat([]byte{1}, masterLen))
			cfg.HandshakeTimeout = 300 * time.Millisecond
		},
		"another suite": byMaster(dtlsrecord.ECDHERSAWithAES128GCMSHA256),
	} {
		t.Run(name, func(t *testing.T) {
			checkLeaks(t)
			f := listen(t, "udp4", "127.0.0.1:0")
			resume(t, dial(t, f), dtlsrecord.ECDHERSAWithAES256GCMSHA384)
			rec := newRecorder()
			f.start(rec, edit)
			if err := await(t, "Closed", rec.closed); !errors.Is(err, ErrHandshake) {
				t.Errorf("closed with %v", err)
			}
		})
	}
}

func TestKeys(t *testing.T) {
	key := func(n int) secret.Bytes { return secret.NewBytes(make([]byte, n)) }
	for name, tt := range map[string]struct {
		keys   Keys
		suites []uint16
		good   bool
	}{
		"PSK":                     {Keys{PSK: key(pskLen)}, []uint16{aes128}, true},
		"master secret":           {Keys{Master: key(masterLen)}, resumed, true},
		"none":                    {Keys{}, []uint16{aes128}, false},
		"both":                    {Keys{PSK: key(pskLen), Master: key(masterLen)}, []uint16{aes128}, false},
		"short":                   {Keys{Master: key(pskLen)}, resumed, false},
		"PSK's suite for another": {Keys{Master: key(masterLen)}, []uint16{aes128}, false},
		"and the other way":       {Keys{PSK: key(pskLen)}, resumed, false},
		"no suite":                {Keys{Master: key(masterLen)}, nil, false},
	} {
		if err := tt.keys.check(tt.suites); (err == nil) != tt.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// renegotiation_info is said to who asks for it only.
func TestRenegotiationInfo(t *testing.T) {
	with := func(extensions ...byte) []byte {
		hello := testHello([randomLen]byte{1}, testAppID, aes128)
		n := len(extensions)
		hello = append(append(hello, 0, byte(n)), extensions...)
		for _, at := range []int{11, 15, 23} { // lengths of record, message and fragment
			v := int(hello[at])<<8 | int(hello[at+1]) + n + 2
			hello[at], hello[at+1] = byte(v>>8), byte(v)
		}
		return hello
	}
	for name, tt := range map[string]struct {
		hello []byte
		want  bool
	}{
		"nothing":           {testHello([randomLen]byte{1}, testAppID, aes128), false},
		"SCSV":              {testHello([randomLen]byte{1}, testAppID, aes128, renegotiationSCSV), true},
		"extension":         {with(0, 23, 0, 0, 0xff, 1, 0, 1, 0), true},
		"another extension": {with(0, 23, 0, 0), false},
		"cut off":           {with(0, 23, 0, 9, 0xff, 1), false},
	} {
		h, ok := parseHello(tt.hello)
		if !ok || h.renegotiation != tt.want {
			t.Errorf("%s: %t, want %t", name, h.renegotiation, tt.want)
		}
	}
}
