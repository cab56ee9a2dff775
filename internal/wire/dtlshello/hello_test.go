package dtlshello

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// captured reads testdata/name.hex.
func captured(tb testing.TB, name string) []byte {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".hex"))
	if err != nil {
		tb.Fatal(err)
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestCaptured(t *testing.T) {
	tests := []struct {
		name    string
		version uint16
		id      string
	}{
		{"psk", DTLS12, "b16f7c5b09a1648b989aa7a777c44e79d6a5a54e718c87a882602c684238c1fe"},
		{"legacy12", DTLS12, "d66c2656e71b92a9fe5dfc35a270e3c30eaee6584e93e0eecf6630716f42de07"},
		{"oc12", DTLS12, "c3c5954dc74ee602ee5381ff0ef92954a67f95b566c6ca99849125e740443391"},
		{"legacy09", DTLSCisco, "ddbb24f4fdf87df86b0b291798860e0f69d6b692ff91c8b1aaa82b2745c1453a"},
	}
	for _, tt := range tests {
		b := captured(t, tt.name)
		h, ok := Parse(b)
		if !ok || h.Version != tt.version || hex.EncodeToString(h.ID) != tt.id || h.MessageSeq != 0 {
			t.Errorf("%s: %v, %+v", tt.name, ok, h)
		}
		if !bytes.Equal(h.Random[:], b[27:59]) {
			t.Errorf("%s: random %x", tt.name, h.Random)
		}
		// What follows in the datagram is not looked at.
		if again, ok := Parse(append(b, 0x14, 0xfe, 0xfd)); !ok || !same(again, h) {
			t.Errorf("%s with more behind it: %v, %+v", tt.name, ok, again)
		}
	}
}

func same(a, b Hello) bool {
	return bytes.Equal(a.ID, b.ID) && a.Random == b.Random && a.MessageSeq == b.MessageSeq && a.Version == b.Version
}

// hello builds a ClientHello.
type hello struct {
	record, version  uint16
	epoch, seq       uint16
	random           byte // repeated
	id, cookie       []byte
	suites, compress []byte
	extensions       []byte // nil: no list
	tail             []byte // behind everything
}

func plain(id string) hello {
	return hello{record: DTLS12, version: DTLS12, random: 0x55, id: []byte(id), suites: []byte{0, 0xa8}, compress: []byte{0}}
}

func vector8(b []byte) []byte { return append([]byte{byte(len(b))}, b...) }

func vector16(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

func extension(kind uint16, data []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, kind), vector16(data)...)
}

func (h hello) body() []byte {
	b := binary.BigEndian.AppendUint16(nil, h.version)
	b = append(b, bytes.Repeat([]byte{h.random}, 32)...)
	b = append(b, vector8(h.id)...)
	b = append(b, vector8(h.cookie)...)
	b = append(b, vector16(h.suites)...)
	b = append(b, vector8(h.compress)...)
	if h.extensions != nil {
		b = append(b, vector16(h.extensions)...)
	}
	return append(b, h.tail...)
}

// fragment builds a datagram with n bytes of the message, from offset on.
func (h hello) fragment(offset, n int) []byte {
	body := h.body()
	part := body[offset : offset+n]
	m := []byte{1, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body)), byte(h.seq >> 8), byte(h.seq)}
	m = append(m, byte(offset>>16), byte(offset>>8), byte(offset), byte(n>>16), byte(n>>8), byte(n))
	m = append(m, part...)
	d := []byte{22, byte(h.record >> 8), byte(h.record), byte(h.epoch >> 8), byte(h.epoch), 0, 0, 0, 0, 0, 1}
	return append(append(d, byte(len(m)>>8), byte(len(m))), m...)
}

func (h hello) datagram() []byte { return h.fragment(0, len(h.body())) }

func TestParse(t *testing.T) {
	app := func(id string) []byte { return extension(48018, vector8([]byte(id))) }
	long := strings.Repeat("i", 32)
	tests := []struct {
		name   string
		change func(*hello)
		id     string // empty: refused
	}{
		{"plain", func(*hello) {}, "session"},
		{"second hello, with cookie", func(h *hello) { h.seq, h.cookie = 1, bytes.Repeat([]byte{9}, 255) }, "session"},
		{"one byte", func(h *hello) { h.id = []byte("x") }, "x"},
		{"32 bytes", func(h *hello) { h.id = []byte(long) }, long},
		{"33 bytes", func(h *hello) { h.id = []byte(long + "i") }, ""},
		{"none", func(h *hello) { h.id = nil }, ""},
		{"record 1.0", func(h *hello) { h.record = DTLS10 }, "session"},
		{"record 0.9", func(h *hello) { h.record = DTLSCisco }, "session"},
		{"record TLS", func(h *hello) { h.record = 0x0303 }, ""},
		{"client 1.0", func(h *hello) { h.version = DTLS10 }, "session"},
		{"client 0.9", func(h *hello) { h.version = DTLSCisco }, "session"},
		{"client TLS", func(h *hello) { h.version = 0x0303 }, ""},
		{"epoch 1", func(h *hello) { h.epoch = 1 }, ""},
		{"epoch 256", func(h *hello) { h.epoch = 256 }, ""},
		{"random of zeros", func(h *hello) { h.random = 0 }, ""},
		{"extensions", func(h *hello) { h.extensions = extension(13, []byte{0, 2, 4, 1}) }, "session"},
		{"no extension in the list", func(h *hello) { h.extensions = []byte{} }, "session"},
		{"App-ID in an extension", func(h *hello) { h.id, h.extensions = nil, app("app") }, "app"},
		{"goes before the session id", func(h *hello) { h.extensions = slices.Concat(extension(13, nil), app("app"), extension(35, nil)) }, "app"},
		{"App-ID of 32", func(h *hello) { h.extensions = app(long) }, long},
		{"App-ID of 33", func(h *hello) { h.extensions = app(long + "i") }, ""},
		{"App-ID of none", func(h *hello) { h.extensions = app("") }, ""},
		{"App-ID without length", func(h *hello) { h.extensions = extension(48018, nil) }, ""},
		{"App-ID shorter than said", func(h *hello) { h.extensions = extension(48018, []byte("\x05app")) }, ""},
		{"App-ID longer than said", func(h *hello) { h.extensions = extension(48018, []byte("\x02app")) }, ""},
		{"extension cut", func(h *hello) { h.extensions = extension(13, []byte("abc"))[:6] }, ""},
		{"extension without length", func(h *hello) { h.extensions = []byte{0, 13} }, ""},
		{"one byte of an extension", func(h *hello) { h.extensions = []byte{0} }, ""},
		{"bytes behind the list", func(h *hello) { h.extensions, h.tail = []byte{}, []byte{0} }, ""},
		{"half a length of a list", func(h *hello) { h.tail = []byte{0} }, ""},
		{"list longer than the message", func(h *hello) { h.tail = []byte{0, 9, 1} }, ""},
	}
	for _, tt := range tests {
		h := plain("session")
		tt.change(&h)
		got, ok := Parse(h.datagram())
		if ok != (tt.id != "") || string(got.ID) != tt.id {
			t.Errorf("%s: %v, %q", tt.name, ok, got.ID)
		}
		if ok && (got.MessageSeq != h.seq || got.Version != h.version || got.Random != [32]byte(bytes.Repeat([]byte{h.random}, 32))) {
			t.Errorf("%s: %+v", tt.name, got)
		}
		if !ok && !same(got, Hello{}) {
			t.Errorf("%s: refused, and says %+v", tt.name, got)
		}
	}
}

// idEnd is where the session id of plain("session") ends, from the message on.
const idEnd = 2 + 32 + 1 + len("session")

// A first fragment is enough if the session id is in it.
func TestFragments(t *testing.T) {
	h := plain("session")
	h.extensions = extension(48018, vector8([]byte("app")))
	size := len(h.body())
	for n := 0; n <= size; n++ {
		got, ok := Parse(h.fragment(0, n))
		want := ""
		switch {
		case n == size:
			want = "app"
		case n >= idEnd:
			want = "session"
		}
		if ok != (want != "") || string(got.ID) != want {
			t.Errorf("%d of %d bytes: %v, %q, want %q", n, size, ok, got.ID, want)
		}
	}
	for offset := 1; offset < size; offset++ {
		if got, ok := Parse(h.fragment(offset, size-offset)); ok {
			t.Errorf("fragment from %d: %+v", offset, got)
		}
	}
}

// Whatever is cut off, however the lengths lie: no panic, and never an id that
// is not there.
func TestTruncation(t *testing.T) {
	full := plain("session")
	full.extensions = extension(48018, vector8([]byte("app")))
	for name, d := range map[string][]byte{
		"psk": captured(t, "psk"), "legacy12": captured(t, "legacy12"), "legacy09": captured(t, "legacy09"), "built": full.datagram(),
	} {
		for n := range d {
			if h, ok := Parse(d[:n]); ok { // the record is longer than the datagram
				t.Errorf("%s: %d of %d bytes: %+v", name, n, len(d), h)
			}
			// The same with lengths of record and fragment that fit.
			if n < 25 {
				continue
			}
			cut := bytes.Clone(d[:n])
			binary.BigEndian.PutUint16(cut[11:], uint16(n-13))
			if h, ok := Parse(cut); ok {
				t.Errorf("%s: %d bytes, record fits, fragment does not: %+v", name, n, h)
			}
			cut[22], cut[23], cut[24] = 0, byte((n-25)>>8), byte(n-25)
			h, ok := Parse(cut)
			if want := n >= 60+int(d[59]); ok != want {
				t.Errorf("%s: fragment of %d bytes: %v, want %v", name, n-25, ok, want)
			} else if ok && !bytes.Equal(h.ID, d[60:60+int(d[59])]) {
				t.Errorf("%s: fragment of %d bytes: id %x", name, n-25, h.ID)
			}
			// And with a message that is said to be whole.
			cut[14], cut[15], cut[16] = cut[22], cut[23], cut[24]
			if h, ok := Parse(cut); ok && len(h.ID) == 0 {
				t.Errorf("%s: whole message of %d bytes: %+v", name, n-25, h)
			}
		}
	}
}

// Every single byte of a hello set to other values.
func TestMutation(t *testing.T) {
	for _, name := range []string{"psk", "legacy12", "oc12", "legacy09"} {
		d := captured(t, name)
		for i := range d {
			for _, v := range []byte{0, 1, 0x7f, 0x80, 0xff, d[i] + 1, d[i] - 1} {
				b := bytes.Clone(d)
				b[i] = v
				h, ok := Parse(b)
				if ok && (len(h.ID) == 0 || len(h.ID) > 32 || !bytes.Contains(b, h.ID)) {
					t.Fatalf("%s, byte %d = %#x: %+v", name, i, v, h)
				}
			}
		}
	}
}

func TestOtherDatagrams(t *testing.T) {
	for name, d := range map[string]string{
		"empty":       "",
		"application": "\x17\xfe\xfd\x00\x01\x00\x00\x00\x00\x00\x01\x00\x01\x00",
		"alert":       "\x15\xfe\xfd\x00\x00\x00\x00\x00\x00\x00\x01\x00\x02\x02\x28",
		"finished":    "\x16\xfe\xfd\x00\x00\x00\x00\x00\x00\x00\x01\x00\x0c\x14\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"no content":  "\x16\xfe\xfd\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00",
		"zeros":       strings.Repeat("\x00", 2000),
		"ones":        strings.Repeat("\xff", 2000),
		"STUN":        "\x00\x01\x00\x00\x21\x12\xa4\x42" + strings.Repeat("\x00", 12),
	} {
		if h, ok := Parse([]byte(d)); ok {
			t.Errorf("%s: %+v", name, h)
		}
	}
}

func TestAllocs(t *testing.T) {
	d := captured(t, "psk")
	if n := testing.AllocsPerRun(100, func() {
		if _, ok := Parse(d); !ok {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"psk", "legacy12", "oc12", "legacy09"} {
		f.Add(captured(f, name))
	}
	h := plain("session")
	h.extensions = extension(48018, vector8([]byte("app")))
	f.Add(h.datagram())
	f.Add(h.fragment(0, idEnd))
	f.Fuzz(func(t *testing.T, d []byte) {
		before := bytes.Clone(d)
		h, ok := Parse(d)
		if !bytes.Equal(d, before) {
			t.Fatal("the datagram was changed")
		}
		if !ok {
			if !same(h, Hello{}) {
				t.Fatalf("refused, and says %+v", h)
			}
			return
		}
		if len(h.ID) == 0 || len(h.ID) > 32 || !bytes.Contains(d, h.ID) || h.Random == [32]byte{} {
			t.Fatalf("%+v", h)
		}
		if h.Version != DTLS12 && h.Version != DTLS10 && h.Version != DTLSCisco {
			t.Fatalf("version %#x", h.Version)
		}
		if d[0] != 22 || d[3] != 0 || d[4] != 0 || d[13] != 1 || d[19] != 0 || d[20] != 0 || d[21] != 0 {
			t.Fatalf("%x is no start of a ClientHello", d[:25])
		}
	})
}

func BenchmarkParse(b *testing.B) {
	d := captured(b, "psk")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := Parse(d); !ok {
			b.Fatal("refused")
		}
	}
}
