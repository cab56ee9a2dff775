package mainproc

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rocserv/internal/config"
)

// TestCheck: -t finds what main could not do here, with the line it is about.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const least = "auth = plain[passwd=/x]\nsocket-file = /x\nserver-cert = x\nserver-key = x\ndevice = x\n"
	for _, tt := range []struct{ name, lines, warning, err string }{
		{"good", "tcp-port = 60443\nipv4-network = 10.9.0.0/24\nlisten-host = 127.0.0.1\n", "", ""},
		{"no such address", "tcp-port = 60443\nipv4-network = 10.9.0.0/24\nlisten-host = 192.0.2.1\n", "", "test.conf:8: mainproc: cannot listen (TCP) on 192.0.2.1:0"},
		{"another one for UDP", "tcp-port = 60443\nipv4-network = 10.9.0.0/24\nlisten-host = 127.0.0.1\nudp-listen-host = 192.0.2.1\nudp-port = 60443\n", "", "test.conf:9: mainproc: cannot listen (UDP) on 192.0.2.1:0"},
		{"no address to lease", "tcp-port = 60443\nipv4-network = 10.9.0.1/32\n", "", "test.conf:7: no client can be given an address"},
		{"too few addresses", "tcp-port = 60443\nipv4-network = 10.9.0.0/29\nmax-clients = 6\n", "test.conf:7: 10.9.0.0/29 has 5 addresses for clients, max-clients is 6", ""},
		{"enough addresses", "tcp-port = 60443\nipv4-network = 10.9.0.0/29\nmax-clients = 5\n", "", ""},
		{"more clients than room", "tcp-port = 60443\nipv4-network = 10.0.0.0/4\nmax-clients = 10000000\n", "test.conf:8: max-clients = 10000000 is more than this machine allows", ""},
		{"no folder for the pid file", "tcp-port = 60443\nipv4-network = 10.9.0.0/24\npid-file = " + dir + "/none/pid\n", "", "test.conf:8: pid-file = " + dir + "/none/pid: cannot be made"},
		{"a pid file", "tcp-port = 60443\nipv4-network = 10.9.0.0/24\npid-file = " + dir + "/pid\n", "", ""},
		{"no folder for the store", "tcp-port = 60443\nipv4-network = 10.9.0.0/24\nsession-store = " + dir + "/none/s\n", "test.conf:8: session-store = ", ""},
		{"no folder for the control socket", "tcp-port = 60443\nipv4-network = 10.9.0.0/24\nuse-occtl = true\nocctl-socket-file = " + dir + "/none/s\n", "test.conf:9: occtl-socket-file = ", ""},
		{"no program", "tcp-port = 60443\nipv4-network = 10.9.0.0/24\nconnect-script = " + file + "\n", "test.conf:8: connect-script = " + file + " cannot be executed by uid ", ""},
		{"contradiction", "tcp-port = 60443\nipv4-network = 10.9.0.0/24\nisolate-workers = false\nrequire-confinement = true\n", "", "test.conf:9: "},
	} {
		cfg, err := config.Parse("test.conf", []byte(least+tt.lines), config.Main)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		warnings, err := Check(cfg)
		if got := strings.Join(warnings, "\n"); !strings.HasPrefix(got, tt.warning) || tt.warning == "" && got != "" || len(warnings) > 1 {
			t.Errorf("%s: warnings %q, want %q", tt.name, got, tt.warning)
		}
		if (err == nil) != (tt.err == "") || err != nil && !strings.HasPrefix(err.Error(), tt.err) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.err)
		}
	}
}
