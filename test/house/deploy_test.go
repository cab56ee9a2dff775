package house

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"rocserv/internal/config"
)

// The examples are those of this program: the configuration in the Kubernetes
// one is accepted without a word, and nothing asks for a right.
func TestDeploy(t *testing.T) {
	read := func(name string) string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join("..", "..", "deploy", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	pod := read("kubernetes/rocserv.yaml")
	conf := regexp.MustCompile(`(?s)ocserv\.conf: \|\n(.*?)\n---`).FindStringSubmatch(pod)
	if conf == nil {
		t.Fatal("no configuration in the ConfigMap")
	}
	cfg, err := config.Parse("ocserv.conf", []byte(strings.ReplaceAll(conf[1], "\n    ", "\n")), config.SecMod)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range cfg.Warnings {
		t.Errorf("the example's configuration: %v", w)
	}
	for name, wants := range map[string][]string{
		// https://kubernetes.io/docs/concepts/security/pod-security-standards/ (Restricted)
		"kubernetes/rocserv.yaml":     {"runAsNonRoot: true", "allowPrivilegeEscalation: false", `capabilities: {drop: ["ALL"]}`, "seccompProfile: {type: RuntimeDefault}", "readOnlyRootFilesystem: true"},
		"systemd/rocserv.service":     {"Type=notify", "NoNewPrivileges=true", "CapabilityBoundingSet=\n", "User=rocserv", "WatchdogSec=", "rocserv -f -c "},
		"systemd/rocserv.socket":      {"ListenStream=", "ListenDatagram=", "BindIPv6Only=ipv6-only"},
		"container/Containerfile":     {"FROM scratch", "USER 12345:0", "CGO_ENABLED=0", "./cmd/rocserv-worker", "STOPSIGNAL SIGTERM"},
		"container/rocserv.container": {"DropCapability=ALL", "ReadOnly=true", "NoNewPrivileges=true"},
	} {
		text := read(name)
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("deploy/%s has no %q", name, want)
			}
		}
		for _, never := range []string{"privileged: true", "NET_ADMIN", "hostNetwork", "/dev/net/tun"} {
			if strings.Contains(text, never) {
				t.Errorf("deploy/%s has %q", name, never)
			}
		}
	}
}

// systemd's own judgement, where there is one.
func TestUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"rocserv.service", "rocserv.socket"} {
		b, err := os.ReadFile(filepath.Join("..", "..", "deploy", "systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(b), "/usr/local/bin/rocserv", "/bin/true")
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(analyze, "verify", "--man=no", filepath.Join(dir, "rocserv.service"), filepath.Join(dir, "rocserv.socket")).CombinedOutput()
	if err != nil || strings.Contains(string(out), dir) {
		t.Errorf("%v\n%s", err, out)
	}
}
