package secmod

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestCheck: -t finds what keeps sec-mod from starting, all of it, and what keeps
// users out, each with the file and line.
func TestCheck(t *testing.T) {
	st := newSite(t, hashOf(t, "anna", "staff", "secret"))
	if warnings, err := Check("ocserv.conf", st.text()); len(warnings) > 0 || err != nil {
		t.Fatalf("a good one: %q, %v", warnings, err)
	}
	for _, dir := range []string{"users.d", "groups.d"} {
		if err := os.Mkdir(st.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	st.write("users.d/anna", "explicit-ipv4 = 10.9.0.5\n")
	st.write("users.d/bert", "dns = 192.0.2.1\nroute = nowhere\n")
	st.write("users.d/carl", "explicit-ipv4 = 192.0.2.1\n")
	st.write("users.d/dora", "explicit-ipv4 = 10.9.0.5\ntcp-port = 3\n")
	st.write("groups.d/staff", "no-udp = true\n")
	begin := len(st.conf)
	line := func(n int) string { return fmt.Sprintf("ocserv.conf:%d: ", begin+n) }
	st.add("config-per-user = "+st.path("users.d"), "config-per-group = "+st.path("groups.d"), "default-user-config = "+st.path("none"),
		"select-group = staff", "select-group = board[The board]")
	warnings, err := Check("ocserv.conf", st.text())
	if err != nil {
		t.Error(err)
	}
	want := []string{
		line(5) + "select-group: nobody is in the group 'board'",
		st.path("users.d/bert") + ":2: route 'nowhere' is missing a /prefix, use address/prefix: its sessions are refused",
		st.path("users.d/carl") + ": explicit-ipv4 = 192.0.2.1 is outside of the network 10.9.0.0/16: its sessions are refused",
		st.path("users.d/dora") + ":2: skipping unknown option 'tcp-port'",
		st.path("users.d/dora") + ": 10.9.0.5 is the address of " + st.path("users.d/anna") + " too: only one of them can have a session",
		line(3) + "default-user-config: open " + st.path("none") + ": no such file or directory: sessions that need it are refused",
	}
	if !slices.Equal(warnings, want) {
		t.Errorf("warnings:\n%s\nwant:\n%s", strings.Join(warnings, "\n"), strings.Join(want, "\n"))
	}

	bad := strings.Replace(string(st.text()), "p256.key", "gone", 1) +
		"ocsp-response = " + st.path("gone") + "\n[vhost:b.example]\nserver-cert = " + st.path("users") + "\nserver-key = " + st.path("p256.key") + "\n" +
		"auth = plain[passwd=" + st.path("gone") + "]\n"
	_, err = Check("ocserv.conf", []byte(bad))
	if err == nil {
		t.Fatal("no error")
	}
	errs := strings.Split(err.Error(), "\n")
	for i, want := range []string{"ocserv.conf:8: key: open ", line(6) + "ocsp-response: open ",
		line(8) + "vhost:b.example: certificate " + st.path("users"), line(10) + "vhost:b.example: auth = plain: open "} {
		if !slices.ContainsFunc(errs, func(s string) bool { return strings.HasPrefix(s, want) }) {
			t.Errorf("%d: nothing like %q in\n%s", i, want, err)
		}
	}
}

// TestCheckIRoute: -t says where a network behind a client is reached by nobody.
func TestCheckIRoute(t *testing.T) {
	const network, open = "iroute = 192.168.7.0/24\n", "client-to-client = true\n"
	for name, k := range map[string]struct {
		server, group, user string
		want                []string // files
	}{
		"nowhere":       {"", "no-udp = true\n", network, []string{"users.d/anna"}},
		"for all":       {open, "", network, nil},
		"for the user":  {"", "", network + open, nil},
		"for the group": {"", open, network, nil},
		"not for him":   {open, "", network + "client-to-client = false\n", nil}, // the group's file might, and is there
		"of a group":    {"", network, "", []string{"groups.d/staff"}},
		"of both":       {"", network, network, []string{"groups.d/staff", "users.d/anna"}},
	} {
		t.Run(name, func(t *testing.T) {
			st := newSite(t, hashOf(t, "anna", "staff", "secret"))
			for _, dir := range []string{"users.d", "groups.d"} {
				if err := os.Mkdir(st.path(dir), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			st.write("groups.d/staff", k.group)
			st.write("users.d/anna", k.user)
			st.add("config-per-user = "+st.path("users.d"), "config-per-group = "+st.path("groups.d"), strings.TrimSpace(k.server))
			warnings, err := Check("ocserv.conf", st.text())
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, file := range k.want {
				want = append(want, st.path(file)+": iroute has no effect without client-to-client = true")
			}
			if !slices.Equal(warnings, want) {
				t.Errorf("%q, want %q", warnings, want)
			}
		})
	}
}
