package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

func TestStream(t *testing.T) {
	const n = 3*blockSize + 17
	a, err := io.ReadAll(newStream(n))
	if err != nil || len(a) != n {
		t.Fatalf("%d bytes, %v", len(a), err)
	}
	b, err := io.ReadAll(iotest.OneByteReader(newStream(n)))
	if err != nil || !bytes.Equal(a, b) {
		t.Error("the stream depends on how it is read")
	}
	if bytes.Equal(a[:blockSize], a[blockSize:2*blockSize]) {
		t.Error("two blocks are equal")
	}
}

func TestTransfersAreChecked(t *testing.T) {
	web := httptest.NewServer(httpMux(&witness{out: io.Discard}))
	defer web.Close()
	const n = 2*blockSize + 1
	get := func(n int64) error {
		return Transfer{Bytes: n}.download(fmt.Sprintf("%s/bytes?n=%d", web.URL, n))
	}
	put := Transfer{Bytes: n}.upload(web.URL + "/upload")
	if err := errors.Join(get(n), get(0), put); err != nil {
		t.Error(err)
	}
	if err := (Transfer{Bytes: n + 1}).download(fmt.Sprintf("%s/bytes?n=%d", web.URL, n)); err == nil {
		t.Error("a byte may be missing")
	}
	sum := strings.Repeat("0", 64)
	if (Transfer{}).compare(0, sum, sum) != nil || (Transfer{}).compare(0, sum, "1"+sum[1:]) == nil || (Transfer{}).compare(0, "", "") == nil {
		t.Error("checksums are not compared")
	}
}

func TestPacketsAndAnswers(t *testing.T) {
	src4, src6 := netip.MustParseAddr("10.66.0.2"), netip.MustParseAddr("fd66::2")
	for i, p := range []Injected{
		{Proto: "tcp", Dst: "127.0.0.1", Port: 80}, {Proto: "udp", Dst: "127.0.0.1", Port: 80}, {Proto: "icmp", Dst: "127.0.0.1"},
		{Proto: "tcp", Dst: "::1", Port: 80}, {Proto: "udp", Dst: "::1", Port: 80}, {Proto: "icmp", Dst: "::1"},
	} {
		dst, src := netip.MustParseAddr(p.Dst), src4
		if dst.Is6() {
			src = src6
		}
		b, err := packetFor(i, p, src, dst)
		if err != nil {
			t.Fatal(err)
		}
		if dst.Is4() && !header.IPv4(b).IsChecksumValid() {
			t.Errorf("%v: the header's checksum is wrong", p)
		}
		// An ICMP error that quotes the packet is the answer to packet i.
		quote := append([]byte{3, 13, 0, 0, 0, 0, 0, 0}, b...)
		ip := make([]byte, header.IPv4MinimumSize)
		header.IPv4(ip).Encode(&header.IPv4Fields{TotalLength: uint16(len(ip) + len(quote)), TTL: 64, Protocol: uint8(header.ICMPv4ProtocolNumber)})
		if got, what := readAnswer(append(ip, quote...)); dst.Is4() && (got != i || what != "icmp 3/13") {
			t.Errorf("%v: %d, %q", p, got, what)
		}
	}
	if _, err := packetFor(0, Injected{Proto: "sctp", Dst: "::1"}, src6, src6); err == nil {
		t.Error("SCTP is made")
	}
}

func FuzzReadAnswer(f *testing.F) {
	f.Add([]byte{0x45})
	f.Add(append([]byte{0x60, 0, 0, 0, 0, 8, 58, 64}, make([]byte, 40)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if i, what := readAnswer(b); i != -1 && what == "" {
			t.Errorf("answer %d without a kind", i)
		}
	})
}

func TestParseHexAddr(t *testing.T) {
	for in, want := range map[string]string{
		"0B014D0A:9C40":                         "10.77.1.11",
		"0000000000000000FFFF00000B014D0A:9C40": "10.77.1.11",
		"000077FD00000000000000000B000000:115B": "fd77::b",
	} {
		if got, err := parseHexAddr(in); err != nil || got.String() != want {
			t.Errorf("%s is %v, %v, not %s", in, got, err, want)
		}
	}
	if _, err := parseHexAddr("zz:1"); err == nil {
		t.Error("no hexadecimal number is taken")
	}
}

func TestConfigure(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may give files away")
	}
	s := &State{Dir: t.TempDir()}
	s.Config = s.Path("ocserv.conf")
	if err := s.Configure("dpd = 3", "dns = 192.0.2.1", "dns = 192.0.2.2"); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if strings.Count(text, "\ndpd = ") != 1 || !strings.Contains(text, "\ndpd = 3\n") || strings.Count(text, "\ndns = ") != 2 {
		t.Errorf("settings do not replace the lab's:\n%s", text)
	}
}

func TestTreeAndConfinement(t *testing.T) {
	tree, err := Tree(os.Getpid())
	if err != nil || len(tree) == 0 || tree[0].PPID != os.Getppid() {
		t.Fatalf("%v, %v", tree, err)
	}
	c, err := ReadConfinement(os.Getpid())
	if err != nil || c.UIDs[1] != os.Geteuid() {
		t.Errorf("%+v, %v", c, err)
	}
	if n, err := Private(os.Getpid()); err != nil || n < 1<<16 {
		t.Errorf("%d bytes private, %v", n, err)
	}
}
