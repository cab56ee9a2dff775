package kkdcp

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// value is one DER value with that tag and content.
func value(tag asn1.Tag, content []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(content) })
	return b.BytesOrPanic()
}

// post is what a client posts: a request for a KDC of a realm, empty for none.
func post(request []byte, realm string) []byte {
	text := append(binary.BigEndian.AppendUint32(nil, uint32(len(request))), request...)
	body := value(tagMessage, value(asn1.OCTET_STRING, text))
	if realm != "" {
		body = append(body, value(tagRealm, value(asn1.GeneralString, []byte(realm)))...)
	}
	return value(asn1.SEQUENCE, body)
}

var (
	request = value(asReq, []byte("request"))
	answer  = value(asRep, []byte("answer"))
	big     = krbErrorOf(tooLong)
)

// krbErrorOf is a KRB-ERROR with its mandatory fields.
func krbErrorOf(code byte) []byte {
	field := func(n asn1.Tag, content []byte) []byte { return value(n.ContextSpecific().Constructed(), content) }
	number := func(n byte) []byte { return value(asn1.INTEGER, []byte{n}) }
	return value(krbError, value(asn1.SEQUENCE, bytes.Join([][]byte{
		field(0, number(5)), field(1, number(30)), field(4, value(asn1.GeneralizedTime, []byte("20300101000000Z"))), field(5, number(1)), field(6, number(code)),
		field(9, value(asn1.GeneralString, []byte("R"))),
	}, nil)))
}

// TestMessages: what clients post, byte by byte, and how an answer looks.
func TestMessages(t *testing.T) {
	got, realm, err := parseRequest(post(request, "R.TEST"))
	if err != nil || !bytes.Equal(got, request) || realm != "R.TEST" {
		t.Errorf("%q, %q, %v", got, realm, err)
	}
	// As a client encodes it by hand: SEQUENCE, [0] OCTET STRING, [1] GeneralString, [2] INTEGER.
	b, _ := hex.DecodeString("3017" + "a008" + "0406" + "00000002" + "6a00" + "a106" + "1b04" + "522e5445" + "a203" + "020107")
	if got, realm, err := parseRequest(b); err != nil || len(got) != 2 || realm != "R.TE" {
		t.Errorf("with a hint: %x, %q, %v", got, realm, err)
	}
	reply, err := proxyMessage([]byte{0x6b, 0})
	if want := "300a" + "a008" + "0406" + "00000002" + "6b00"; err != nil || hex.EncodeToString(reply) != want {
		t.Errorf("an answer: %x, %v, want %s", reply, err, want)
	}
	long := value(asReq, make([]byte, maxMessage))
	cut := post(request, "R")
	for name, b := range map[string][]byte{
		"nothing": nil, "garbage": []byte("garbage"), "cut": cut[:len(cut)-1], "more behind it": append(bytes.Clone(cut), 0),
		"an answer": post(answer, "R"), "not Kerberos": post([]byte("GET / HTTP/1.0\r\n\r\n"), "R"), "more than a request": post(append(bytes.Clone(request), 'x'), "R"),
		"empty": post(nil, "R"), "too long": post(long, "R"),
		"a length that is not the message's": value(asn1.SEQUENCE, value(tagMessage, value(asn1.OCTET_STRING, append([]byte{0, 0, 0, 1}, request...)))),
		"no length":                          value(asn1.SEQUENCE, value(tagMessage, value(asn1.OCTET_STRING, []byte{0, 0}))),
		"no message":                         value(asn1.SEQUENCE, value(tagRealm, value(asn1.GeneralString, []byte("R")))),
		"another field":                      value(asn1.SEQUENCE, append(value(tagMessage, value(asn1.OCTET_STRING, append([]byte{0, 0, 0, byte(len(request))}, request...))), value(asn1.Tag(3).ContextSpecific().Constructed(), nil)...)),
	} {
		if _, _, err := parseRequest(b); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	for b, want := range map[string]bool{string(big): true, string(krbErrorOf(25)): false, string(answer): false, "": false} {
		if saysTooLong([]byte(b)) != want {
			t.Errorf("%x says that it is too long: not %v", b, want)
		}
	}
}

// FuzzRequest: whatever is posted, what goes on is one request of its whole length.
func FuzzRequest(f *testing.F) {
	f.Add(post(request, "R"))
	f.Add(post(request, ""))
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, _, err := parseRequest(b); err == nil && (!is(got, asReq, tgsReq) || len(got) > maxMessage) {
			t.Errorf("%x is taken for %x", b, got)
		}
		saysTooLong(b)
	})
}

// kdcOf starts a KDC at an address that says what say says, to whom comes by UDP or
// TCP, and returns its port. Nothing is said where that is nil.
func kdcOf(t *testing.T, network, host string, say func(request []byte) []byte) (port string, asked *atomic.Int64) {
	t.Helper()
	asked = new(atomic.Int64)
	if network == "udp" {
		c, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Skip(err)
		}
		t.Cleanup(func() { c.Close() })
		go func() {
			b := make([]byte, 64<<10)
			for {
				n, from, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				asked.Add(1)
				if out := say(bytes.Clone(b[:n])); out != nil {
					c.WriteTo(out, from)
				}
			}
		}()
		_, port, _ = net.SplitHostPort(c.LocalAddr().String())
		return port, asked
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { l.Close() })
	go serve(l, say, asked)
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port, asked
}

// serve answers what comes by TCP; what say returns is written as it is.
func serve(l net.Listener, say func([]byte) []byte, asked *atomic.Int64) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			var head [length]byte
			if _, err := io.ReadFull(c, head[:]); err != nil {
				return
			}
			b := make([]byte, binary.BigEndian.Uint32(head[:]))
			io.ReadFull(c, b)
			asked.Add(1)
			if out := say(b); out != nil {
				c.Write(out)
				return
			}
			io.Copy(io.Discard, c)
		}()
	}
}

// framed is an answer on a stream.
func framed(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

func says(b []byte) func([]byte) []byte { return func([]byte) []byte { return b } }

// relayOf is the proxy of lines, with much time; names have the addresses of a test.
func relayOf(t *testing.T, lines string, names map[string]string) *proxy {
	t.Helper()
	lookup := func(_ context.Context, _, host string) ([]netip.Addr, error) {
		if names[host] == "" {
			return nil, errors.New("no such host")
		}
		var list []netip.Addr
		for a := range strings.FieldsSeq(names[host]) {
			list = append(list, netip.MustParseAddr(a))
		}
		return list, nil
	}
	p, _, err := newProxy(lines, slog.New(slog.DiscardHandler), lookup)
	if err != nil {
		t.Fatal(err)
	}
	p.patience = time.Minute
	return p
}

// TestRelay: KDCs of both kinds and families, and what they can be like.
func TestRelay(t *testing.T) {
	want, _ := proxyMessage(answer)
	closed := func() string { // a port where nobody is
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		return port
	}()
	echo := func(q []byte) []byte {
		if !bytes.Equal(q, request) {
			return []byte("not what was sent")
		}
		return answer
	}
	tcp, _ := kdcOf(t, "tcp", "127.0.0.1", func(q []byte) []byte { return framed(echo(q)) })
	udp, _ := kdcOf(t, "udp", "127.0.0.1", echo)
	tcp6, _ := kdcOf(t, "tcp", "::1", func(q []byte) []byte { return framed(echo(q)) })
	udp6, _ := kdcOf(t, "udp", "::1", echo)
	garbage, _ := kdcOf(t, "tcp", "127.0.0.1", says(framed([]byte("garbage"))))
	long, _ := kdcOf(t, "tcp", "127.0.0.1", says([]byte{0, 1, 0, 0, 1}))
	cut, _ := kdcOf(t, "tcp", "127.0.0.1", says([]byte{0, 0, 1, 0, 1, 2, 3}))
	empty, _ := kdcOf(t, "tcp", "127.0.0.1", says([]byte{0, 0, 0, 0}))
	var first atomic.Bool
	lossy, tries := kdcOf(t, "udp", "127.0.0.1", func(q []byte) []byte { // the first is lost, the second is garbage
		if first.CompareAndSwap(false, true) {
			return nil
		}
		return echo(q)
	})
	names := map[string]string{"kdc.test": "127.0.0.1", "both.test": "::1 127.0.0.1"}
	for _, tt := range []struct {
		name, lines string
		realm       string
		want        string // empty: the answer; else a part of the error
	}{
		{"TCP", "R tcp 127.0.0.1:" + tcp, "R", ""},
		{"UDP", "R udp 127.0.0.1:" + udp, "R", ""},
		{"TCP, IPv6", "R tcp [::1]:" + tcp6, "R", ""},
		{"UDP, IPv6", "R udp [::1]:" + udp6, "R", ""},
		{"by name", "R tcp kdc.test:" + tcp, "R", ""},
		{"by name, UDP, the second address", "R udp both.test:" + udp, "R", ""},
		{"by name, TCP, the second address", "R tcp both.test:" + tcp, "R", ""},
		{"a realm in small letters", "R.TEST tcp 127.0.0.1:" + tcp, "r.test", ""},
		{"the second realm", "Q tcp 127.0.0.1:" + closed + "\nR tcp 127.0.0.1:" + tcp, "R", ""},
		{"without a realm, of one", "R tcp 127.0.0.1:" + tcp, "", ""},
		{"without a realm, of two", "Q tcp 127.0.0.1:" + tcp + "\nR tcp 127.0.0.1:" + tcp, "", errRealm.Error()},
		{"another realm", "R tcp 127.0.0.1:" + tcp, "Q", errRealm.Error()},
		{"the first is dead", "R tcp 127.0.0.1:" + closed + "\nR udp 127.0.0.1:" + udp, "R", ""},
		{"the first is dead, UDP", "R udp 127.0.0.1:" + closed + "\nR tcp 127.0.0.1:" + tcp, "R", ""},
		{"the first says garbage", "R tcp 127.0.0.1:" + garbage + "\nR tcp 127.0.0.1:" + tcp, "R", ""},
		{"all are dead", "R tcp 127.0.0.1:" + closed, "R", "refused"},
		{"garbage", "R tcp 127.0.0.1:" + garbage, "R", errAnswer.Error()},
		{"more than there may be", "R tcp 127.0.0.1:" + long, "R", errAnswer.Error()},
		{"cut off", "R tcp 127.0.0.1:" + cut, "R", "EOF"},
		{"empty", "R tcp 127.0.0.1:" + empty, "R", errAnswer.Error()},
		{"a name without an address", "R tcp none.test:1", "R", "no such host"},
		{"a datagram is lost", "R udp 127.0.0.1:" + lossy, "R", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			relay := relayOf(t, tt.lines+"\n", names).relay
			got, err := relay(t.Context(), post(request, tt.realm))
			if tt.want == "" && (err != nil || !bytes.Equal(got, want)) {
				t.Errorf("%x, %v", got, err)
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%x, %v, want %s", got, err, tt.want)
			}
		})
	}
	if tries.Load() < 2 {
		t.Errorf("a lost datagram was sent %d times", tries.Load())
	}
	relay := relayOf(t, "R tcp 127.0.0.1:"+tcp+"\n", nil).relay
	if _, err := relay(t.Context(), []byte("garbage")); !errors.Is(err, errProxyMessage) {
		t.Errorf("garbage of a client: %v", err)
	}
}

// TestTooLong: what is too long for a datagram comes by TCP.
func TestTooLong(t *testing.T) {
	much := value(asRep, make([]byte, 40<<10))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Skip(err)
	}
	defer c.Close()
	go serve(l, says(framed(much)), new(atomic.Int64))
	go func() {
		b := make([]byte, 64<<10)
		for {
			_, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			c.WriteTo(big, from)
		}
	}()
	relay := relayOf(t, "R udp "+l.Addr().String()+"\n", nil).relay
	want, _ := proxyMessage(much)
	if got, err := relay(t.Context(), post(request, "R")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v, want %d", len(got), err, len(want))
	}
}

// TestSlow: a KDC without an answer holds nobody longer than who waits, and is asked
// last the next time.
func TestSlow(t *testing.T) {
	slow, asked := kdcOf(t, "tcp", "127.0.0.1", says(nil))
	good, _ := kdcOf(t, "tcp", "127.0.0.1", says(framed(answer)))
	p := relayOf(t, "R tcp 127.0.0.1:"+slow+"\nR tcp 127.0.0.1:"+good+"\n", nil)
	relay := p.relay
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() {
		_, err := relay(ctx, post(request, "R"))
		over <- err
	}()
	for deadline := time.Now().Add(20 * time.Second); asked.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the KDC is not asked")
		}
	}
	cancel()
	if err := <-over; !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits any more: %v", err)
	}
	p.patience = 10 * time.Second
	if _, err := relay(t.Context(), post(request, "R")); err != nil { // its half of the time goes by
		t.Fatal(err)
	}
	before := asked.Load()
	if _, err := relay(t.Context(), post(request, "R")); err != nil || asked.Load() != before {
		t.Errorf("afterwards: %v, the slow one was asked %d times more", err, asked.Load()-before)
	}
}

func TestMake(t *testing.T) {
	for _, lines := range []string{"", "R tcp\n", "R tcp host\n", "R tcp 127.0.0.1:88 x\n"} {
		if _, err := Make(map[string]string{"kdcs": lines}, nil); err == nil {
			t.Errorf("%q is taken", lines)
		}
	}
}
