package occtl

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// testdata/debian is what occtl 1.1.6 of Debian said of its own server when
// bob and alice were connected.
func debian(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "debian", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Tables are the same to the letter.
func TestTablesAreDebians(t *testing.T) {
	name := fake(t, bob, alice)
	if got, want := occtl(name, "", "show", "users").out, debian(t, "users.text"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	got, _, _ := strings.Cut(occtl(name, "", "show", "sessions", "all").out, "         (none)")
	if want := debian(t, "sessions.text"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

var keyLine = regexp.MustCompile(`(?m)^    "([^"]+)":`)

// Every name of 1.1.6 is there in its order, but for those that ocserv itself
// has renamed since, and for latencies, which are not measured here.
func TestNamesAreDebians(t *testing.T) {
	renamed := map[string]string{"Connected at": "Last connected at", "_Connected at": "_Last connected at"}
	left := []string{"Median latency", "raw_median_latency", "STDEV latency", "raw_stdev_latency"}
	for file, line := range map[string]string{"users.json": "show users", "status.json": "show status"} {
		var ours []string
		for _, m := range keyLine.FindAllStringSubmatch(occtl(fake(t, bob, alice), "", append([]string{"-j"}, strings.Fields(line)...)...).out, -1) {
			ours = append(ours, m[1])
		}
		at, n := -1, 0
		for _, m := range keyLine.FindAllStringSubmatch(debian(t, file), -1) {
			key := m[1]
			if r, ok := renamed[key]; ok {
				key = r
			}
			if slices.Contains(left, key) || key == "Full session" { // moved before Session since
				continue
			}
			i := slices.Index(ours[at+1:], key)
			if i < 0 {
				t.Errorf("%s: %q is not there, or out of order", line, key)
				continue
			}
			at, n = at+1+i, n+1
		}
		if n < 25 {
			t.Errorf("%s: compared %d names", line, n)
		}
	}
}
