package secmod

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"os"
	"strings"
	"testing"

	"rocserv/internal/ipc"
	"rocserv/secmod/secclient"
)

// TestFailedReload: an error names the file and the reason, and leaves what is
// in effect alone.
func TestFailedReload(t *testing.T) {
	st := newSite(t, hashOf(t, "anna", "*", "secret"))
	r := boot(t, st)
	other := newSite(t)
	for _, tt := range []struct {
		name string
		conf func() []byte
		want []string
	}{
		{"not a configuration", func() []byte { return []byte("nonsense") }, []string{"ocserv.conf"}},
		{"nothing", func() []byte { return nil }, []string{"ocserv.conf"}},
		{"no key file", func() []byte {
			return []byte(strings.ReplaceAll(string(st.text()), "p256.key", "none.key"))
		}, []string{"none.key", "no such file"}},
		{"another certificate's key", func() []byte {
			return []byte(strings.ReplaceAll(string(st.text()), st.path("p256.key"), other.path("p256.key")))
		}, []string{other.path("p256.key"), "does not belong"}},
		{"no users file", func() []byte {
			return []byte(strings.ReplaceAll(string(st.text()), "/users", "/nobody"))
		}, []string{"nobody", "no such file"}},
		{"users file is a folder", func() []byte {
			return []byte(strings.ReplaceAll(string(st.text()), st.path("users"), st.dir))
		}, []string{"not a regular file"}},
		{"a virtual host's key", func() []byte {
			return append(st.text(), "[vhost:b.example]\nserver-cert = "+st.path("p256.crt")+"\nserver-key = "+st.path("none")+"\n"...)
		}, []string{"vhost:b.example", "none", "no such file"}},
		{"no OCSP response", func() []byte { return append(st.text(), "ocsp-response = "+st.path("users")+"\n"...) }, []string{"ocsp-response", "users"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rep := r.configure(2, tt.conf())
			for _, want := range append(tt.want, "") {
				if rep.Error == "" || !strings.Contains(rep.Error, want) {
					t.Errorf("error %q lacks %q", rep.Error, want)
				}
			}
			if len(rep.Vhosts) != 0 || r.s.gens.Load().current.number != 1 {
				t.Error("something of it is in effect")
			}
			r.alive()
		})
	}
	if rep := r.configure(2, st.text()); rep.Error != "" || r.s.gens.Load().current.number != 2 {
		t.Errorf("a good one afterwards: %v", rep)
	}
}

// TestFirstConfigurationFails: main may try again.
func TestFirstConfigurationFails(t *testing.T) {
	st := newSite(t)
	r := newRig(t)
	if rep := r.configure(1, []byte("nonsense")); rep.Error == "" {
		t.Fatal("nonsense is in effect")
	}
	if rep := r.configure(1, st.text()); rep.Error != "" {
		t.Fatal(rep.Error)
	}
	r.alive()
}

// TestKeysOverReloads: workers that main named around a reload are served with
// the chain they have.
func TestKeysOverReloads(t *testing.T) {
	st := newSite(t)
	r := newRig(t)
	one := r.configure(1, st.text()).Vhosts[0].Chains
	early, _ := r.worker(home) // named before, asks after the reload

	st.conf = st.conf[:len(st.conf)-2]
	st.key("", "second", newPrivate(t, "p256"))
	two := r.configure(2, st.text()).Vhosts[0].Chains
	if one[0].KeyIndex == two[0].KeyIndex {
		t.Fatal("another key has the index of the one before")
	}
	late, _ := r.worker(home) // named by a main that had not yet taken over

	try := func(c *ipc.Conn, chains []*ipc.Chain) error {
		_, err := connect(tlsServer(t, secclient.New(c), "", chains), &tls.Config{InsecureSkipVerify: true})
		return err
	}
	if err := try(early, one); err != nil {
		t.Errorf("worker of the generation before: %v", err)
	}
	if err := try(late, one); err != nil {
		t.Errorf("worker with the chain of the generation before: %v", err)
	}
	fresh, _ := r.worker(home)
	if err := try(fresh, two); err != nil {
		t.Errorf("worker of the new generation: %v", err)
	}

	// A renewed certificate for the same key keeps the index.
	again := r.configure(3, st.text()).Vhosts[0].Chains
	if again[0].KeyIndex != two[0].KeyIndex {
		t.Error("a key that stayed has another index")
	}
	stale, _ := r.worker(home)
	if err := try(stale, one); err == nil {
		t.Error("a key that is two generations old still signs")
	}
}

// TestVhosts: each has its own keys and users; the default one's are taken
// where it has none.
func TestVhosts(t *testing.T) {
	st := newSite(t, hashOf(t, "anna", "*", "secret"))
	st.add("[vhost:b.example]")
	st.key("b.example", "b", newPrivate(t, "ed25519"))
	st.write("busers", hashOf(t, "berta", "*", "secret")+"\n")
	st.add(`auth = "plain[passwd=`+st.path("busers")+`]"`, "cookie-timeout = 60", "[vhost:c.example]")
	r := newRig(t)
	rep := r.configure(1, st.text())
	if rep.Error != "" || len(rep.Vhosts) != 3 {
		t.Fatalf("%v", rep)
	}
	v := rep.Vhosts
	if v[0].Name != "" || v[1].Name != "b.example" || v[2].Name != "c.example" || v[1].Chains[0].Kind != ipc.KeyKind_KEY_ED25519 {
		t.Fatalf("virtual hosts %v", v)
	}
	if v[2].Chains[0].KeyIndex != v[0].Chains[0].KeyIndex {
		t.Error("the same files were loaded twice")
	}
	for _, tt := range []struct {
		vhost  int
		user   string
		want   string
		cookie uint32
	}{{0, "anna", "OK", 300}, {0, "berta", "MSG", 0}, {1, "berta", "OK", 60}, {1, "anna", "MSG", 0}, {2, "anna", "OK", 300}} {
		conn, id := r.worker(home)
		c := secclient.New(conn)
		name := v[tt.vhost].Name
		if _, err := connect(tlsServer(t, c, name, v[tt.vhost].Chains), &tls.Config{InsecureSkipVerify: true}); err != nil {
			t.Fatal(err)
		}
		first, err := c.AuthInit(&ipc.AuthInit{Vhost: name, User: tt.user})
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.AuthCont(first.Sid, []byte("secret"))
		if err != nil || status(got) != tt.want {
			t.Fatalf("%s at %q: %v, %v", tt.user, name, got, err)
		}
		if tt.want == "OK" {
			if rep, _ := r.openSession(got.Sid, id); rep.Vhost != name || rep.CookieTimeoutS != tt.cookie {
				t.Errorf("%s at %q: %v", tt.user, name, rep)
			}
		}
	}
	// A virtual host that a reload takes away takes its cookies along.
	conn, id := r.worker(home)
	req := signReq()
	req.Vhost = "c.example"
	call[ipc.SignRep](t, conn, ipc.SignT, req, ipc.SignRepT)
	first := authInit(t, conn, &ipc.AuthInit{Vhost: "c.example", User: "anna"})
	cookie := authCont(t, conn, first.Sid, "secret").Sid
	if rep := r.configure(2, []byte(strings.TrimSuffix(string(st.text()), "[vhost:c.example]\n"))); rep.Error != "" {
		t.Fatal(rep.Error)
	}
	if rep, _ := r.openSession(cookie, id); rep.Ok {
		t.Error("a session at a virtual host that is no more")
	}
}

func TestConfigurationWarnings(t *testing.T) {
	st := newSite(t, "empty:*:")
	if err := os.Chmod(st.path("p256.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	rep := r.configure(1, st.text())
	all := strings.Join(rep.Warnings, "\n")
	for _, want := range []string{"readable by others", "no password"} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning about %q in %q", want, all)
		}
	}
}

// TestWayKeyWarning: of the key that a proxy is shown as of the server's.
func TestWayKeyWarning(t *testing.T) {
	st := newSite(t, "empty:*:")
	st.write("way.key", string(mustRead(t, st.path("p256.key"))))
	st.add("egress = out https://192.0.2.1 ca=" + st.path("p256.crt") + " client-cert=" + st.path("p256.crt") + " client-key=" + st.path("way.key"))
	warned := func() string {
		rep := newRig(t).configure(1, st.text())
		if rep.Error != "" {
			t.Fatal(rep.Error)
		}
		return strings.Join(rep.Warnings, "\n")
	}
	for _, k := range []struct {
		mode os.FileMode
		want bool
	}{{0o600, false}, {0o640, true}} {
		if err := os.Chmod(st.path("way.key"), k.mode); err != nil {
			t.Fatal(err)
		}
		said := "egress: way out: key " + st.path("way.key") + ": readable by others"
		if all := warned(); strings.Contains(all, said) != k.want {
			t.Errorf("mode %04o: %q", k.mode, all)
		}
	}
}

// TestManyWarningsFit: an answer is never longer than a record.
func TestManyWarningsFit(t *testing.T) {
	st := newSite(t)
	if err := os.Chmod(st.path("p256.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	for i := range 120 { // each with a pair of files of its own
		st.add(fmt.Sprintf("[vhost:v%d.example]", i), "server-cert = "+st.path("p256.crt"),
			"server-key = "+st.dir+strings.Repeat("/.", i+1)+"/p256.key")
	}
	r := newRig(t)
	if rep := r.configure(1, st.text()); rep.Error != "" || len(rep.Warnings) > 101 || !strings.Contains(rep.Warnings[len(rep.Warnings)-1], "more") {
		t.Errorf("%q, %d warnings", rep.Error, len(rep.Warnings))
	}
}

func TestEncryptedKey(t *testing.T) {
	for how, line := range map[string]string{"key-pin": "key-pin = hunter2", "pin-file": "pin-file = PIN", "wrong": "key-pin = hunter3"} {
		t.Run(how, func(t *testing.T) {
			st := newSite(t)
			st.write("pin", "hunter2\n")
			st.conf = st.conf[:len(st.conf)-2]
			st.add("server-cert = keys/testdata/ec-cert.pem", "server-key = keys/testdata/ec-pbes2-aes256.pem",
				strings.Replace(line, "PIN", st.path("pin"), 1))
			r := newRig(t)
			rep := r.configure(1, st.text())
			if how == "wrong" {
				if !strings.Contains(rep.Error, "ec-pbes2-aes256.pem") || strings.Contains(rep.Error, "hunter") {
					t.Errorf("error %q", rep.Error)
				}
				return
			}
			if rep.Error != "" {
				t.Fatal(rep.Error)
			}
			r.alive()
		})
	}
}

// What a worker is told of the camouflage secret tells neither it nor main what
// it is.
func TestCamouflage(t *testing.T) {
	st := newSite(t, "alice:*:x")
	st.add("camouflage = true")
	r := newRig(t)
	if rep := r.configure(1, st.text()); !strings.Contains(rep.Error, "needs a 'camouflage_secret'") {
		t.Fatalf("without a secret: %q", rep.Error)
	}
	st.add("camouflage_secret = open-sesame")
	rep := r.configure(2, st.text())
	b := rep.GetVhosts()[0].GetCamouflage()
	if len(b) != 48 {
		t.Fatalf("%q: camouflage %x", rep.Error, b)
	}
	if sum := sha256.Sum256(append(bytes.Clone(b[:16]), "open-sesame"...)); !bytes.Equal(sum[:], b[16:]) {
		t.Errorf("camouflage %x", b)
	}
}
