package secmod

import (
	"os"
	"strings"
	"testing"
)

// sampleOf is the sample file with a site's files.
func sampleOf(t *testing.T, st *site) string {
	t.Helper()
	b, err := os.ReadFile("../doc/sample.config")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for from, to := range map[string]string{
		"/etc/rocserv/ocpasswd": "users", "/etc/rocserv/server-cert.pem": "p256.crt", "/etc/rocserv/server-key.pem": "p256.key",
	} {
		if !strings.Contains(text, from) {
			t.Errorf("the sample does not name %s", from)
		}
		text = strings.ReplaceAll(text, from, st.path(to))
	}
	return text
}

// TestBrokenSample: a file that a line of the sample names and that is not there
// leaves what is in effect alone.
func TestBrokenSample(t *testing.T) {
	st := newSite(t, hashOf(t, "anna", "*", "secret"))
	r := newRig(t)
	text := sampleOf(t, st)
	if rep := r.configure(1, []byte(text)); rep.Error != "" {
		t.Fatal(rep.Error)
	}
	named := 0
	for line := range strings.Lines(text) {
		if !strings.Contains(line, st.dir) {
			continue
		}
		named++
		broken := strings.Replace(text, line, strings.Replace(line, st.dir, st.path("gone"), 1), 1)
		rep := r.configure(2, []byte(broken))
		if !strings.Contains(rep.Error, st.path("gone")) || !strings.Contains(rep.Error, "no such file") {
			t.Errorf("%s: %q", strings.TrimSpace(line), rep.Error)
		}
		if r.s.gens.Load().current.number != 1 {
			t.Fatal("something of it is in effect")
		}
		r.alive()
	}
	if named < 3 {
		t.Errorf("%d lines of the sample name files", named)
	}
	if rep := r.configure(2, []byte(text)); rep.Error != "" {
		t.Errorf("a good one afterwards: %s", rep.Error)
	}
}
