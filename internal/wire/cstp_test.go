package wire

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestHeader(t *testing.T) {
	tests := []struct {
		bytes string
		kind  PacketType
		n     int
		err   error
	}{
		{"STF\x01\x00\x00\x03\x00", DPDReq, 0, nil}, // draft-mavrogiannopoulos-openconnect-04 section 2.2
		{"STF\x01\x00\x00\x04\x00", DPDResp, 0, nil},
		{"STF\x01\x00\x00\x07\x00", Keepalive, 0, nil},
		{"STF\x01\x00\x12\x05\x00\xb0", Disconnect, 18, nil},
		{"STF\x01\x3f\xf8\x00\x00", Data, MaxPayload, nil},
		{"STF\x01\x00\x01\x2a\x00", 42, 1, nil}, // not known, not judged
		{"STF\x01\x3f\xf9\x00\x00", 0, 0, ErrFrameTooLong},
		{"STF\x01\xff\xff\x00\x00", 0, 0, ErrFrameTooLong},
		{"STF\x01\x00\x00\x00", 0, 0, ErrHeaderShort},
		{"", 0, 0, ErrHeaderShort},
		{"XTF\x01\x00\x00\x00\x00", 0, 0, ErrHeaderMagic},
		{"SXF\x01\x00\x00\x00\x00", 0, 0, ErrHeaderMagic},
		{"STX\x01\x00\x00\x00\x00", 0, 0, ErrHeaderMagic},
		{"STF\x02\x00\x00\x00\x00", 0, 0, ErrHeaderMagic},
		{"STF\x01\x00\x00\x00\x01", 0, 0, ErrHeaderMagic},
		{"GET / HT", 0, 0, ErrHeaderMagic},
	}
	for _, tt := range tests {
		kind, n, err := ParseHeader([]byte(tt.bytes))
		if kind != tt.kind || n != tt.n || !errors.Is(err, tt.err) {
			t.Errorf("%q: %v, %d, %v", tt.bytes, kind, n, err)
		}
		if tt.err != nil {
			continue
		}
		var b [HeaderLen]byte
		if PutHeader(b[:], kind, n); string(b[:]) != tt.bytes[:HeaderLen] {
			t.Errorf("PutHeader(%v, %d) = %q, want %q", kind, n, b, tt.bytes)
		}
	}
}

func TestPutHeaderPanics(t *testing.T) {
	for _, n := range []int{-1, MaxPayload + 1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("no panic for %d bytes", n)
				}
			}()
			PutHeader(make([]byte, HeaderLen), Data, n)
		}()
	}
}

func TestPacketTypeString(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range []PacketType{Data, DPDReq, DPDResp, Disconnect, Keepalive, Compressed, Terminate, 42} {
		if s := k.String(); s == "" || seen[s] {
			t.Errorf("%d: %q", byte(k), s)
		} else {
			seen[s] = true
		}
	}
}

func TestDisconnect(t *testing.T) {
	tests := []struct {
		payload string
		code    DisconnectCode
		text    string
		ends    bool
	}{
		{"\xb0Aborted by caller", DisconnectUser, "Aborted by caller", true},
		{"\xb0", DisconnectUser, "", true},
		{"", DisconnectNone, "", false},
		{"\x91Reconnecting the VPN tunnel", DisconnectReconnect, "Reconnecting the VPN tunnel", false},
		{"\xd1", DisconnectPause, "", false},
		{"\x70", DisconnectLocalError, "", false},
		{"\x01x", 1, "x", false},
		{"\xb0a\r\nb\x00\xff\u0085\u2028", DisconnectUser, "a..b....", true},
		{"\xb0" + strings.Repeat("x", 1000), DisconnectUser, strings.Repeat("x", maxDisconnectText), true},
	}
	for _, tt := range tests {
		code, text := ParseDisconnect([]byte(tt.payload))
		if code != tt.code || text != tt.text || code.Ends() != tt.ends {
			t.Errorf("%q: %#x %q %v", tt.payload, code, text, code.Ends())
		}
	}
	b := AppendDisconnect([]byte("x"), "Session\nended")
	if string(b) != "x\xb0Session.ended" {
		t.Errorf("AppendDisconnect: %q", b)
	}
}

func TestHeaderAllocs(t *testing.T) {
	b := make([]byte, HeaderLen)
	n := testing.AllocsPerRun(100, func() {
		PutHeader(b, Data, 1400)
		if _, _, err := ParseHeader(b); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations per frame", n)
	}
}

func BenchmarkHeader(b *testing.B) {
	buf := make([]byte, HeaderLen)
	b.ReportAllocs()
	for b.Loop() {
		PutHeader(buf, Data, 1400)
		if _, _, err := ParseHeader(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add([]byte("STF\x01\x00\x12\x05\x00\xb0Aborted by caller"))
	f.Add([]byte("STF\x01\xff\xff\x00\x00"))
	for _, c := range transcripts(f) {
		f.Add(c.tunnel)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, n, err := ParseHeader(b)
		if err != nil {
			return
		}
		var again [HeaderLen]byte
		if PutHeader(again[:], kind, n); !bytes.Equal(again[:], b[:HeaderLen]) {
			t.Fatalf("%q became %q", b[:HeaderLen], again)
		}
		if kind == Disconnect && len(b) >= HeaderLen+n {
			if _, text := ParseDisconnect(b[HeaderLen : HeaderLen+n]); !oneSafeLine(text) {
				t.Fatalf("text %q", text)
			}
		}
	})
}
