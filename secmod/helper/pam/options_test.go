package pam

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOptions(t *testing.T) {
	for want, line := range map[string]map[string]string{
		"":                          {"service": "vpn", "gid-min": "1000"},
		"not the name of a file":    {"service": "../shadow"},
		"no number of a group":      {"gid-min": "-1"},
		"gid-min = x: no number of": {"gid-min": "x"},
	} {
		o, err := readOptions(line)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %+v, %v", line, o, err)
		}
	}
	if o, err := readOptions(nil); err != nil || o.service != "ocserv" {
		t.Errorf("%+v, %v", o, err)
	}
}

// TestCheck: what is missing is named.
func TestCheck(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(filepath.Dir(self), Program)
	if _, err := Check(nil); err == nil || !strings.Contains(err.Error(), program) || !strings.Contains(err.Error(), "make pam") {
		t.Errorf("without the program: %v", err)
	}
	if err := os.WriteFile(program, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(program)
	warnings, err := Check(map[string]string{"service": "no-such-service"})
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "/etc/pam.d/no-such-service") {
		t.Errorf("%v, %v", warnings, err)
	}
}
