package main

import (
	"bufio"
	"bytes"
	"net"
	"strings"
	"testing"
)

func TestDatagram(t *testing.T) {
	packet := []byte{0x45, 0, 0, 31, 0, 0, 0, 0, 64, 17, 0, 0, 10, 66, 0, 2, 10, 77, 9, 2, 0x30, 0x39, 0x23, 0x8d, 0, 11, 0, 0, 'a', 'b', 'c'}
	to, payload, ok := datagram(packet)
	if !ok || to.String() != "10.77.9.2:9101" || string(payload) != "abc" {
		t.Errorf("%v %q %v", to, payload, ok)
	}
	for _, change := range []struct {
		at int
		to byte
	}{{0, 0x65}, {0, 0x44}, {0, 0x4f}, {9, 6}} {
		other := []byte(string(packet))
		other[change.at] = change.to
		if _, _, ok := datagram(other); ok {
			t.Errorf("taken with byte %d %#x", change.at, change.to)
		}
	}
	for n := range 28 {
		if _, _, ok := datagram(packet[:n]); ok {
			t.Errorf("taken with %d bytes", n)
		}
	}
}

// TestChecksum: RFC 1071 section 3's numbers, and an odd length.
func TestChecksum(t *testing.T) {
	b := []byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}
	if got := checksum(b); got != 0x220d {
		t.Errorf("%#x", got)
	}
	if got := checksum([]byte{0x12, 0x34, 0x56}); got != ^uint16(0x1234+0x5600) {
		t.Errorf("odd: %#x", got)
	}
}

// TestEchoer: a host's answer goes back as a packet to who asked, with its identifier.
func TestEchoer(t *testing.T) {
	var back []byte
	e := &echoer{back: func(p []byte) error { back = p; return nil }}
	packet := []byte{0x45, 0, 0, 32, 0, 0, 0, 0, 64, 1, 0, 0, 10, 66, 0, 2, 10, 77, 9, 2, echoRequest, 0, 0, 0, 0xab, 0xcd, 0, 7, 'e', 'c', 'h', 'o'}
	for n := range ip4Header + icmpHeader {
		if _, _, ok := e.take(packet[:n]); ok {
			t.Errorf("taken with %d bytes", n)
		}
	}
	host, icmp, ok := e.take(packet)
	if !ok || host != [4]byte{10, 77, 9, 2} || !bytes.Equal(icmp, packet[ip4Header:]) {
		t.Fatal(host, icmp, ok)
	}
	answer := append(make([]byte, ip4Header), icmp...)
	answer[ip4Header], answer[ip4Header+4], answer[ip4Header+5] = echoReply, 1, 2 // the socket's own identifier
	if err := e.answer(answer, host); err != nil {
		t.Fatal(err)
	}
	if len(back) != 32 || !bytes.Equal(back[12:20], []byte{10, 77, 9, 2, 10, 66, 0, 2}) || back[20] != echoReply ||
		!bytes.Equal(back[24:], packet[24:]) || checksum(back[:20]) != 0 || checksum(back[20:]) != 0 {
		t.Errorf("% x", back)
	}
	back = nil
	if e.answer(packet, host); back != nil {
		t.Errorf("a request was given back: % x", back)
	}
}

func TestReadRequest(t *testing.T) {
	for _, tt := range []struct {
		text string
		want request
	}{
		{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", request{}},
		{"CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\nHost: a\r\n\r\n", request{tunnel: true}},
		{"CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\nX-DTLS-CipherSuite: PSK-NEGOTIATE:AES128-SHA\r\n\r\n", request{true, true}},
		{"CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\nX-DTLS-CipherSuite: AES128-SHA\r\n\r\n", request{true, false}},
	} {
		if got, err := readRequest(bufio.NewReader(strings.NewReader(tt.text))); err != nil || got != tt.want {
			t.Errorf("%q: %+v, %v", tt.text, got, err)
		}
	}
	if _, err := readRequest(bufio.NewReader(strings.NewReader("CONNECT / HTTP/1.1\r\n"))); err == nil {
		t.Error("half a request was taken")
	}
}

// What arrives is read whole and in order, however it gathered.
func TestGatherer(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	go func() {
		defer b.Close()
		for _, s := range []string{"one ", "two ", "three"} {
			b.Write([]byte(s))
		}
	}()
	g := &gatherer{Conn: a}
	piece := make([]byte, 3)
	var all []byte
	for {
		n, err := g.Read(piece)
		all = append(all, piece[:n]...)
		if err != nil {
			break
		}
		if g.buf == nil {
			g.begin()
		}
	}
	if string(all) != "one two three" {
		t.Errorf("%q", all)
	}
}
