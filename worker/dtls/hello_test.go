package dtls

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"rocserv/internal/dtlsrecord"
)

func TestParseHello(t *testing.T) {
	good := testHello([32]byte{1, 2, 3}, testAppID, aes256, chacha, aes128)
	h, ok := parseHello(good)
	if !ok || h.random != [32]byte{1, 2, 3} || !bytes.Equal(h.session, testAppID) ||
		!slices.Equal(h.suites, []uint16{aes256, chacha, aes128}) {
		t.Fatalf("%+v %v", h, ok)
	}
	for n := range good {
		if n < len(good)-2 { // the compression methods are not read
			if _, ok := parseHello(good[:n]); ok {
				t.Errorf("the first %d bytes parse", n)
			}
		}
	}
	edit := func(at int, b ...byte) []byte {
		p := slices.Clone(good)
		copy(p[at:], b)
		return p
	}
	tests := []struct {
		name     string
		datagram []byte
	}{
		{"all-zero random", testHello([32]byte{}, testAppID, aes128)},
		{"session id of 33 bytes", testHello([32]byte{1}, make([]byte, 33), aes128)},
		{"not a handshake", edit(0, 23)},
		{"epoch 1", edit(4, 1)},
		{"ServerHello", edit(13, 2)},
		{"a later fragment", edit(21, 1)},
		{"a first fragment", edit(24, good[24]-1)},
		{"message longer than the record", edit(14, 1)},
		{"odd number of suite bytes", edit(94, 5)},
		{"TLS", edit(1, 3, 3)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if h, ok := parseHello(tt.datagram); ok {
				t.Errorf("parsed: %+v", h)
			}
		})
	}
}

func TestChoose(t *testing.T) {
	h := hello{suites: []uint16{0xc0a5, chacha, aes128}}
	tests := []struct {
		ours []uint16
		want uint16
	}{
		{[]uint16{aes128}, aes128},
		{[]uint16{aes128, chacha}, aes128},
		{[]uint16{chacha, aes128}, chacha},
		{[]uint16{aes256, chacha}, chacha},
		{[]uint16{aes256}, aes256},
	}
	for _, tt := range tests {
		if got := h.choose(tt.ours); got != tt.want {
			t.Errorf("choose(%04x) = %04x, want %04x", tt.ours, got, tt.want)
		}
	}
}

func TestKeyLog(t *testing.T) {
	good := "CLIENT_RANDOM " + strings.Repeat("01", 32) + " " + strings.Repeat("02", 48) + "\n"
	k := keyLog{secret: new(dtlsrecord.Secret)}
	for _, bad := range []string{"", "x", "CLIENT_RANDOM 01 02\n", strings.Replace(good, "CLIENT", "SERVER", 1), strings.Replace(good, "0202", "zz02", 1)} {
		if n, err := k.Write([]byte(bad)); n != len(bad) || err != nil || k.set {
			t.Errorf("%q: %d %v %v", bad, n, err, k.set)
		}
	}
	k.Write([]byte(good))
	if !k.set || k.secret.Master != [48]byte(bytes.Repeat([]byte{2}, 48)) {
		t.Errorf("%+v", k)
	}
}

// What pion sends, told apart: numbers of epoch 1, and the datagrams of the last flight.
func TestFlightRecord(t *testing.T) {
	record := func(typ, epoch, seq byte, body ...byte) []byte {
		return append([]byte{typ, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, seq, 0, byte(len(body))}, body...)
	}
	serverHello := slices.Concat([]byte{msgServerHello, 0, 0, 38, 0, 0, 0, 0, 0, 0, 0, 38, 0xfe, 0xfd},
		bytes.Repeat([]byte{9}, 32), []byte{0, 0, 0xa8, 0})
	ccs, finished := record(20, 0, 3, 1), record(22, 1, 0, 1, 2, 3)
	var f flightRecord
	f.note(append(record(22, 0, 1, serverHello...), record(22, 0, 2, 14)...))
	if !f.haveHello || f.suite != aes128 || f.random != [32]byte(bytes.Repeat([]byte{9}, 32)) || f.next != 0 || f.last != nil {
		t.Fatalf("after ServerHello: %+v", f)
	}
	f.note(ccs) // a path so narrow that the flight takes two datagrams
	f.note(finished)
	if f.next != 1 || len(f.last) != 2 || !bytes.Equal(f.last[0], ccs) || !bytes.Equal(f.last[1], finished) {
		t.Fatalf("after Finished: %+v", f)
	}
	again := append(slices.Clone(ccs), record(22, 1, 1, 1, 2, 3)...)
	f.note(again) // pion repeats it under new numbers
	if f.next != 2 || len(f.last) != 1 || !bytes.Equal(f.last[0], again) {
		t.Fatalf("after the repetition: %+v", f)
	}
	f.note([]byte{1, 2, 3})
}

func FuzzParseHello(f *testing.F) {
	f.Add(testHello([32]byte{1}, testAppID, aes128))
	f.Add(testHello([32]byte{1}, nil))
	// The one of openconnect 9.01 with GnuTLS 3.7.9, but for random and session_id.
	gnutls, err := hex.DecodeString("16feff0000000000000000008c" + "010000800000000000000080" + "fefd" + strings.Repeat("11", 32) +
		"20" + strings.Repeat("22", 32) + "00" + "0010" + "00a9ccabc0a5008d00a8c0a4008c00ae" + "0100" +
		"0026" + "000d00160014040108090804040308070501080a08050503" + "00230000" + "ff01000100" + "001c00024000")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(gnutls)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := parseHello(b)
		if ok && (h.random == [32]byte{} || len(h.session) > maxSessionID || len(h.suites)*2 > len(b)) {
			t.Fatalf("%+v", h)
		}
		if id := h.choose([]uint16{aes128, chacha}); id != aes128 && id != chacha {
			t.Fatalf("chose %04x", id)
		}
		if _, rec, _, cut := dtlsrecord.Cut(b); cut {
			parseServerHello(rec)
		}
		var fr flightRecord
		fr.note(b)
	})
}
