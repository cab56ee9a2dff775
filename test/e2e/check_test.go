//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"rocserv/test/e2e/lab"
)

// As the server's user, -t says what a start would meet, each with its place, and
// what works otherwise here; a server of the same configuration is not disturbed.
func TestConfigurationChecked(t *testing.T) {
	rocservOnly(t, "its words are others")
	r := newRig(t, 1)
	r.must(r.state.Configure("ping-leases = true", "route-add-cmd = ip route add %{R}", "select-group = nobody"))
	check := func(config string) (string, error) {
		var out bytes.Buffer
		cmd := exec.Command(server.Path, "-t", "-c", config)
		cmd.Stderr = &out
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: lab.ServerID, Gid: lab.ServerID, Groups: []uint32{}}}
		err := cmd.Run()
		return out.String(), err
	}
	out, err := check(r.state.Config)
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	for _, line := range []string{
		"note: vhost:default: setting 'plain' as primary authentication method",
		"'device' works otherwise than in ocserv", "'ping-leases' has no effect: ", "'route-add-cmd' ", "warning: " + r.state.Config + ":",
		"select-group: nobody is in the group 'nobody'",
	} {
		if !strings.Contains(out, line) {
			t.Errorf("nothing like %q in\n%s", line, out)
		}
	}
	r.must(hello4.run(r, r.connect(lab.Dial{})))

	r.must(r.state.Configure("server-key = "+r.state.Path("gone"), "tcp-port = 443", "enable-auth = gssapi[keytab="+r.state.Path("gone")+"]"))
	out, err = check(r.state.Config)
	if err == nil || !strings.Contains(out, "error: "+r.state.Config+":") || !strings.Contains(out, "key: open "+r.state.Path("gone")) {
		t.Errorf("no key: %v\n%s", err, out)
	}
	if !strings.Contains(out, "auth = gssapi: keytab: open "+r.state.Path("gone")) {
		t.Errorf("no keytab: %s", out)
	}
	if start, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err == nil && len(start) > 3 && !strings.Contains(out, "cannot bind ports below") {
		t.Errorf("port 443: %s", out)
	}
}
