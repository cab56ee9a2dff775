package helper

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, n := range map[string]int{"empty": 0, "full": 100, "long": 101} {
		if err := os.WriteFile(path(name), make([]byte, n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(path("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"empty": "", "full": "", "long": "more than 100 bytes", "pipe": "not a regular file", ".": "not a regular file", "none": "no such file",
	} {
		b, err := ReadFile(path(name), 100)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) || name == "full" && len(b) != 100 {
			t.Errorf("%s: %d bytes, %v, want %q", name, len(b), err, want)
		}
	}
}
