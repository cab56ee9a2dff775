package house

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "rocserv"

// mayImport is the table of ARCHITECTURE.md: which packages of ours a package
// (and what lies below it, unless that has a row of its own) may import
// directly. A package without a row imports nothing of ours.
var mayImport = map[string][]string{
	"cmd":                 {"mainproc", "worker", "secmod", "internal/config", "internal/control", "internal/quickstart", "internal/passwd", "secmod/helper", "secmod/helper/radius", "internal/getopt", "internal/doctor", "internal/rolelog", "internal/occtl", "internal/getopt", "internal/build"},
	"cmd/rocserv-worker":  {"worker", "internal/build"},
	"mainproc":            {"internal/secret", "internal/capacity", "mainproc/scripts", "internal/build", "internal/ipc", "internal/config", "internal/lease", "internal/ban", "internal/session", "internal/control", "internal/sandbox", "internal/rolelog", "internal/wire/dtlshello", "internal/wire/proxyproto", "internal/nat64", "internal/slack"},
	"worker":              {"internal/secret", "internal/wire", "internal/dtlsrecord", "internal/packet", "internal/pipe", "internal/moderation", "internal/ipc", "internal/rolelog", "secmod/secclient", "netstack", "nat", "egress", "internal/blocklist", "internal/sandbox", "internal/slack", "worker"},
	"secmod":              {"internal/secret", "internal/ipc", "internal/config", "internal/session", "internal/sandbox", "internal/rolelog", "internal/ocpasswd", "internal/oath", "internal/blocklist", "secmod/keys", "secmod/attempts"},
	"netstack":            {"internal/packet", "nat", "egress", "netstack"},
	"egress":              {"internal/secret", "internal/packet", "internal/moderation", "internal/nat64", "internal/blocklist", "egress"},
	"secmod/keys":         {},
	"secmod/attempts":     {"internal/ban"},
	"secmod/secclient":    {"internal/ipc"},
	"internal/build":      {"internal/ipc"},
	"internal/doctor":     {"internal/build", "internal/capacity", "internal/config", "internal/sandbox"},
	"internal/config":     {"internal/secret"},
	"internal/ipc":        {"internal/secret"},
	"internal/control":    {},
	"internal/occtl":      {"internal/control"},
	"secmod/helper":       {"internal/secret", "internal/ipc", "internal/rolelog", "internal/sandbox", "secmod/helper"},
	"internal/passwd":     {"internal/getopt", "internal/ocpasswd", "internal/oath", "internal/rewrite"},
	"internal/oath":       {"internal/secret", "internal/rewrite"},
	"internal/quickstart": {"internal/ocpasswd", "internal/config"},
	"test":                {"*"},

	"internal/config/reference": {"internal/config"},
}

// mustNotReach says what a package must never depend on, through anybody, and why.
var mustNotReach = []struct {
	from, to, except, why string
}{
	{"secmod", "rocserv/netstack", "", "the process with the keys has no network stack"},
	{"secmod", "rocserv/worker", "", "the process with the keys shares no code with who faces clients"},
	{"secmod", "rocserv/nat", "", "the process with the keys has no network stack"},
	{"secmod", "rocserv/egress", "", "the process with the keys opens no sockets"},
	{"secmod", "rocserv/internal/wire", "", "the process with the keys parses nothing of clients"},
	{"secmod", "gvisor.dev/gvisor", "", "the process with the keys has no network stack"},
	{"secmod", "github.com/pion", "", "the process with the keys has no network stack"},
	{"secmod", "net/http", "", "the process with the keys parses no HTTP"},
	{"secmod", "encoding/xml", "", "the process with the keys parses no XML"},
	{"secmod", "rocserv/secmod/helper", "", "what talks to servers runs in another process"},
	{"worker", "rocserv/secmod", "rocserv/secmod/secclient", "a worker never holds long-term keys or the session store"},
	{"worker", "rocserv/mainproc", "", "a worker knows its own client only"},
	{"cmd/rocserv-worker", "rocserv/secmod", "rocserv/secmod/secclient", "a worker's program has nothing of another role"},
	{"cmd/rocserv-worker", "rocserv/mainproc", "", "a worker's program has nothing of another role"},
	{"cmd/rocserv-worker", "rocserv/internal/config", "", "a worker reads no configuration"},
	{"cmd/rocserv-worker", "rocserv/internal/control", "", "a worker's program is no command"},
	{"cmd/rocserv-worker", "github.com/urfave", "", "a worker's program is no command"},
	{"cmd/rocserv-worker", "github.com/go-ldap", "", "who logs in by which server is a helper's"},
	{"cmd/rocserv-worker", "github.com/jcmturner", "", "who logs in by which server is a helper's"},
	{"cmd/rocserv-worker", "github.com/coreos", "", "who logs in by which server is a helper's"},
	{"nat", "net", "net/netip", "decisions are pure"},
	{"nat", "gvisor.dev/gvisor", "", "decisions are pure"},
	{"netstack", "rocserv/worker", "", "the stack knows IP packets only"},
	{"netstack", "rocserv/internal/wire", "", "the stack knows IP packets only"},
	{"netstack", "rocserv/internal/ipc", "", "the stack knows IP packets only"},
	{"mainproc", "crypto/tls", "", "main does not parse what clients send"},
	{"mainproc", "net/http", "", "main does not parse what clients send"},
	{"mainproc", "encoding/xml", "", "main does not parse what clients send"},
	{"mainproc", "github.com/pion", "", "main does not parse what clients send"},
	{"mainproc", "gvisor.dev/gvisor", "", "main has no network stack"},
	{"mainproc", "rocserv/worker", "", "main runs no code of who faces clients"},
	{"mainproc", "rocserv/secmod", "", "main runs no code of who holds keys"},
	{"mainproc", "rocserv/netstack", "", "main has no network stack"},
	{"mainproc", "rocserv/nat", "", "main has no network stack"},
	{"mainproc", "rocserv/egress", "", "main opens no sockets for clients"},
}

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
	Doc        string
	GoFiles    []string
}

// list runs go list over our packages.
func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps=false", "-json=ImportPath,Imports,Deps,Doc,GoFiles", module+"/...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		var ee *exec.ExitError
		if errors.As(err, &ee) {
			t.Fatalf("go list: %s", ee.Stderr)
		}
		t.Fatal(err)
	}
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("go list knows %d packages of ours", len(all))
	}
	return all
}

// row finds the most specific row for a package.
func row(path string) []string {
	for ; path != ""; path = path[:max(strings.LastIndexByte(path, '/'), 0)] {
		if r, ok := mayImport[path]; ok {
			return r
		}
	}
	return nil
}

func allowed(from, to string) bool {
	for _, r := range row(from) {
		if r == "*" || r == to {
			return true
		}
		// A row's own tree, for packages that are made of several.
		if strings.HasPrefix(to, r+"/") && (r == "worker" || r == "netstack" || r == "egress" || r == "secmod/helper") {
			return true
		}
	}
	return false
}

func TestWhoImportsWhom(t *testing.T) {
	for _, p := range list(t) {
		from := strings.TrimPrefix(p.ImportPath, module+"/")
		for _, imp := range p.Imports {
			to, ours := strings.CutPrefix(imp, module+"/")
			if ours && !allowed(from, to) {
				t.Errorf("%s imports %s: no row of the table allows it", from, to)
			}
		}
	}
}

func TestWhoNeverReachesWhat(t *testing.T) {
	all := list(t)
	for _, rule := range mustNotReach {
		found := false
		for _, p := range all {
			from := strings.TrimPrefix(p.ImportPath, module+"/")
			if from != rule.from && !strings.HasPrefix(from, rule.from+"/") || from == "secmod/secclient" || strings.HasPrefix(from, "secmod/helper/") || from == "secmod/helper" {
				continue
			}
			found = true
			for _, dep := range p.Deps {
				if under(dep, rule.to) && (rule.except == "" || !under(dep, rule.except)) && dep != p.ImportPath {
					t.Errorf("%s reaches %s: %s", from, dep, rule.why)
				}
			}
		}
		if !found {
			t.Errorf("no package %s: the rule checks nothing", rule.from)
		}
	}
}

func under(path, tree string) bool {
	return path == tree || strings.HasPrefix(path, tree+"/")
}

// Only egress opens sockets for clients: nobody else on a worker's side calls
// what makes one.
func TestOnlyEgressOpensSockets(t *testing.T) {
	openers := []string{"net.Dial", "net.DialTCP", "net.DialUDP", "net.Listen", "net.ListenUDP", "net.ListenPacket", "net.Dialer", "unix.Socket(", "syscall.Socket(", "net.ListenTCP", "net.DialTimeout"}
	for _, p := range list(t) {
		from := strings.TrimPrefix(p.ImportPath, module+"/")
		if !slices.ContainsFunc([]string{"worker", "netstack", "nat", "internal/wire", "internal/packet", "internal/dtlsrecord"}, func(tree string) bool { return under(from, tree) }) {
			continue
		}
		for _, f := range p.GoFiles {
			src := read(t, "../../"+from+"/"+f)
			for _, o := range openers {
				if strings.Contains(src, o) && !strings.HasSuffix(from, "test") {
					t.Errorf("%s/%s uses %s: only egress opens sockets for clients", from, f, o)
				}
			}
		}
	}
}
