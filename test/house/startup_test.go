package house

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// The budget of a worker's start: what package initialisation allocates, since
// every worker pays for everything its program links (doc/decisions/0004).
// Bytes and allocations, never time. To raise a number is a decision: say why
// in the commit.
var startup = []struct {
	program       string
	bytes, allocs int
}{
	{"rocserv-worker", 186 << 10, 1010},
	{"rocserv", 254 << 10, 1270}, // where it is all there is; 64 of them the tables of LDAP and RADIUS, 12 KB; 13 those of OpenID, 2 KB
}

// packageBytes is what one package may cost, unless it has a row.
const packageBytes = 24 << 10

// packageBudget has a row for each package that may cost more.
var packageBudget = map[string]int{
	"encoding/gob": 32 << 10, // pion/dtls serialises its state by it

	"github.com/refraction-networking/utls/dicttls": 32 << 10, // names of TLS numbers
}

func TestWorkerStartsWithinItsBudget(t *testing.T) {
	for _, s := range startup {
		t.Run(s.program, func(t *testing.T) {
			bytes, allocs := start(t, s.program)
			if bytes > s.bytes || allocs > s.allocs {
				t.Errorf("start allocates %d bytes in %d allocations; the budget is %d and %d", bytes, allocs, s.bytes, s.allocs)
			}
		})
	}
}

// start is what the initialisation of a program as a worker allocates.
func start(t *testing.T, program string) (bytes, allocs int) {
	bin := filepath.Join(t.TempDir(), program)
	// The build of `make build`.
	build := exec.Command("go", "build", "-trimpath", "-tags", "urfave_cli_no_docs", "-o", bin, "./cmd/"+program)
	build.Dir = "../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	// Without its descriptors a worker ends at once: after initialisation.
	cmd := exec.Command(bin, "__worker")
	cmd.Env = []string{"GODEBUG=inittrace=1"}
	out, _ := cmd.CombinedOutput()
	lines := regexp.MustCompile(`(?m)^init (\S+) @.* clock, (\d+) bytes, (\d+) allocs$`).FindAllStringSubmatch(string(out), -1)
	if len(lines) < 20 {
		t.Fatalf("no init trace in\n%s", out)
	}
	for _, l := range lines {
		b, _ := strconv.Atoi(l[2])
		a, _ := strconv.Atoi(l[3])
		bytes, allocs = bytes+b, allocs+a
		limit, ok := packageBudget[l[1]]
		if !ok {
			limit = packageBytes
		}
		if b > limit {
			t.Errorf("%s allocates %d bytes at start, budget %d", l[1], b, limit)
		}
	}
	t.Logf("%d bytes in %d allocations by %d packages", bytes, allocs, len(lines))
	return bytes, allocs
}
