package client

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The forms of both servers are filled in.
func TestFill(t *testing.T) {
	for _, tt := range []struct{ name, form, want string }{
		{"ocserv asks for the user first", `<form method="post" action="/auth">` + "\n" +
			`<input type="text" name="username" label="Username:" />` + "\n</form>", "<username>a&amp;b</username>"},
		{"and then for the password", `<input type="password" name="password" label="Password:" />`, "<password>x&lt;</password>"},
		{"both at once", `<input label="Username:" name="username" type="text"/><input type="password" name="password"/>`,
			"<username>a&amp;b</username><password>x&lt;</password>"},
		{"something else", `<input type="text" name="otp"/>`, ""},
		{"nothing", ``, ""},
	} {
		if got := fill(tt.form, "a&b", "x<"); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// What the kernel says about datagrams that came as one.
func TestSegmentOf(t *testing.T) {
	b := make([]byte, unix.CmsgSpace(4))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_GRO
	h.SetLen(unix.CmsgLen(4))
	binary.NativeEndian.PutUint32(b[unix.CmsgLen(0):], 1472)
	if got := segmentOf(b); got != 1472 {
		t.Errorf("segments of %d bytes", got)
	}
	other := append([]byte(nil), b...)
	(*unix.Cmsghdr)(unsafe.Pointer(&other[0])).Type = 99
	if got := segmentOf(append(other, b...)); got != 1472 {
		t.Errorf("behind another message: %d bytes", got)
	}
	if segmentOf(nil) != 0 || segmentOf(other) != 0 || segmentOf(b[:5]) != 0 {
		t.Error("segments where there are none")
	}
}
