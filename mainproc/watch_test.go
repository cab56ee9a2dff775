package mainproc

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"rocserv/internal/config"
)

// mounted is a folder as Kubernetes mounts it: files are links to ..data/FILE,
// and ..data is a link to a folder with a date for a name.
type mounted struct {
	*testing.T
	dir string
}

func (m mounted) swap(version, content string) {
	must(os.Mkdir(filepath.Join(m.dir, version), 0o755))
	must(os.WriteFile(filepath.Join(m.dir, version, "tls.crt"), []byte(content), 0o644))
	must(os.Symlink(version, filepath.Join(m.dir, "..new")))
	must(os.Rename(filepath.Join(m.dir, "..new"), filepath.Join(m.dir, "..data")))
}

func mount(t *testing.T, dir string) (m mounted, file string) {
	m = mounted{t, dir}
	m.swap("..1", "one")
	file = filepath.Join(dir, "tls.crt")
	must(os.Symlink("..data/tls.crt", file))
	return m, file
}

func TestWatcher(t *testing.T) {
	m, file := mount(t, t.TempDir())
	plain := filepath.Join(m.dir, "plain")
	must(os.WriteFile(plain, []byte("x"), 0o644))
	files := []string{file, plain, "", filepath.Join(m.dir, "missing")}
	w := new(watcher)
	look := func(what string, want ...bool) {
		t.Helper()
		for i, want := range want {
			if got := w.look(files); got != want {
				t.Errorf("%s, look %d: %v", what, i, got)
			}
		}
	}
	look("nothing has changed", false, false, false)
	m.swap("..2", "one")
	look("a mount was swapped", false, true, false, false)
	must(os.Remove(plain))
	look("a file is being replaced", false, false)
	must(os.WriteFile(plain, []byte("longer"), 0o644))
	look("and is there again", false, true, false)
	m.swap("..3", "two")
	look("the first of two files", false)
	must(os.WriteFile(plain, []byte("longer still"), 0o644))
	look("the second of two files", false, true, false)
	files = files[:1]
	look("another configuration", false, false)
}

func TestWatched(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "ocserv.conf")
	must(os.WriteFile(conf, nil, 0o644))
	link := filepath.Join(dir, "link")
	must(os.Symlink(conf, link))
	c := &config.Config{Vhosts: []*config.Vhost{{Keys: []config.KeyPair{{Cert: "c", Key: "k"}}, CACert: "ca", OCSPResponse: "o", PinFile: "p",
		Auth:       []config.Method{{Name: "plain", Options: map[string]string{"passwd": "users"}}},
		EnableAuth: []config.Method{{Name: "gssapi", Options: map[string]string{"keytab": "FILE:tab"}}},
		Acct:       []config.Method{{Name: "radius", Options: map[string]string{"config": "radcli", "nas-identifier": "vpn"}}}}, {}}}
	for name, want := range map[string]string{conf: "c k ca o p tab radcli servers", link: link + " c k ca o p tab radcli servers"} {
		if got := strings.TrimSpace(strings.Join(watched(name, c, []string{"servers"}), " ")); strings.Join(strings.Fields(got), " ") != want {
			t.Errorf("of %s: %q", name, got)
		}
	}
}

// A file that is replaced takes effect by itself; a broken one is said once and
// leaves what is in effect alone.
func TestWatchedFileReloads(t *testing.T) {
	cfg := defaults()
	r := prepare(t, cfg)
	must(os.Mkdir(filepath.Join(r.dir, "tls"), 0o777))
	must(os.Chmod(filepath.Join(r.dir, "tls"), 0o777))
	m, file := mount(t, filepath.Join(r.dir, "tls"))
	cfg.Config.Global.WatchFiles = true
	cfg.Config.Vhosts[0].Keys = []config.KeyPair{{Cert: file}}
	r.configure(cfg)
	r.launch()
	r.waitLog("initialized rocserv test")
	m.swap("..2", "one")
	r.waitLog("configuration reloaded generation=2")
	cfg.SecMod.Refuse = "broken certificate"
	r.configure(cfg)
	m.swap("..3", "two")
	r.waitLog("broken certificate")
	r.waitLog(msgReloadFailed)
	cfg.SecMod.Refuse = ""
	r.configure(cfg)
	m.swap("..4", "three")
	r.waitLog("configuration reloaded generation=4")
	r.stop()
}

// TestReloadElsewhere: where sec-mod cannot open what a new configuration names,
// another one takes its place, with all sessions.
func TestReloadElsewhere(t *testing.T) {
	cfg := defaults()
	r := start(t, cfg)
	a, b := r.dial(), r.dial()
	b.ask("hello")
	sid := testSID(sidGood, 1, 0, false, 1)
	if got := a.open(sid); !strings.HasPrefix(got, "ok ") {
		t.Fatal(got)
	}
	old := r.children(roleSecMod.arg)[0]
	cfg.SecMod.Elsewhere, cfg.SecMod.Refuse = true, "and broken"
	r.configure(cfg)
	r.reload()
	r.waitLog(msgReloadFailed)
	if now := r.children(roleSecMod.arg); len(now) != 1 || now[0] != old {
		t.Errorf("sec-mods of a broken configuration: %v, before %d", now, old)
	}
	cfg.SecMod.Refuse = ""
	r.configure(cfg)
	r.reload()
	r.waitLog("configuration reloaded generation=3")
	for _, c := range []*peer{a, b} {
		if got := c.line(); got != "secmod" {
			t.Fatalf("a worker was told %q", got)
		}
		if got := c.ask("sign"); !strings.HasPrefix(got, "signed") {
			t.Errorf("the new sec-mod answers %q", got)
		}
	}
	if now := r.children(roleSecMod.arg); len(now) != 1 || now[0] == old {
		t.Errorf("sec-mods: %v, before %d", now, old)
	}
	if got := b.open(sid); !strings.Contains(got, "gen=2") {
		t.Errorf("reconnect: %q", got)
	}
	if strings.Contains(r.log.String(), msgSecModDied) {
		t.Error("it is called a death")
	}
	r.stop()
}

func (r *running) reload() { must(r.cmd.Process.Signal(syscall.SIGHUP)) }
