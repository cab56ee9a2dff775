package house

import (
	"regexp"
	"strings"
	"testing"
)

// Every line of README.md's ledger that says done names a test, and every test
// it names is there.
func TestLedger(t *testing.T) {
	there := testsThere(t)
	named := regexp.MustCompile(`\bTest\w+`)
	rows := 0
	for line := range strings.Lines(read(t, "../../README.md")) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.HasPrefix(strings.TrimSpace(cells[2]), "done") {
			continue
		}
		rows++
		tests := named.FindAllString(cells[3], -1)
		if len(tests) == 0 {
			t.Errorf("no test is named for:%s", cells[1])
		}
		for _, name := range tests {
			if !there[name] {
				t.Errorf("%s is named for:%sthere is no such test", name, cells[1])
			}
		}
	}
	if rows < 20 {
		t.Errorf("found %d rows", rows)
	}
}
