package radius

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// names is a DNS of these tests.
func names(_ context.Context, _, host string) ([]netip.Addr, error) {
	switch host {
	case "radius.example":
		return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, nil
	case "same.example":
		return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
	}
	return nil, errors.New("no such host")
}

// configured reads a configuration beside a file of secrets.
func configured(t *testing.T, text, secrets string) (*conf, []string, error) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"radiusclient.conf": text, "servers": secrets} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return readConf(filepath.Join(dir, "radiusclient.conf"), logins, names)
}

// TestWatch: the file of secrets is one that somebody may replace.
func TestWatch(t *testing.T) {
	name := written(t, nil, "authserver 192.0.2.9:1812:word")
	made, err := Make(map[string]string{"config": name}, slog.New(slog.DiscardHandler))
	if want := filepath.Join(filepath.Dir(name), "servers"); err != nil || !slices.Equal(made.Watch, []string{want}) {
		t.Errorf("watched is %q, %v, want %s", made.Watch, err, want)
	}
}

func TestConf(t *testing.T) {
	for _, tt := range []struct {
		name, conf, secrets string
		want                string // servers with their secrets, or what the error says
	}{
		{"by name", "authserver radius.example\nservers servers", "radius.example one", "192.0.2.1:1812=one"},
		{"with a port", "authserver 192.0.2.9:1645\nservers servers", "192.0.2.9 one two words", "192.0.2.9:1645=one two words"},
		{"by name and port", "authserver 192.0.2.9:1645\nservers servers", "192.0.2.9:1645\t one", "192.0.2.9:1645=one"},
		{"in the line", "authserver 192.0.2.9:1645:inline", "", "192.0.2.9:1645=inline"},
		{"IPv6", "authserver [2001:db8::5]:1645:inline", "", "[2001:db8::5]:1645=inline"},
		{"IPv6 alone", "authserver [2001:db8::5]\nservers servers", "2001:db8::5 one", "[2001:db8::5]:1812=one"},
		{"a pair", "authserver 192.0.2.9\nservers servers", "198.51.100.1/192.0.2.9 one", "192.0.2.9:1812=one"},
		{"by another name", "authserver same.example\nservers servers", "radius.example one", "192.0.2.1:1812=one"},
		{"several", "authserver 192.0.2.9,192.0.2.10 192.0.2.11\nservers servers", "192.0.2.9 a\n192.0.2.10 b\n192.0.2.11 c",
			"192.0.2.9:1812=a 192.0.2.10:1812=b 192.0.2.11:1812=c"},
		{"no secret", "authserver 192.0.2.9\nservers servers", "192.0.2.10 one", "has no secret"},
		{"an empty secret", "authserver 192.0.2.9\nservers servers", "192.0.2.9", "servers:1: a server without a secret"},
		{"no such host", "authserver nobody.example\nservers servers", "nobody.example one", "no such host"},
		{"no port", "authserver 192.0.2.9:x", "", "not HOST"},
		{"no bracket", "authserver [::1", "", "no closing bracket"},
		{"no number", "radius_timeout soon", "", "radiusclient.conf:1: 'soon' is no number"},
		{"no time", "radius_timeout 0", "", "is no number"},
		{"no address", "\n\nbindaddr nonsense", "", "radiusclient.conf:3:"},
		{"TLS", "authserver 192.0.2.9:2083:x\nserv-type tls", "", "only udp"},
		{"no file of secrets", "authserver 192.0.2.9\nservers /nonexistent/servers", "", "no such file"},
	} {
		c, _, err := configured(t, tt.conf, tt.secrets)
		var got []string
		if err != nil {
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		for _, s := range c.servers {
			got = append(got, s.addr+"="+s.secret.Reveal())
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, s, tt.want)
		}
	}
}

func TestConfValues(t *testing.T) {
	c, warnings, err := configured(t, "# radcli\nnas-identifier\tvpn\nnas-ip 192.0.2.3\nbindaddr *\nradius_timeout  5\nradius_retries 1\n"+
		"radius_deadtime 30\nauthserver 192.0.2.9::x\nacctserver [nonsense\nlogin_tries 4\nserv-type udp\nrequire-message-authenticator no\nwhatever 1\n", "")
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintln(c.nasIdentifier, c.nasIP, c.bind.IsValid(), c.timeout, c.retries, c.deadTime, c.servers[0].addr, c.unsigned, len(warnings))
	if want := "vpn 192.0.2.3 false 5s 1 30s 192.0.2.9:1812 true 2\n"; got != want {
		t.Errorf("%s, want %s; %v", got, want, warnings)
	}
	if s := fmt.Sprintf("%+v %v", c, c.servers); strings.Contains(s, "x}") {
		t.Errorf("a secret is printed: %s", s)
	}
}

func TestMakeErrors(t *testing.T) {
	good := written(t, nil, "authserver 127.0.0.1:1812:x")
	for want, line := range map[string]map[string]string{
		"no such file":     {"config": "/nonexistent/radiusclient.conf"},
		"no authserver":    {"config": written(t, nil)},
		"group-separator":  {"config": good, "group-separator": "blank"},
		"neither true nor": {"config": good, "groupconfig": "perhaps"},
	} {
		if _, err := Make(line, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", line, err)
		}
		if _, err := Check(line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, checked: %v", line, err)
		}
	}
	unknown := map[string]string{"config": written(t, nil, "authserver radius.invalid", "whatever 1")}
	if warnings, err := Check(unknown); err != nil || len(warnings) != 1 { // names are not looked up
		t.Errorf("checked: %v, %v", warnings, err)
	}
}

func FuzzSplitServer(f *testing.F) {
	for _, s := range []string{"a", "a:1", "a:1:s", "[::1]", "[::1]:1:s", "[", "a::s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, port, _, err := splitServer(s, 1812)
		if err == nil && (host == "" || port == 0) {
			t.Errorf("%q: %q %d", s, host, port)
		}
	})
}
