package compress

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

var algorithms = []Algorithm{LZ4, LZS}

// Blocks and streams made by hand from the descriptions of the formats.
func TestByHand(t *testing.T) {
	for _, tt := range []struct {
		name string
		alg  Algorithm
		src  string // hexadecimal
		want string // "!": malformed
	}{
		{"LZ4: literals only", LZ4, "50 68656c6c6f", "hello"},
		{"LZ4: nothing", LZ4, "00", ""},
		{"LZ4: a run", LZ4, "16 61 0100 50 62626262 62", strings.Repeat("a", 11) + "bbbbb"},
		{"LZ4: a long match", LZ4, "1f 61 0100 ff 01 00", strings.Repeat("a", 1+15+4+255+1)},
		{"LZ4: long literals", LZ4, "f0 01 " + hex.EncodeToString([]byte("0123456789abcdef")), "0123456789abcdef"},
		{"LZ4: empty", LZ4, "", "!"},
		{"LZ4: ends with a match", LZ4, "16 61 0100", "!"},
		{"LZ4: distance 0", LZ4, "16 61 0000 00", "!"},
		{"LZ4: from before the beginning", LZ4, "16 61 0200 00", "!"},
		{"LZ4: half a distance", LZ4, "16 61 01", "!"},
		{"LZ4: literals missing", LZ4, "50 6865", "!"},
		{"LZ4: length without an end", LZ4, "f0 ffff", "!"},
		{"LZ4: a length for ever", LZ4, "1f 61 0100" + strings.Repeat("ff", 4000), "!"},
		// a b, end: 0 01100001  0 01100010  110000000
		{"LZS: bytes", LZS, "30 98 b0 00", "ab"},
		{"LZS: nothing", LZS, "c0 00", ""},
		// a, 11 0000001 1111 0001 (9 of distance 1), end
		{"LZS: a run", LZS, "30 e0 7c 70 00", strings.Repeat("a", 10)},
		{"LZS: what follows the end", LZS, "c0 00 ff ff", ""},
		{"LZS: empty", LZS, "", "!"},
		{"LZS: without an end", LZS, "30 80", "!"},
		{"LZS: from before the beginning", LZS, "c0 80 00", "!"},
		{"LZS: far distance 0", LZS, "80 00 00", "!"},
		{"LZS: a length for ever", LZS, "30 e0 7f" + strings.Repeat("ff", 4000), "!"},
		{"none", "", "00", "!"},
		{"unknown", "deflate", "00", "!"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src, err := hex.DecodeString(strings.ReplaceAll(tt.src, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			dst := make([]byte, 2000)
			n, err := tt.alg.Decompress(dst, src)
			if tt.want == "!" {
				if err != ErrMalformed || n != 0 {
					t.Errorf("%d bytes, %v", n, err)
				}
				return
			}
			if err != nil || string(dst[:n]) != tt.want {
				t.Fatalf("%q, %v, want %q", dst[:n], err, tt.want)
			}
			if n > 0 {
				if _, err := tt.alg.Decompress(dst[:n-1], src); err == nil {
					t.Error("it was written into less room")
				}
			}
		})
	}
}

// samples are packets of many kinds, some that become shorter and some that do not.
func samples() (list [][]byte) {
	rnd := rand.New(rand.NewPCG(5, 8))
	words := strings.Fields("GET /index.html HTTP/1.1 Host: example.org 200 OK the quick brown fox {\"id\": 17, \"name\": null}")
	for i := range 3000 {
		n := rnd.IntN(1500)
		b := make([]byte, 0, n+100)
		for len(b) < n {
			switch i % 5 {
			case 0:
				b = append(b, byte(rnd.Uint32()))
			case 1:
				b = append(append(b, words[rnd.IntN(len(words))]...), ' ')
			case 2:
				b = append(b, bytes.Repeat([]byte{byte(rnd.IntN(3))}, rnd.IntN(700))...)
			case 3:
				b = append(b, byte(rnd.IntN(2)))
			case 4:
				if len(b) > 10 && rnd.IntN(3) > 0 {
					at := rnd.IntN(len(b))
					b = append(b, b[at:min(len(b), at+rnd.IntN(60))]...)
				}
				b = append(b, byte(rnd.Uint32()))
			}
		}
		list = append(list, b[:n])
	}
	return append(list, bytes.Repeat([]byte("x"), MaxPacket), bytes.Repeat([]byte("x"), MaxPacket+1))
}

// What comes back is what went in; what is given is shorter and within its room.
func TestThereAndBack(t *testing.T) {
	for _, a := range algorithms {
		t.Run(string(a), func(t *testing.T) {
			c := NewCompressor(a)
			shorter := 0
			for i, src := range samples() {
				c.sleep = 0
				dst := make([]byte, len(src)+8)
				guard := dst[len(src):]
				n := c.Compress(dst[:len(src)], src)
				if !bytes.Equal(guard, make([]byte, 8)) {
					t.Fatalf("%d: written beyond its room", i)
				}
				if n == 0 {
					continue
				}
				shorter++
				back := make([]byte, len(src))
				m, err := a.Decompress(back, dst[:n])
				if n >= len(src) || err != nil || !bytes.Equal(back[:m], src) {
					t.Fatalf("%d: %d bytes became %d and then %d: %v", i, len(src), n, m, err)
				}
			}
			if shorter < 1500 {
				t.Errorf("only %d packets became shorter", shorter)
			}
		})
	}
}

// Text becomes much shorter, as far as these formats go.
func TestRatio(t *testing.T) {
	text := []byte(strings.Repeat("The server answers every request with the same page. ", 26))
	for _, a := range algorithms {
		dst := make([]byte, len(text))
		if n := NewCompressor(a).Compress(dst, text); n == 0 || n > len(text)/5 {
			t.Errorf("%s: %d bytes of text became %d", a, len(text), n)
		}
	}
}

// Traffic that never becomes shorter is soon hardly looked at, and what does
// become shorter later is found.
func TestRest(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	noise, text := make([]byte, 1400), bytes.Repeat([]byte("text "), 280)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	c, dst := NewCompressor(LZ4), make([]byte, 1400)
	looked := 0
	for range 1000 {
		if c.sleep == 0 {
			looked++
		}
		if c.Compress(dst, noise) != 0 {
			t.Fatal("noise became shorter")
		}
	}
	if looked > 40 {
		t.Errorf("%d of 1000 packets were looked at", looked)
	}
	for i := 0; c.Compress(dst, text) == 0; i++ {
		if i > rest {
			t.Fatal("never compresses again")
		}
	}
	if c.Compress(dst, text) == 0 {
		t.Error("one good packet is not enough to go on")
	}
}

func TestChoose(t *testing.T) {
	for _, tt := range []struct {
		allowed, offered string
		want             Algorithm
	}{
		{"oc-lz4 lzs", "lzs deflate", LZS}, {"oc-lz4 lzs", "oc-lz4 lzs", LZ4}, {"lzs oc-lz4", "oc-lz4 LZS", LZS},
		{"", "oc-lz4 lzs", ""}, {"oc-lz4", "lzs", ""}, {"deflate", "deflate", ""}, {"oc-lz4 lzs", "", ""},
	} {
		if got := Choose(strings.Fields(tt.allowed), strings.Fields(tt.offered)); got != tt.want {
			t.Errorf("%+v: %q", tt, got)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	text := bytes.Repeat([]byte("text and more text. "), 70)
	for _, a := range algorithms {
		c, dst, back := NewCompressor(a), make([]byte, len(text)), make([]byte, len(text))
		if n := testing.AllocsPerRun(100, func() {
			n := c.Compress(dst, text)
			a.Decompress(back, dst[:n])
		}); n != 0 {
			t.Errorf("%s: %v allocations", a, n)
		}
	}
}

func FuzzDecompress(f *testing.F) {
	for _, src := range samples()[:50] {
		for _, a := range algorithms {
			dst := make([]byte, len(src))
			f.Add(a == LZS, dst[:NewCompressor(a).Compress(dst, src)], uint16(len(src)))
		}
	}
	f.Fuzz(func(t *testing.T, lzs bool, src []byte, room uint16) {
		a := LZ4
		if lzs {
			a = LZS
		}
		dst := make([]byte, int(room)+8)
		n, err := a.Decompress(dst[:room], src)
		if err != nil && n != 0 || n > int(room) || !bytes.Equal(dst[room:], make([]byte, 8)) {
			t.Fatalf("%d bytes into %d, %v", n, room, err)
		}
		if err == nil && n > 0 { // what it means can be said again
			c, again, back := NewCompressor(a), make([]byte, n), make([]byte, n)
			if m := c.Compress(again, dst[:n]); m > 0 {
				if k, err := a.Decompress(back, again[:m]); err != nil || !bytes.Equal(back[:k], dst[:n]) {
					t.Fatalf("%x: %v", dst[:n], err)
				}
			}
		}
	})
}

func FuzzThereAndBack(f *testing.F) {
	f.Add([]byte("abcabcabcabcabcabc"))
	f.Fuzz(func(t *testing.T, src []byte) {
		for _, a := range algorithms {
			dst, back := make([]byte, len(src)), make([]byte, len(src))
			n := NewCompressor(a).Compress(dst, src)
			if n == 0 {
				continue
			}
			if m, err := a.Decompress(back, dst[:n]); err != nil || !bytes.Equal(back[:m], src) {
				t.Fatal(fmt.Errorf("%s: %x: %w", a, src, err))
			}
		}
	})
}
