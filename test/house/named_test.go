package house

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// testsThere are the names of all tests and fuzzers.
func testsThere(t *testing.T) map[string]bool {
	t.Helper()
	there := map[string]bool{}
	define := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	walk(t, func(name string) {
		if strings.HasSuffix(name, "_test.go") {
			for _, m := range define.FindAllStringSubmatch(read(t, name), -1) {
				there[m[1]] = true
			}
		}
	})
	return there
}

func walk(t *testing.T, fn func(name string)) {
	t.Helper()
	err := filepath.WalkDir("../..", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			fn(name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Every test that a doc.go or a page of doc/ names is there.
func TestNamedTestsExist(t *testing.T) {
	there := testsThere(t)
	named := regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`)
	pages, names := 0, 0
	walk(t, func(name string) {
		page := filepath.Base(name) == "doc.go" || strings.HasPrefix(name, "../../doc/") && strings.HasSuffix(name, ".md")
		if !page {
			return
		}
		pages++
		for _, n := range named.FindAllString(read(t, name), -1) {
			names++
			if !there[n] {
				t.Errorf("%s names %s; there is no such test", strings.TrimPrefix(name, "../../"), n)
			}
		}
	})
	if pages < 40 || names < 60 {
		t.Errorf("found %d pages and %d names of tests", pages, names)
	}
}
