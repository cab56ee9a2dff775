package dtlsrecord

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"math/rand/v2"
	"slices"
	"testing"
)

var allSuites = []uint16{
	PSKWithAES128GCMSHA256, PSKWithAES256GCMSHA384, PSKWithChaCha20Poly1305SHA256,
	ECDHERSAWithAES128GCMSHA256, ECDHERSAWithAES256GCMSHA384, RSAWithAES128GCMSHA256, RSAWithAES256GCMSHA384,
}

func testSecret(seed byte) *Secret {
	r := rand.New(rand.NewChaCha8([32]byte{seed}))
	s := new(Secret)
	for _, b := range [][]byte{s.Master[:], s.ClientRandom[:], s.ServerRandom[:]} {
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	}
	return s
}

func mustSuite(t testing.TB, id uint16) Suite {
	t.Helper()
	s, err := LookupSuite(id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// seal makes a record of its own bytes.
func seal(t testing.TB, suite Suite, s *Sealer, typ byte, plaintext []byte) []byte {
	t.Helper()
	buf := make([]byte, suite.Overhead()+len(plaintext))
	copy(buf[suite.Headroom():], plaintext)
	n, err := s.Seal(buf, typ, len(plaintext))
	if err != nil {
		t.Fatal(err)
	}
	if n != len(buf) {
		t.Fatalf("record of %d bytes, want %d", n, len(buf))
	}
	return buf
}

func eachSuite(t *testing.T, f func(t *testing.T, suite Suite)) {
	for _, id := range allSuites {
		t.Run(fmt.Sprintf("%04x", id), func(t *testing.T) { f(t, mustSuite(t, id)) })
	}
}

// The vectors that circulated on the IETF TLS list for the TLS 1.2 PRF
// (message msg03416 of March 2009), label "test label".
func TestExpand(t *testing.T) {
	tests := []struct {
		name               string
		newHash            func() hash.Hash
		secret, seed, want string
	}{
		{
			"SHA-256", sha256.New, "9bbe436ba940f017b17652849a71db35", "a0ba9f936cda311827a6f796ffd5198c",
			"e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af0fa022f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff70187347b66",
		},
		{
			"SHA-384", sha512.New384, "b80b733d6ceefcdc71566ea48e5567df", "cd665cf6a8447dd6ff8b27555edb7465",
			"7b0c18e9ced410ed1804f2cfa34a336a1c14dffb4900bb5fd7942107e81c83cde9ca0faa60be9fe34f82b1233c9146a0e534cb400fed2700884f9dc236f80edd8bfa961144c9e8d792eca722a7b32fc3d416d473ebc2c5fd4abfdad05d9184259b5bf8cd4d90fa0d31e2dec479e4f1a26066f2eea9a69236a3e52655c9e9aee691c8f3a26854308d5eaa3be85e0990703d73e56f",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			secret, _ := hex.DecodeString(tt.secret)
			seed, _ := hex.DecodeString(tt.seed)
			got := make([]byte, len(tt.want)/2)
			expand(got, tt.newHash, secret, "test label", seed[:5], seed[5:])
			if hex.EncodeToString(got) != tt.want {
				t.Errorf("expand = %x\nwant  %s", got, tt.want)
			}
		})
	}
}

func TestLookupSuite(t *testing.T) {
	tests := []struct {
		id             uint16
		name           string
		head, overhead int
		hash           int
	}{
		{0x00a8, "(DTLS1.2)-(PSK)-(AES-128-GCM)", 21, 37, 32},
		{0x00a9, "(DTLS1.2)-(PSK)-(AES-256-GCM)", 21, 37, 48},
		{0xccab, "(DTLS1.2)-(PSK)-(CHACHA20-POLY1305)", 13, 29, 32},
		{0xc02f, "(DTLS1.2)-(ECDHE-RSA)-(AES-128-GCM)", 21, 37, 32},
		{0xc030, "(DTLS1.2)-(ECDHE-RSA)-(AES-256-GCM)", 21, 37, 48},
		{0x009c, "(DTLS1.2)-(RSA)-(AES-128-GCM)", 21, 37, 32},
		{0x009d, "(DTLS1.2)-(RSA)-(AES-256-GCM)", 21, 37, 48},
	}
	for _, tt := range tests {
		s := mustSuite(t, tt.id)
		if s.ID() != tt.id || s.String() != tt.name || s.Headroom() != tt.head || s.Overhead() != tt.overhead ||
			s.Overhead() != s.Headroom()+s.Tailroom() || s.Hash()().Size() != tt.hash {
			t.Errorf("%04x: %04x %s head %d overhead %d hash %d", tt.id, s.ID(), s, s.Headroom(), s.Overhead(), s.Hash()().Size())
		}
	}
	if _, err := LookupSuite(0xc0a4); !errors.Is(err, ErrSuite) {
		t.Errorf("LookupSuite(c0a4) = %v, want ErrSuite", err)
	}
}

func TestCut(t *testing.T) {
	rec := func(version uint16, n int) []byte {
		b := []byte{22, byte(version >> 8), byte(version), 0, 1, 0, 0, 0, 0, 1, 2, byte(n >> 8), byte(n)}
		return append(b, make([]byte, n)...)
	}
	two := append(rec(0xfefd, 5), rec(0xfeff, 0)...)
	h, r, rest, ok := Cut(two)
	if !ok || h != (Header{Type: 22, Epoch: 1, Sequence: 0x102}) || len(r) != 18 || cap(r) != 18 || len(rest) != 13 {
		t.Fatalf("first: %+v %d %d %v", h, len(r), len(rest), ok)
	}
	if _, r, rest, ok = Cut(rest); !ok || len(r) != 13 || len(rest) != 0 {
		t.Fatalf("second: %d %d %v", len(r), len(rest), ok)
	}
	for _, bad := range [][]byte{nil, two[:12], rec(0x0303, 1), rec(0xfefd, 5)[:17]} {
		if _, _, _, ok := Cut(bad); ok {
			t.Errorf("Cut(%x) succeeded", bad)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite Suite) {
		secret := testSecret(1)
		ss, so := suite.NewServer(secret, 1)
		cs, co := suite.NewClient(secret, 1)
		for i, n := range []int{0, 1, 2, 63, 64, 1400, MaxPlaintext} {
			msg := bytes.Repeat([]byte{byte(i + 1)}, n)
			for _, dir := range []struct {
				s *Sealer
				o *Opener
			}{{ss, co}, {cs, so}} {
				record := seal(t, suite, dir.s, TypeApplicationData, msg)
				h, whole, rest, ok := Cut(record)
				if !ok || len(rest) != 0 || h != (Header{TypeApplicationData, Epoch, uint64(i + 1)}) {
					t.Fatalf("header %+v ok %v", h, ok)
				}
				got, err := dir.o.Open(whole)
				if err != nil || !bytes.Equal(got, msg) {
					t.Fatalf("%d bytes: %v", n, err)
				}
			}
		}
		if ss.Next() != 8 {
			t.Errorf("Next() = %d, want 8", ss.Next())
		}
	})
}

// The same key never seals two records under one nonce, and the two
// directions do not share keys.
func TestNoncesDiffer(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite Suite) {
		secret := testSecret(2)
		s, _ := suite.NewServer(secret, 1)
		c, _ := suite.NewClient(secret, 1)
		msg := make([]byte, 32)
		seen := map[string]bool{}
		for range 50 {
			for _, sealer := range []*Sealer{s, c} {
				record := seal(t, suite, sealer, TypeApplicationData, msg)
				body := string(record[suite.Headroom() : suite.Headroom()+len(msg)])
				if seen[body] {
					t.Fatal("key stream repeats")
				}
				seen[body] = true
			}
		}
	})
}

func TestExhausted(t *testing.T) {
	suite := mustSuite(t, PSKWithAES128GCMSHA256)
	s, _ := suite.NewServer(testSecret(3), MaxSequence)
	_, o := suite.NewClient(testSecret(3), 1)
	if _, err := o.Open(seal(t, suite, s, TypeApplicationData, []byte{1})); err != nil {
		t.Fatalf("last number: %v", err)
	}
	for range 2 {
		if n, err := s.Seal(make([]byte, 64), TypeApplicationData, 1); n != 0 || !errors.Is(err, ErrExhausted) {
			t.Fatalf("Seal after the last number = %d, %v", n, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite Suite) {
		secret := testSecret(4)
		s, _ := suite.NewServer(secret, 1)
		_, o := suite.NewClient(secret, 1)
		good := seal(t, suite, s, TypeApplicationData, []byte("\x00packet"))
		edit := func(f func(b []byte) []byte) []byte { return f(slices.Clone(good)) }
		flip := func(i int) []byte { return edit(func(b []byte) []byte { b[i] ^= 1; return b }) }
		tests := []struct {
			name   string
			record []byte
			want   error
		}{
			{"empty", nil, ErrRecord},
			{"header only", good[:HeaderLen], ErrRecord},
			{"no room for the tag", edit(func(b []byte) []byte {
				b = b[:suite.Overhead()-1]
				b[12] = byte(len(b) - HeaderLen)
				return b
			}), ErrRecord},
			{"cut short", good[:len(good)-1], ErrRecord},
			{"too long", append(slices.Clone(good), 0), ErrRecord},
			{"version 1.0", flip(2), ErrRecord},
			{"epoch 0", flip(4), ErrEpoch},
			{"epoch 257", flip(3), ErrEpoch},
			{"type", flip(0), ErrAuthentication},
			{"sequence", flip(10), ErrAuthentication},
			{"body", flip(suite.Headroom()), ErrAuthentication},
			{"tag", flip(len(good) - 1), ErrAuthentication},
		}
		for _, tt := range tests {
			if _, err := o.Open(tt.record); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
			}
		}
		if suite.explicit != 0 {
			if _, err := o.Open(flip(HeaderLen)); !errors.Is(err, ErrAuthentication) {
				t.Errorf("explicit nonce: %v", err)
			}
		}
		// None of this kept the true record out; only itself does.
		if p, err := o.Open(slices.Clone(good)); err != nil || string(p) != "\x00packet" {
			t.Fatalf("the record itself: %q, %v", p, err)
		}
		if _, err := o.Open(slices.Clone(good)); !errors.Is(err, ErrReplay) {
			t.Errorf("again: %v, want ErrReplay", err)
		}
	})
}

func TestOpenLongRecord(t *testing.T) {
	suite := mustSuite(t, PSKWithAES128GCMSHA256)
	_, o := suite.NewClient(testSecret(5), 1)
	b := make([]byte, suite.Overhead()+MaxPlaintext+1)
	putHeader(b, TypeApplicationData, Epoch<<48|1, len(b)-HeaderLen)
	if _, err := o.Open(b); !errors.Is(err, ErrRecord) {
		t.Errorf("record of %d bytes: %v", len(b), err)
	}
}

func TestForgeryLimit(t *testing.T) {
	suite := mustSuite(t, PSKWithAES128GCMSHA256)
	s, _ := suite.NewServer(testSecret(6), 1)
	_, o := suite.NewClient(testSecret(6), 1)
	o.forgeries = maxForgeries - 1
	forged := seal(t, suite, s, TypeApplicationData, []byte{0})
	forged[20] ^= 1
	if _, err := o.Open(forged); !errors.Is(err, ErrAuthentication) {
		t.Fatal(err)
	}
	if _, err := o.Open(seal(t, suite, s, TypeApplicationData, []byte{0})); !errors.Is(err, ErrForgeries) {
		t.Errorf("after the limit: %v, want ErrForgeries", err)
	}
}

func TestReplayOfReorderedRecords(t *testing.T) {
	suite := mustSuite(t, PSKWithChaCha20Poly1305SHA256)
	secret := testSecret(7)
	s, _ := suite.NewServer(secret, 1)
	_, o := suite.NewClient(secret, 1)
	var records [][]byte
	for i := range 600 {
		records = append(records, seal(t, suite, s, TypeApplicationData, []byte{byte(i), byte(i >> 8)}))
	}
	r := rand.New(rand.NewPCG(7, 7))
	r.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	for round := range 2 {
		for i, rec := range records {
			_, err := o.Open(slices.Clone(rec))
			if want := []error{nil, ErrReplay}[round]; !errors.Is(err, want) {
				t.Fatalf("round %d record %d: %v", round, i, err)
			}
		}
	}
}

func TestSecretClear(t *testing.T) {
	s := testSecret(8)
	s.Clear()
	if *s != (Secret{}) {
		t.Error("secret left")
	}
}

func TestNoAllocation(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite Suite) {
		secret := testSecret(9)
		s, _ := suite.NewServer(secret, 1)
		_, o := suite.NewClient(secret, 1)
		buf := make([]byte, suite.Overhead()+1400)
		if n := testing.AllocsPerRun(200, func() {
			size, err := s.Seal(buf, TypeApplicationData, 1400)
			if err != nil {
				t.Fatal(err)
			}
			_, rec, _, _ := Cut(buf[:size])
			if _, err := o.Open(rec); err != nil {
				t.Fatal(err)
			}
			if _, err := o.Open(rec); err == nil { // refusing costs no memory either
				t.Fatal("replay accepted")
			}
		}); n != 0 {
			t.Errorf("%v allocations per record", n)
		}
	})
}

func FuzzOpen(f *testing.F) {
	for i, id := range allSuites[:3] {
		suite := mustSuite(f, id)
		s, _ := suite.NewServer(testSecret(10), 1)
		f.Add(uint8(i), seal(f, suite, s, TypeApplicationData, []byte("\x00seed")))
		f.Add(uint8(i), seal(f, suite, s, TypeAlert, []byte{1, 0}))
	}
	f.Add(uint8(0), []byte{23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 0})
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		suite := mustSuite(t, allSuites[int(which)%3])
		sealer, _ := suite.NewServer(testSecret(11), 5) // not the seeds' secret
		_, o := suite.NewClient(testSecret(11), 1)
		for rest := b; len(rest) > 0; {
			_, rec, more, ok := Cut(rest)
			if !ok {
				break
			}
			if len(rec)+len(more) != len(rest) {
				t.Fatal("Cut lost bytes")
			}
			rest = more
			if p, err := o.Open(slices.Clone(rec)); err == nil {
				t.Fatalf("opened a forgery: %x", p)
			}
		}
		// Whatever came before, a true record opens.
		if _, err := o.Open(seal(t, suite, sealer, TypeApplicationData, []byte{1})); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	for _, id := range allSuites[:3] {
		suite := mustSuite(b, id)
		for _, n := range []int{64, 1400} {
			b.Run(fmt.Sprintf("%04x/%d", id, n), func(b *testing.B) {
				s, _ := suite.NewServer(testSecret(1), 1)
				buf := make([]byte, suite.Overhead()+n)
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := s.Seal(buf, TypeApplicationData, n); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, id := range allSuites[:3] {
		suite := mustSuite(b, id)
		for _, n := range []int{64, 1400} {
			b.Run(fmt.Sprintf("%04x/%d", id, n), func(b *testing.B) {
				s, _ := suite.NewServer(testSecret(1), 1)
				_, o := suite.NewClient(testSecret(1), 1)
				sealed := seal(b, suite, s, TypeApplicationData, make([]byte, n))
				rec := make([]byte, len(sealed))
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					copy(rec, sealed)
					o.window = window{} // the same record again
					if _, err := o.Open(rec); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
