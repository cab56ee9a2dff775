package dtls

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"rocserv/internal/dtlsrecord"
)

// Only a record that is authentic and newer than all before moves the channel.
func TestOffer(t *testing.T) {
	for _, network := range []struct{ name, address string }{{"udp4", "127.0.0.1:0"}, {"udp6", "[::1]:0"}} {
		t.Run(network.name, func(t *testing.T) { testOffer(t, network.name, network.address) })
	}
}

func testOffer(t *testing.T, network, address string) {
	checkLeaks(t)
	moved := make(chan netip.AddrPort, 9)
	p := newPair(t, network, address, aes128, func(c *Config) { c.Moved = func(to netip.AddrPort) { moved <- to } })
	p.serve(t)
	elsewhere, err := net.ListenUDP(network, &net.UDPAddr{IP: p.conn.LocalAddr().(*net.UDPAddr).IP})
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	to := elsewhere.LocalAddr().(*net.UDPAddr).AddrPort()
	until := func(what string, is func(Stats) bool) {
		t.Helper()
		for end := time.Now().Add(testWait); !is(p.c.Stats()); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: %+v", what, p.c.Stats())
			}
		}
	}

	seen := p.data(t, "\x00seen")
	late, newest := p.data(t, "\x00late"), p.data(t, "\x00newest")
	p.write(t, bytes.Clone(seen))
	p.write(t, bytes.Clone(newest))
	until("two packets", func(s Stats) bool { return s.RxPackets == 2 })
	forged := p.data(t, "\x00forged")
	forged[len(forged)-1] ^= 1
	two := append(p.data(t, "\x00one"), p.data(t, "\x00two")...)
	alert := p.seal(t, dtlsrecord.TypeAlert, "\x01\x00")
	for i, d := range [][]byte{seen, newest, late, two, alert, nil, []byte("noise"), testHello([randomLen]byte{9}, testAppID, aes128)} {
		p.c.Offer(to, d)
		until("refused", func(s Stats) bool { return s.Odd == uint64(i+1) })
	}
	p.c.Offer(to, forged)
	until("forged", func(s Stats) bool { return s.Forged == 1 })
	p.c.Offer(netip.MustParseAddrPort(map[string]string{"udp4": "[::1]:9", "udp6": "127.0.0.1:9"}[network]), p.data(t, "\x00of another family"))
	until("another family", func(s Stats) bool { return s.RxPackets == 3 })
	if want := p.send(10); p.read(t, 1)[0] != want[0] || len(moved) > 0 {
		t.Fatalf("the channel has moved: %+v", p.c.Stats())
	}

	p.c.Offer(to, p.data(t, "\x00moved"))
	if got := await(t, "Moved", moved); got != to {
		t.Errorf("moved to %v, not %v", got, to)
	}
	want := p.send(20)
	buf := make([]byte, 1<<10)
	elsewhere.SetReadDeadline(time.Now().Add(testWait))
	n, from, err := elsewhere.ReadFromUDPAddrPort(buf)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := p.opener.Open(buf[:n]); err != nil || string(plain) != want[0] {
		t.Errorf("got %q, %v", plain, err)
	}
	if _, err := elsewhere.WriteToUDPAddrPort(p.data(t, "\x00from there"), from); err != nil {
		t.Fatal(err)
	}
	until("the new address is heard", func(s Stats) bool { return s.RxPackets == 5 && s.Moves == 1 })
}

// What nobody reads is bounded.
func TestOffersAreBounded(t *testing.T) {
	p := newPair(t, "udp4", "127.0.0.1:0", aes128, nil)
	for range maxOffered + 3 {
		p.c.Offer(netip.MustParseAddrPort("127.0.0.1:9"), []byte("x"))
	}
	if got := p.c.Stats().Odd; got != 3 {
		t.Errorf("%d dropped, want 3", got)
	}
	p.c.sock.close()
}
