package control

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func listenAt(t *testing.T, places ...string) (*Socket, error) {
	t.Helper()
	s, passed, err := Listen(places)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, passed
}

func TestStaleSocketIsReplaced(t *testing.T) {
	name := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	s, passed := listenAt(t, name)
	if passed != nil || s.Name != name {
		t.Fatalf("at %s, because %v", s.Name, passed)
	}
	if st, _ := os.Stat(name); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
}

func TestLiveSocketIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	first, _ := listenAt(t, filepath.Join(dir, "s"))
	second, passed := listenAt(t, first.Name, filepath.Join(dir, "own", "s"))
	if second.Name == first.Name || passed == nil || !strings.Contains(passed.Error(), "another server") {
		t.Fatalf("second at %s, because %v", second.Name, passed)
	}
	if st, err := os.Stat(filepath.Dir(second.Name)); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("its directory: %v, %v", st, err)
	}
	// Whoever comes later and finds the first one gone may take its place; the
	// first one's end must not take that away.
	os.Remove(first.Name)
	third, _ := listenAt(t, first.Name)
	first.Close()
	if _, err := os.Lstat(third.Name); err != nil {
		t.Errorf("the first one's end removed the third's socket: %v", err)
	}
}

func TestPlacesThatAreNone(t *testing.T) {
	dir := t.TempDir()
	file, good := filepath.Join(dir, "file"), filepath.Join(dir, "good")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	os.Chmod(open, 0o777)
	link := filepath.Join(dir, "link")
	os.Symlink(open, link)
	for name, why := range map[string]string{
		file:                            "no socket",
		filepath.Join(dir, "none", "s"): "no such file",
		"/" + strings.Repeat("d/", 60):  "at most",
		filepath.Join(file, "s"):        "not a directory",
	} {
		s, passed, err := Listen([]string{name, filepath.Join(good, "s")})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s.Close()
		if passed == nil || !strings.Contains(passed.Error(), why) {
			t.Errorf("%s: passed for %v, want %q", name, passed, why)
		}
	}
	for _, trap := range []string{open, link} {
		if _, _, err := Listen([]string{file, filepath.Join(trap, "s")}); err == nil {
			t.Errorf("a socket in %s, which others can write", trap)
		}
	}
	if b, _ := os.ReadFile(file); string(b) != "precious" {
		t.Error("the file is gone")
	}
}

func TestPlaces(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "/run/x")
	if got := Places("/a/b"); got[0] != "/a/b" || got[1] != "/run/x/rocserv/occtl.socket" {
		t.Errorf("%q", got)
	}
	t.Setenv("XDG_RUNTIME_DIR", "relative")
	if got := Places(""); got[0] != DefaultFile || slices.Contains(got, "relative/rocserv/occtl.socket") {
		t.Errorf("%q", got)
	}
}

func TestDialError(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing")
	_, err := Dial(missing, filepath.Join(dir, "missing2"))
	if want := "error connecting to ocserv socket '" + missing + "': no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not ErrNotExist", err)
	}
	stale := filepath.Join(dir, "stale")
	l, _ := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err = Dial(missing, stale); err == nil || !strings.Contains(err.Error(), stale) {
		t.Errorf("%v does not name the one that is there", err)
	}
}
