package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rocserv/internal/config"
)

// TestCheckHelpers: -t tells of what login helpers cannot read, of each line once
// and with its place.
func TestCheckHelpers(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "gone")
	parse := func(lines ...string) *config.Config {
		t.Helper()
		text := "tcp-port = 443\nsocket-file = /run/x\ndevice = vpns\nipv4-network = 10.9.0.0/16\nserver-cert = /c\nserver-key = /k\n" + strings.Join(lines, "\n") + "\n"
		c, err := config.Parse("ocserv.conf", []byte(text), config.SecMod)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := parse("auth = ldap[config="+gone+"]", "enable-auth = gssapi[keytab="+gone+"]",
		"[vhost:a.example]", "[vhost:b.example]", "auth = radius[config="+gone+"]")
	var want []string
	for _, w := range []struct {
		line int
		name string
	}{{7, "ldap"}, {8, "gssapi"}, {11, "radius"}} {
		prefix := map[string]string{"gssapi": "keytab: "}[w.name]
		want = append(want, fmt.Sprintf("ocserv.conf:%d: auth = %s: %sopen %s: no such file or directory", w.line, w.name, prefix, gone))
	}
	_, err := checkHelpers(c)
	if err == nil || err.Error() != strings.Join(want, "\n") {
		t.Errorf("%v\nwant\n%s", err, strings.Join(want, "\n"))
	}
	var files []string
	for _, name := range []string{"one", "two"} {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte("acctserver 127.0.0.1:9:x\ndynauth-listen 3799\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	_, err = checkHelpers(parse("auth = plain[passwd="+gone+"]", "acct = radius[config="+files[0]+"]", "[vhost:a.example]", "acct = radius[config="+files[1]+"]",
		"[vhost:b.example]", "acct = radius[config="+files[0]+"]"))
	if err == nil || !strings.HasPrefix(err.Error(), "ocserv.conf:10: acct = radius: "+files[1]+": dynauth-listen: "+files[0]+" hears ") || strings.Contains(err.Error(), "\n") {
		t.Errorf("one port for two: %v", err)
	}
	if warnings, err := checkHelpers(parse("auth = plain[passwd=" + gone + "]")); len(warnings) > 0 || err != nil {
		t.Errorf("without helpers: %q, %v", warnings, err)
	}
}
