package egress

import (
	"testing"

	"golang.org/x/sys/unix"
)

// A socket goes on in another Direct with its port, and with what had arrived.
func TestReleaseAndAdopt(t *testing.T) {
	for _, tt := range loopbacks {
		t.Run(tt.name, func(t *testing.T) {
			a, b := newDirect(t, DirectConfig{}), newDirect(t, DirectConfig{})
			s := openUDP(t, a, tt.v6, newInbox())
			peer, addr := listenUDP(t, tt.address)
			s.Send([]Message{{Addr: addr, Payload: []byte("before")}})
			_, from := readFrom(t, peer)
			fd, err := s.(Releaser).Release()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.(Releaser).Release(); err == nil {
				t.Error("released twice")
			}
			if n, err := s.Send([]Message{{Addr: addr}}); n != 0 || err == nil {
				t.Error("a released socket sends")
			}
			peer.WriteToUDPAddrPort([]byte("meanwhile"), from)
			in := newInbox()
			s2, err := b.Adopt(UDP, tt.v6, fd, in)
			if err != nil {
				t.Fatal(err)
			}
			defer s2.Close()
			if got := in.wait(t, 1); string(got[0].Payload) != "meanwhile" || got[0].Addr != addr {
				t.Errorf("received %q from %v", got[0].Payload, got[0].Addr)
			}
			s2.Send([]Message{{Addr: addr, Payload: []byte("after")}})
			if p, again := readFrom(t, peer); string(p) != "after" || again != from {
				t.Errorf("%q from %v, was %v", p, again, from)
			}
		})
	}
}

// What is adopted is looked at: it is another process that has made it.
func TestAdoptRefuses(t *testing.T) {
	d := newDirect(t, DirectConfig{})
	open := func(family, typ int) int {
		fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	connected := open(unix.AF_INET, unix.SOCK_DGRAM)
	if err := unix.Connect(connected, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 9}); err != nil {
		t.Fatal(err)
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[1])
	for name, fd := range map[string]int{
		"TCP": open(unix.AF_INET, unix.SOCK_STREAM), "IPv6": open(unix.AF_INET6, unix.SOCK_DGRAM),
		"Unix": open(unix.AF_UNIX, unix.SOCK_DGRAM), "connected": connected, "no socket": pipe[0],
	} {
		if s, err := d.Adopt(UDP, false, fd, newInbox()); err == nil {
			s.Close()
			t.Errorf("%s was adopted", name)
		}
		if err := unix.Close(fd); err != unix.EBADF {
			t.Errorf("%s: the descriptor is open: %v", name, err)
		}
	}
}
