package dtls

import (
	"net"
	"strings"
	"testing"
	"time"

	"rocserv/internal/dtlsrecord"
	"rocserv/internal/secret"
	"rocserv/internal/wire"
)

// pair is an established channel without a handshake: its client is a Sealer,
// an Opener and a plain socket.
type pair struct {
	c      *Channel
	rec    *recorder
	suite  dtlsrecord.Suite
	sealer *dtlsrecord.Sealer
	opener *dtlsrecord.Opener
	conn   *net.UDPConn
}

// newPair does not start the reading goroutine.
func newPair(t testing.TB, network, address string, id uint16, edit func(*Config)) *pair {
	t.Helper()
	f := listen(t, network, address)
	conn := dial(t, f).UDPConn
	peer := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	fd := f.socket()
	f.connect(fd, peer)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(peer), net.UDPAddrFromAddrPort(f.addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	p := &pair{rec: newRecorder(), conn: conn}
	cfg := Config{
		FD: fd, Peer: peer, First: [][]byte{testHello([randomLen]byte{1}, testAppID, id)}, Keys: Keys{PSK: secret.NewBytes(testPSK)},
		Suites: []uint16{id}, Receiver: p.rec, Log: discard(),
	}
	if edit != nil {
		edit(&cfg)
	}
	sock, err := openSocket(cfg.FD, cfg.Peer, cfg.Fragment)
	if err != nil {
		t.Fatal(err)
	}
	if p.c, err = newChannel(cfg, sock); err != nil {
		t.Fatal(err)
	}
	p.c.mail.take()
	p.install(t, id, 1)
	return p
}

// install gives both ends keys made of seed.
func (p *pair) install(t testing.TB, id uint16, seed byte) {
	t.Helper()
	var err error
	if p.suite, err = dtlsrecord.LookupSuite(id); err != nil {
		t.Fatal(err)
	}
	secret := &dtlsrecord.Secret{ClientRandom: [32]byte{seed}, ServerRandom: [32]byte{seed}}
	a := &association{suite: p.suite, random: secret.ClientRandom}
	a.sealer, a.opener = p.suite.NewServer(secret, 1)
	p.sealer, p.opener = p.suite.NewClient(secret, 1)
	p.c.in.assoc = a
	p.c.current.Store(a)
}

// serve starts the reading goroutine and stops it at the test's end.
func (p *pair) serve(t testing.TB) {
	go p.c.serve()
	t.Cleanup(func() {
		p.c.Close()
		<-p.c.Done()
	})
}

// seal makes a record of the client.
func (p *pair) seal(t testing.TB, typ byte, plaintext string) []byte {
	t.Helper()
	b := make([]byte, p.suite.Overhead()+len(plaintext))
	copy(b[p.suite.Headroom():], plaintext)
	if _, err := p.sealer.Seal(b, typ, len(plaintext)); err != nil {
		t.Fatal(err)
	}
	return b
}

func (p *pair) data(t testing.TB, plaintext string) []byte {
	t.Helper()
	return p.seal(t, dtlsrecord.TypeApplicationData, plaintext)
}

func (p *pair) write(t testing.TB, datagram []byte) {
	t.Helper()
	if _, err := p.conn.Write(datagram); err != nil {
		t.Fatal(err)
	}
}

// read receives n packets of the channel and returns them in order.
func (p *pair) read(t testing.TB, n int) []string {
	t.Helper()
	var got []string
	buf := make([]byte, 1<<16)
	for range n {
		p.conn.SetReadDeadline(time.Now().Add(testWait))
		size, err := p.conn.Read(buf)
		if err != nil {
			t.Fatalf("after %d packets: %v", len(got), err)
		}
		plain, err := p.opener.Open(buf[:size])
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(plain))
	}
	return got
}

// send sends packets of the given lengths through the channel as one batch and
// returns what the client has to see.
func (p *pair) send(lengths ...int) []string {
	var want []string
	for i, n := range lengths {
		b := p.c.Next(n + 3) // more than needed, as a sink may ask
		for j := range n {
			b[j] = byte(i)
		}
		p.c.Add(wire.Data, n)
		want = append(want, "\x00"+strings.Repeat(string([]byte{byte(i)}), n))
	}
	p.c.Flush()
	return want
}
