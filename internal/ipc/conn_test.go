//go:build !lean

package ipc

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// channel returns both ends of a fresh channel.
func channel(t testing.TB) (a, b *Conn) {
	t.Helper()
	a, far, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	b, err = NewConn(far)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// raw returns an end of ours and the bare socket at the other end.
func raw(t testing.TB) (*Conn, int) {
	t.Helper()
	a, far, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); unix.Close(far) })
	return a, far
}

func openFDs(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func TestSendRecv(t *testing.T) {
	a, b := channel(t)
	want := &AuthInit{User: "alice", Vhost: "v", ClientChain: [][]byte{{1, 2}}}
	if err := a.Send(AuthInitT, 7, want); err != nil {
		t.Fatal(err)
	}
	rec, err := b.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var got AuthInit
	if err := rec.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if rec.Type != AuthInitT || rec.ID != 7 || !proto.Equal(&got, want) {
		t.Errorf("got %v id %d %v", rec.Type, rec.ID, &got)
	}
	rec.Clear()
	if !bytes.Equal(rec.Body, make([]byte, len(rec.Body))) {
		t.Error("Clear left something")
	}
}

func TestEmptyMessageIsNoEndOfStream(t *testing.T) {
	a, b := channel(t)
	if err := a.Send(TerminateT, 0, &Terminate{}); err != nil {
		t.Fatal(err)
	}
	if rec, err := b.Recv(); err != nil || rec.Type != TerminateT {
		t.Errorf("got %v, %v", rec.Type, err)
	}
	a.Close()
	if _, err := b.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after Close: %v", err)
	}
}

// TestLastWordsOfWhoDoesNotListen: an end with records unread is an end like any
// other, and what was sent before it is heard.
func TestLastWordsOfWhoDoesNotListen(t *testing.T) {
	a, b := channel(t)
	if err := a.Send(CliStatsT, 0, &CliStats{BytesDown: 1}); err != nil {
		t.Fatal(err)
	}
	if err := b.Send(CliStatsT, 0, &CliStats{BytesUp: 2}); err != nil {
		t.Fatal(err)
	}
	b.Close()
	rec, err := a.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if last := new(CliStats); rec.Decode(last) != nil || last.BytesUp != 2 {
		t.Errorf("the last record is %v", last)
	}
	if _, err := a.Recv(); err != io.EOF {
		t.Errorf("after the last record: %v", err)
	}
}

func TestDescriptorsTravel(t *testing.T) {
	a, b := channel(t)
	fd, err := SealMessage("test", &SessionConfig{Banner: "hello"})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := a.Send(AuthCookieRepT, 0, &AuthCookieRep{Result: CookieResult_COOKIE_OK}, fd); err != nil {
		t.Fatal(err)
	}
	rec, err := b.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if flags, err := unix.FcntlInt(uintptr(rec.FDs[0]), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("received descriptor is not close-on-exec (%v)", err)
	}
	var sc SessionConfig
	if err := ReadSealedMessage(rec.FDs[0], &sc); err != nil || sc.Banner != "hello" {
		t.Errorf("read %q, %v", sc.Banner, err)
	}
	kept := rec.TakeFD(0)
	rec.Close()
	if err := unix.Close(kept); err != nil {
		t.Errorf("TakeFD did not keep the descriptor open: %v", err)
	}
}

func TestSendRefuses(t *testing.T) {
	a, _ := channel(t)
	if err := a.Send(UDPFdT, 0, &UdpFd{}); err == nil {
		t.Error("UDP_FD without its descriptor was sent")
	}
	if err := a.Send(TerminateT, 0, &Terminate{}, 0); err == nil {
		t.Error("TERMINATE with a descriptor was sent")
	}
	if err := a.Send(TerminateT, 0, &Terminate{Text: strings.Repeat("x", MaxRecord)}); err == nil {
		t.Error("a record longer than MaxRecord was sent")
	}
}

func TestViolations(t *testing.T) {
	dev, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	null := int(dev.Fd())
	tests := []struct {
		name string
		b    []byte
		fds  []int
	}{
		{"shorter than a header", []byte{byte(TerminateT), 0, 0, 0}, nil},
		{"unknown type", []byte{99, 0, 0, 0, 0}, nil},
		{"one byte too long", append([]byte{byte(TerminateT)}, make([]byte, MaxRecord)...), nil},
		{"far too long", append([]byte{byte(TerminateT)}, make([]byte, 2*MaxRecord)...), nil},
		{"descriptor where none belongs", []byte{byte(TerminateT), 0, 0, 0, 0}, []int{null}},
		{"two descriptors for one", []byte{byte(UDPFdT), 0, 0, 0, 0}, []int{null, null}},
		{"three descriptors for two", []byte{byte(WorkerStartupT), 0, 0, 0, 0}, []int{null, null, null}},
		{"many descriptors", []byte{byte(UDPFdT), 0, 0, 0, 0}, []int{null, null, null, null, null, null, null, null}},
		{"no descriptor for one", []byte{byte(UDPFdT), 0, 0, 0, 0}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, far := raw(t)
			before := openFDs(t)
			var oob []byte
			if tt.fds != nil {
				oob = unix.UnixRights(tt.fds...)
			}
			if err := unix.Sendmsg(far, tt.b, oob, nil, 0); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Recv(); !errors.Is(err, ErrViolation) {
				t.Errorf("Recv: %v", err)
			}
			if after := openFDs(t); after != before {
				t.Errorf("%d descriptors leaked", after-before)
			}
		})
	}
}

func TestBodyThatDoesNotDecode(t *testing.T) {
	c, far := raw(t)
	if err := unix.Sendmsg(far, []byte{byte(AuthInitT), 0, 0, 0, 0, 0xff, 0xff}, nil, nil, 0); err != nil {
		t.Fatal(err)
	}
	rec, err := c.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if err := rec.Decode(&AuthInit{}); !errors.Is(err, ErrViolation) {
		t.Errorf("Decode: %v", err)
	}
}

func TestPeerThatDoesNotReadHoldsUpNobodyForEver(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the send timeout")
	}
	a, _ := channel(t)
	start := time.Now()
	var err error
	for err == nil && time.Since(start) < 2*sendTimeout {
		err = a.Send(TerminateT, 0, &Terminate{Text: strings.Repeat("x", 1000)})
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Send ended with %v", err)
	}
}

func TestCall(t *testing.T) {
	a, b := channel(t)
	go func() {
		for range 2 {
			rec, err := b.Recv()
			if err != nil {
				return
			}
			var req AuthInit
			rec.Decode(&req)
			if req.User == "wrong" {
				b.Send(SignRepT, 0, &SignRep{})
				continue
			}
			b.Send(AuthReplyT, 0, &AuthReply{Status: AuthStatus_AUTH_MSG, Message: "hi " + req.User})
		}
	}()
	var rep AuthReply
	if err := a.Call(AuthInitT, &AuthInit{User: "bob"}, AuthReplyT, &rep); err != nil || rep.Message != "hi bob" {
		t.Errorf("got %q, %v", rep.Message, err)
	}
	if err := a.Call(AuthInitT, &AuthInit{User: "wrong"}, AuthReplyT, &rep); !errors.Is(err, ErrViolation) {
		t.Errorf("answer of another type: %v", err)
	}
}

func TestNewConnRefusesOtherDescriptors(t *testing.T) {
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(f.Fd()))
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewConn(fd); err == nil {
		t.Error("/dev/null was taken for a channel")
	}
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[1])
	if _, err := NewConn(p[0]); err == nil {
		t.Error("a stream socket was taken for a channel")
	}
}

func TestSealed(t *testing.T) {
	data := bytes.Repeat([]byte("route = 10.0.0.0/8\n"), 10000)
	fd, err := Seal("config", data)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for range 2 { // can be read again
		got, err := ReadSealed(fd)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("read %d bytes, %v", len(got), err)
		}
	}
	if _, err := unix.Pwrite(fd, []byte("x"), 0); err == nil {
		t.Error("a sealed memfd could be written")
	}
	if err := unix.Ftruncate(fd, 0); err == nil {
		t.Error("a sealed memfd could be cut")
	}
}

func TestReadSealedRefusesWhatCanChange(t *testing.T) {
	open, err := unix.MemfdCreate("open", unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(open)
	if _, err := ReadSealed(open); !errors.Is(err, ErrViolation) {
		t.Errorf("unsealed memfd: %v", err)
	}
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := ReadSealed(int(f.Fd())); !errors.Is(err, ErrViolation) {
		t.Errorf("plain file: %v", err)
	}
	huge, err := unix.MemfdCreate("huge", unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(huge)
	unix.Ftruncate(huge, MaxSealed+1)
	unix.FcntlInt(uintptr(huge), unix.F_ADD_SEALS, seals)
	if _, err := ReadSealed(huge); !errors.Is(err, ErrViolation) {
		t.Errorf("huge memfd: %v", err)
	}
}

func TestAddresses(t *testing.T) {
	for _, s := range []string{"192.0.2.1:443", "[2001:db8::1]:65535"} {
		ap := netip.MustParseAddrPort(s)
		if got := AddrPort(PutAddrPort(ap)); got != ap {
			t.Errorf("%v became %v", ap, got)
		}
		if got := Addr(PutAddr(ap.Addr())); got != ap.Addr() {
			t.Errorf("%v became %v", ap.Addr(), got)
		}
		p := netip.PrefixFrom(ap.Addr(), 24)
		if got := Prefix(PutPrefix(p)); got != p {
			t.Errorf("%v became %v", p, got)
		}
	}
	zoned := netip.MustParseAddrPort("[fe80::1%eth0]:1")
	if got := AddrPort(PutAddrPort(zoned)); got.Addr().Zone() != "" || !got.IsValid() {
		t.Errorf("zone survived: %v", got)
	}
	if PutAddr(netip.Addr{}) != nil || PutAddrPort(netip.AddrPort{}) != nil || PutPrefix(netip.Prefix{}) != nil {
		t.Error("the zero value is not nil")
	}
	for _, b := range [][]byte{nil, {1}, make([]byte, 5), make([]byte, 17), make([]byte, 40)} {
		if Addr(b).IsValid() || AddrPort(b).IsValid() || len(b) == 40 && Prefix(b).IsValid() {
			t.Errorf("%d bytes were taken for an address", len(b))
		}
	}
	if got := Addrs([][]byte{{1, 2, 3, 4}, {1}}); len(got) != 1 {
		t.Errorf("Addrs kept %d", len(got))
	}
}

func FuzzRecv(f *testing.F) {
	body, _ := proto.Marshal(&AuthInit{User: "alice"})
	f.Add(append([]byte{byte(AuthInitT), 0, 0, 0, 1}, body...))
	f.Add([]byte{byte(WorkerStartupT), 0, 0, 0, 0})
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || len(b) > 2*MaxRecord {
			return
		}
		c, far := raw(t)
		if err := unix.Sendmsg(far, b, nil, nil, 0); err != nil {
			return
		}
		rec, err := c.Recv()
		if err != nil {
			if !errors.Is(err, ErrViolation) {
				t.Fatalf("Recv: %v", err)
			}
			return
		}
		if len(b) > MaxRecord || fds[rec.Type][0] > 0 {
			t.Fatalf("%v of %d bytes was taken", rec.Type, len(b))
		}
		for _, m := range []Message{&AuthInit{}, &SessionConfig{}, &WorkerStartup{}, &SignReq{}} {
			for _, rec.trusted = range []bool{true, false} {
				if err := rec.Decode(m); err != nil && !errors.Is(err, ErrViolation) {
					t.Fatalf("Decode: %v", err)
				}
			}
		}
	})
}

func BenchmarkCall(b *testing.B) {
	x, y := channel(b)
	go func() {
		for {
			rec, err := y.Recv()
			if err != nil {
				return
			}
			rec.Close()
			y.Send(SignRepT, 0, &SignRep{Signature: make([]byte, 72)})
		}
	}()
	req := &SignReq{Vhost: "v", Message: make([]byte, 130)}
	b.ReportAllocs()
	for b.Loop() {
		var rep SignRep
		if err := x.Call(SignT, req, SignRepT, &rep); err != nil {
			b.Fatal(err)
		}
	}
}
