//go:build e2e

package e2e

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"rocserv/test/e2e/lab"
)

// A client resumes its TLS session with another worker.
func TestTLSResumption(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("gnutls-cli"); errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	r := newRig(t, 1)
	host, port, _ := strings.Cut(lab.ServerAt(lab.Srv4), ":")
	for _, version := range []string{"1.2", "1.3"} {
		// The server speaks first in TLS 1.3 only: its tickets come with the handshake.
		out, _ := r.Cli[0].RunFor(answerLimit, "", "gnutls-cli", "--no-ca-verification", "--resume",
			"--waitresumption", "--priority", "NORMAL:-VERS-ALL:+VERS-TLS"+version, "-p", port, host)
		if !strings.Contains(out, "*** This is a resumed session") {
			t.Errorf("TLS %s: %s", version, out)
		}
	}
}
