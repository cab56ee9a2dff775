package mainproc

import (
	"os/exec"
	"strings"
	"testing"
)

// Main reads nothing of what clients send, so it links nothing that could.
func TestDeps(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Skipf("go list: %v", err)
	}
	banned := []string{"crypto/tls", "net/http", "encoding/xml", "github.com/pion/", "gvisor.dev/", "rocserv/worker", "rocserv/secmod", "rocserv/netstack", "rocserv/nat", "rocserv/egress"}
	ours := map[string]bool{ // architecture, "who may import whom"
		"rocserv/mainproc": true, "rocserv/mainproc/scripts": true, "rocserv/internal/ipc": true, "rocserv/internal/config": true, "rocserv/internal/lease": true,
		"rocserv/internal/ban": true, "rocserv/internal/session": true, "rocserv/internal/control": true, "rocserv/internal/sandbox": true,
		"rocserv/internal/capacity": true, "rocserv/internal/secret": true, "rocserv/internal/nat64": true,
		"rocserv/internal/wire/dtlshello": true, "rocserv/internal/wire/proxyproto": true, "rocserv/internal/rolelog": true,
	}
	for dep := range strings.FieldsSeq(string(out)) {
		for _, b := range banned {
			if dep == b || strings.HasPrefix(dep, b) && strings.HasSuffix(b, "/") {
				t.Errorf("main links %s", dep)
			}
		}
		if strings.HasPrefix(dep, "rocserv/") && !ours[dep] {
			t.Errorf("main may not import %s", dep)
		}
	}
}
