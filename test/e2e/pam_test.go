//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

const pamMatrix = "/usr/lib/x86_64-linux-gnu/pam_wrapper/pam_matrix.so"

// withPAM is a rig whose users are those of a service of libpam's with these lines,
// where DIR is a folder that the server may read.
func withPAM(t *testing.T, service string, settings ...string) *rig {
	t.Helper()
	rocservOnly(t, "the same by Debian's ocserv, which is root")
	for _, file := range []string{pamMatrix, "/usr/include/security/pam_appl.h"} {
		if _, err := os.Stat(file); err != nil && os.Getenv("CI") != "true" {
			t.Skip("Debian's libpam-wrapper and libpam0g-dev are not there: ", err)
		}
	}
	build := exec.Command("go", "build", "-trimpath", "-tags", "pam", "-o", filepath.Join(filepath.Dir(server.Path), "rocserv-pam"), "rocserv/cmd/rocserv-pam")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r := newLab(t, 1)
	dir := r.Path("pam")
	r.must(os.Mkdir(dir, 0o755))
	name := fmt.Sprintf("rocserv-e2e-%d", os.Getpid())
	for file, text := range map[string]string{
		filepath.Join("/etc/pam.d", name): strings.NewReplacer("MATRIX", pamMatrix, "DIR", dir).Replace(service),
		filepath.Join(dir, "users"):       fmt.Sprintf("%s:%s:%[3]s\n%[4]s:%[2]s:%[3]s\nlocked:%[2]s:%[3]s\n", lab.User, lab.Password, name, lab.Other),
		filepath.Join(dir, "codes"):       fmt.Sprintf("%s:246810:%s\n", lab.User, name),
		filepath.Join(dir, "motd"):        "The code is on your token\n",
		filepath.Join(dir, "locked"):      "locked\n",
	} {
		r.must(os.WriteFile(file, []byte(text), 0o644))
		t.Cleanup(func() { os.Remove(file) })
	}
	r.must(r.state.Configure(append(settings, "auth = pam[service="+name+"]")...))
	r.start()
	return r
}

// Logins by libpam: alice has a code too, and bob's sessions are refused.
func TestPAM(t *testing.T) {
	r := withPAM(t, `
auth required MATRIX passdb=DIR/users
auth [success=2 default=ignore] pam_succeed_if.so quiet user != alice
auth optional pam_echo.so file=DIR/motd
auth required MATRIX passdb=DIR/codes
account required pam_listfile.so item=user sense=deny file=DIR/locked onerr=fail
account required MATRIX passdb=DIR/users
session [success=1 default=ignore] pam_succeed_if.so quiet user != bob
session required pam_debug.so open_session=perm_denied
session required pam_permit.so
`, "acct = pam")
	never := []string{`CONNECT response`}
	for _, l := range []login{
		{name: "right", dial: as(lab.Other, right), lines: []string{lineDTLS}, checks: both},
		{name: "wrong", dial: as(lab.Other, []string{wrong}), status: 1, lines: []string{`HTTP/1.1 401`}, never: never},
		{name: "unknown", dial: as("mallory", right), status: 1, lines: []string{`HTTP/1.1 401`}, never: never},
		{name: "locked", dial: as("locked", right), status: 1, lines: []string{`HTTP/1.1 401`}, never: never},
		{name: "a code too", dial: as(lab.User, []string{lab.Password, "246810"}), lines: []string{`The code is on your token`, lineDTLS}},
		{name: "a wrong code", dial: as(lab.User, []string{lab.Password, "111111"}), status: 1, lines: []string{`The code is on your token`, `HTTP/1.1 401`}, never: never},
	} {
		t.Run(l.name, func(t *testing.T) { r.in(t).try(l) })
	}
	r.expect(r.srv.Process, `PAM session refused`, 10*time.Second)
	if r.srv.Has(`session not accounted`) {
		t.Error("sessions are not accounted")
	}
}
