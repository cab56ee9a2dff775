package cstp

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"io"
	"reflect"
	"testing"
	"unsafe"
)

// decrypted is the buffer in which crypto/tls decrypts, all of it.
func decrypted(t *testing.T, c *tls.Conn) []byte {
	t.Helper()
	raw, ok1 := reflect.TypeFor[tls.Conn]().FieldByName("rawInput")
	buf, ok2 := reflect.TypeFor[bytes.Buffer]().FieldByName("buf")
	if !ok1 || !ok2 || raw.Type != reflect.TypeFor[bytes.Buffer]() || buf.Type != reflect.TypeFor[[]byte]() {
		t.Fatal("crypto/tls reads in another way: see whether Erase still does what it says")
	}
	b := *(*[]byte)(unsafe.Add(unsafe.Pointer(c), raw.Offset+buf.Offset))
	return b[:cap(b)]
}

// What a client has said is nowhere in crypto/tls once the next record was asked
// for, be that shorter, or so long that the buffer is another one. Without Erase
// it is.
func TestErase(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, size := range []int{30, 600, 3000, 16000} { // of the record with the secret
			for _, next := range []int{5, 16000} {
				for _, erase := range []bool{false, true} {
					l := newLink(t, version)
					l.ch.conn.Erase(erase)
					secret := []byte(rand.Text())
					said := bytes.Repeat(secret, 1+size/len(secret))[:size]
					hear := func(what []byte) {
						t.Helper()
						go l.client.Write(what)
						got := make([]byte, len(what))
						if _, err := io.ReadFull(l.ch.tls, got); err != nil || !bytes.Equal(got, what) {
							t.Fatalf("%d bytes: %v", len(what), err)
						}
					}
					hear(said)
					before := decrypted(t, l.ch.tls)
					if !bytes.Contains(before, secret) {
						t.Fatal("the secret is not where it must be: the test sees nothing")
					}
					hear(bytes.Repeat([]byte("after"), next/5))
					left := bytes.Contains(before, secret) || bytes.Contains(decrypted(t, l.ch.tls), secret)
					if erase && left || !erase && !left && size > 100 && next == 5 {
						t.Errorf("version %x, %d bytes, then %d, erasing %v: there is something: %v", version, size, next, erase, left)
					}
				}
			}
		}
	}
}
