package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKDC(t *testing.T) {
	for _, tt := range []struct {
		line, want string // as it is read back, or a part of the error
	}{
		{"/KdcProxy KERBEROS.REALM tcp@127.0.0.1:88", "/KdcProxy KERBEROS.REALM tcp@127.0.0.1:88"},
		{"/KdcProxy R UDP@[2001:db8::1]:750", "/KdcProxy R udp@[2001:db8::1]:750"},
		{"/KdcProxy R tcp@[2001:db8::1]", "/KdcProxy R tcp@[2001:db8::1]:88"},
		{"/KdcProxy R tcp@kdc.example", "/KdcProxy R tcp@kdc.example:88"},
		{"/a/b R tcp@kdc.example:1", "/a/b R tcp@kdc.example:1"},
		{"", "is not PATH REALM"},
		{"/KdcProxy R", "is not PATH REALM"},
		{"/KdcProxy R tcp@a:1 x", "is not PATH REALM"},
		{"KdcProxy R tcp@a:1", "is no path"},
		{"/ R tcp@a:1", "is no path"},
		{"/a?b R tcp@a:1", "is no path"},
		{"/" + strings.Repeat("a", 255) + " R tcp@a:1", "is no path"},
		{"/a R\xc3\xa9alm tcp@a:1", "is no realm"},
		{"/a R a:1", "is not tcp|udp@HOST:PORT"},
		{"/a R sctp@a:1", "is not tcp|udp@HOST:PORT"},
		{"/a R tcp@", "is not HOST:PORT"},
		{"/a R tcp@:88", "is not HOST:PORT"},
		{"/a R tcp@2001:db8::1", "is not HOST:PORT"},
		{"/a R tcp@a:0", "is no port"},
		{"/a R tcp@a:65536", "is no port"},
		{"/a R tcp@a:x", "is no port"},
	} {
		k, err := parseKDC(tt.line)
		got := k.String()
		if err != nil {
			got = err.Error()
		}
		if got != tt.want && (err == nil || !strings.Contains(got, tt.want)) {
			t.Errorf("%q: %s, want %s", tt.line, got, tt.want)
		}
	}
}

// TestKDCPaths: a virtual host's lines are its own, beside the default's, and a
// path has all of its own.
func TestKDCPaths(t *testing.T) {
	c := mustParse(t, least+`kkdcp = /a R1 tcp@192.0.2.1:88
kkdcp = /a R2 udp@[2001:db8::1]:750
kkdcp = "/b R1 tcp@kdc.example"
[vhost:a.example]
auth = plain[passwd=/a]
kkdcp =
kkdcp = /c R3 tcp@192.0.2.3
`)
	want := map[string]string{"/a": "R1 tcp 192.0.2.1:88\nR2 udp [2001:db8::1]:750\n", "/b": "R1 tcp kdc.example:88\n"}
	for i, want := range []map[string]string{want, {"/c": "R3 tcp 192.0.2.3:88\n"}} {
		got := map[string]string{}
		for path, m := range c.Vhosts[i].KDCPaths() {
			got[path] = m.Options["kdcs"]
			if !m.Remote() {
				t.Errorf("%s: %+v", path, m)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("virtual host %d: - want, + got:\n%s", i, diff)
		}
	}
	if got := problems(t, least+"kkdcp = x\n"); len(got) != 1 || !strings.HasPrefix(got[0], "test.conf:8: vhost:default: kkdcp: 'x' is not PATH REALM") {
		t.Errorf("a malformed line: %q", got)
	}
	if got := problems(t, least+strings.Repeat("kkdcp = /a R tcp@a\n", maxKDCs+1)); len(got) != 1 || !strings.Contains(got[0], "more than 32") {
		t.Errorf("many lines: %q", got)
	}
}
