package passwd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"rocserv/internal/ocpasswd"
)

const (
	hashA = "$5$saltstringsaltst$jLZQheM22MPm6SnLJWD3VQoX3IEoDyQRzGwNm7I7TtC"
	hashB = "$1$saltsalt$NuzA7WTAelpl95xgBGWN60"
)

func set(user string) func(*ocpasswd.File) error {
	return func(f *ocpasswd.File) error { return f.Set(user, "", hashA) }
}

// want checks the file's content and that nothing else is in its folder.
func want(t *testing.T, path, content string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != content {
		t.Errorf("file is\n%q\nwant\n%q", b, content)
	}
	if _, err := os.Lstat(path + ".tmp"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s.tmp: %v", path, err)
	}
}

func mode(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func TestEdit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocpasswd")
	if err := Edit(path, true, set("u")); err != nil {
		t.Fatal(err)
	}
	want(t, path, "u:*:"+hashA+"\n")
	if m := mode(t, path); m != 0o600 {
		t.Errorf("mode of a new file is %o", m)
	}
	for before, after := range map[fs.FileMode]fs.FileMode{0o666: 0o640, 0o640: 0o640, 0o604: 0o600, 0o400: 0o600, 0o755: 0o640} {
		if err := os.Chmod(path, before); err != nil {
			t.Fatal(err)
		}
		if err := Edit(path, false, set("u")); err != nil {
			t.Fatal(err)
		}
		if m := mode(t, path); m != after {
			t.Errorf("mode was %o, is %o, want %o", before, m, after)
		}
	}
}

func TestEditFailuresLeaveTheFile(t *testing.T) {
	const content = "# mine\nv:*:" + hashB
	boom := errors.New("boom")
	dir := t.TempDir()
	path := filepath.Join(dir, "ocpasswd")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Edit(path, true, func(*ocpasswd.File) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("error of the change: %v", err)
	}
	want(t, path, content)

	missing := filepath.Join(dir, "missing")
	if err := Edit(missing, false, set("u")); !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "cannot open '"+missing+"' for reading") {
		t.Errorf("missing file: %v", err)
	}
	if err := Edit(filepath.Join(missing, "f"), true, set("u")); err == nil || !strings.Contains(err.Error(), "for writing") {
		t.Errorf("missing folder: %v", err)
	}
	if err := Edit(dir, true, set("u")); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder as file: %v", err)
	}
	for _, p := range []string{missing, missing + ".tmp", dir + ".tmp"} {
		if _, err := os.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestEditLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocpasswd")
	err := Edit(path, true, func(f *ocpasswd.File) error {
		inner := Edit(path, true, set("v"))
		if !errors.Is(inner, ErrLocked) || !strings.HasPrefix(inner.Error(), "file '"+path+"' is locked.") {
			t.Errorf("while locked: %v", inner)
		}
		return f.Set("u", "", hashA)
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, path, "u:*:"+hashA+"\n")
}

func TestEditKeepsSymlink(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", link); err != nil {
		t.Fatal(err)
	}
	if err := Edit(link, false, set("u")); err != nil {
		t.Fatal(err)
	}
	want(t, path, "u:*:"+hashA+"\n")
	if to, err := os.Readlink(link); to != "real" {
		t.Errorf("link is %q, %v", to, err)
	}
	// A planted lock is not written through.
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, path+".tmp"); err != nil {
		t.Fatal(err)
	}
	if err := Edit(path, false, set("v")); !errors.Is(err, ErrLocked) {
		t.Errorf("planted lock: %v", err)
	}
	if b, _ := os.ReadFile(victim); string(b) != "x" {
		t.Errorf("victim is %q", b)
	}
}

// Every edit that says it succeeded is in the file at the end, in whole lines.
func TestEditConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocpasswd")
	const writers, each = 8, 10
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				user := fmt.Sprintf("user-%d-%d", w, i)
				err := Edit(path, true, set(user))
				for errors.Is(err, ErrLocked) {
					err = Edit(path, true, set(user))
				}
				if err != nil {
					t.Error(err)
				}
				if b, err := os.ReadFile(path); err != nil || !strings.HasSuffix(string(b), "\n") {
					t.Errorf("a reader saw %d bytes, %v", len(b), err)
				}
			}
		})
	}
	wg.Wait()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := ocpasswd.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Users()) != writers*each || strings.Count(string(b), "\n") != writers*each {
		t.Errorf("%d users in %d lines, want %d", len(f.Users()), strings.Count(string(b), "\n"), writers*each)
	}
	want(t, path, string(b))
}
