package mainproc

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"rocserv/internal/config"
)

// TestBrokenSample: a mistake in any line of the sample file leaves what is in
// effect alone, and the error names the line.
func TestBrokenSample(t *testing.T) {
	b, err := os.ReadFile("../doc/sample.config")
	if err != nil {
		t.Fatal(err)
	}
	var text string
	s := &server{log: quiet, notify: newNotifier(os.Getpid(), quiet), opts: Options{
		ConfigName: "ocserv.conf",
		ReadConfig: func() ([]byte, error) { return []byte(text), nil },
		Parse:      func(name string, b []byte) (*config.Config, error) { return config.Parse(name, b, config.Main) },
	}}
	text = string(b)
	cfg, _, err := readConfig(s.opts)
	if err != nil {
		t.Fatal(err)
	}
	before := &generation{number: 1, cfg: cfg}
	s.gen.Store(before)
	s.number = 1
	lines := strings.SplitAfter(string(b), "\n")
	for i, line := range lines {
		for _, broken := range []string{"nothing of the kind\n", "[vhost:\n", "route = 10.0.0.0\n", strings.TrimSuffix(line, "\n") + "\x01\n"} {
			if t.Failed() {
				return
			}
			if strings.HasPrefix(broken, "#") || broken == "\x01\n" {
				continue // in a comment everything goes
			}
			text = strings.Join(lines[:i], "") + broken + strings.Join(lines[i+1:], "")
			err := s.reload()
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("ocserv.conf:%d: ", i+1)) {
				t.Errorf("line %d as %q: %v", i+1, broken, err)
			}
			if s.gen.Load() != before || s.number != 1 {
				t.Errorf("line %d as %q: something of it is in effect", i+1, broken)
			}
		}
	}
}
