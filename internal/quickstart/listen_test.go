package quickstart

import (
	"bytes"
	"errors"
	"testing"
)

func TestParseListen(t *testing.T) {
	for in, want := range map[string]listen{
		":8443": {"", 8443}, "8443": {"", 8443}, "0.0.0.0:443": {"0.0.0.0", 443}, "[::]:1": {"::", 1}, "vpn.example.org:65535": {"vpn.example.org", 65535},
		"[fe80::1%eth0]:8443": {"fe80::1%eth0", 8443},
	} {
		if got, err := parseListen(in); got != want || err != nil {
			t.Errorf("%q: %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", ":", "x", "192.0.2.1", "::1", "[::1]", ":0", ":-1", ":65536", "a b:1", "a\nb:1", "#:1", "a,b:1"} {
		if got, err := parseListen(in); !errors.Is(err, ErrListen) {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
}

func TestRelisten(t *testing.T) {
	for _, c := range []struct {
		in   string
		l    listen
		want string
	}{
		{"tcp-port = 1\nudp-port=2\n", listen{"", 9}, "tcp-port = 9\nudp-port = 9\n"},
		{"# tcp-port = 1\n#udp-port = 1\ntcp-port = 1", listen{"", 9}, "# tcp-port = 1\n#udp-port = 1\ntcp-port = 9\n"},
		{"udp-port = 0\n", listen{"", 9}, "udp-port = 0\n"},
		{"tcp-port = 1\n", listen{"::1", 9}, "listen-host = ::1\ntcp-port = 9\n"},
		{"listen-host = a\ntcp-port = 1\n", listen{"b", 9}, "listen-host = b\ntcp-port = 9\n"},
		{"listen-host = a\ntcp-port = 1\n", listen{"", 9}, "#listen-host = a\ntcp-port = 9\n"},
		{"[vhost:x]\ntcp-port = 1\nlisten-host = a\n", listen{"b", 9}, "[vhost:x]\ntcp-port = 1\nlisten-host = a\n"},
		{"banner = tcp-port = 1\nxtcp-port = 1\n", listen{"b", 9}, "banner = tcp-port = 1\nxtcp-port = 1\n"},
	} {
		if got := string(relisten([]byte(c.in), c.l)); got != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}

// Done twice it is as done once, and what stands in sections stays.
func FuzzRelisten(f *testing.F) {
	f.Add([]byte("listen-host = a\ntcp-port = 1\nudp-port = 1\n[vhost:x]\ntcp-port = 1\n"), "192.0.2.1")
	f.Add([]byte("tcp-port = 1\nlisten-host = a"), "")
	f.Fuzz(func(t *testing.T, conf []byte, host string) {
		if !hostLike(host) {
			return
		}
		l := listen{host, 9000}
		once := relisten(conf, l)
		if twice := relisten(once, l); !bytes.Equal(once, twice) {
			t.Fatalf("%q becomes %q becomes %q", conf, once, twice)
		}
		if i := bytes.Index(conf, []byte("\n[")); i >= 0 && !bytes.HasSuffix(once, conf[i:]) {
			t.Fatalf("%q becomes %q: the section changed", conf, once)
		}
	})
}
