package build

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// programs makes two files that could be the server's program and the worker's.
func programs(t *testing.T) (server, worker string) {
	dir := t.TempDir()
	server, worker = filepath.Join(dir, "rocserv"), filepath.Join(dir, WorkerName)
	must(t, os.WriteFile(server, nil, 0o755))
	must(t, os.WriteFile(worker, nil, 0o755))
	return server, worker
}

// TestWorker: the file beside is opened, as it is now, for a program's own name and
// for a link of /proc.
func TestWorker(t *testing.T) {
	server, worker := programs(t)
	link := filepath.Join(t.TempDir(), "exe")
	must(t, os.Symlink(server, link))
	must(t, os.Chmod(worker, 0o111)) // nobody need be able to read it
	for _, exe := range []string{server, link} {
		f, err := Worker(exe)
		if err != nil {
			t.Fatal(err)
		}
		must(t, os.WriteFile(worker+".new", nil, 0o755))
		must(t, os.Rename(worker+".new", worker))
		if to, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(f.Fd()))); err != nil || to != worker+" (deleted)" || f.Name() != worker {
			t.Errorf("%s: it is %s, %s: %v", exe, to, f.Name(), err)
		}
		f.Close()
	}
	must(t, os.Remove(worker))
	if _, err := Worker(server); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), worker) {
		t.Errorf("without a file: %v", err)
	}
}

// TestWorkerOfOthers: nobody's file is run who could not have made the server's.
func TestWorkerOfOthers(t *testing.T) {
	const nobody, somebody = 65534, 65533
	for _, tt := range []struct {
		name   string
		root   bool // root alone can make it so
		change func(server, worker string) error
		want   error
	}{
		{"as it is", false, func(string, string) error { return nil }, nil},
		{"its group may write", false, func(_, w string) error { return os.Chmod(w, 0o775) }, errWriteable},
		{"all may write", false, func(_, w string) error { return os.Chmod(w, 0o757) }, errWriteable},
		{"the group may write both", false, func(s, w string) error { return errors.Join(os.Chmod(s, 0o775), os.Chmod(w, 0o775)) }, nil},
		{"a folder", false, func(_, w string) error { return errors.Join(os.Remove(w), os.Mkdir(w, 0o755)) }, errNoFile},
		{"somebody's beside root's", true, func(_, w string) error { return os.Chown(w, nobody, nobody) }, errStrange},
		{"somebody's beside another's", true, func(s, w string) error {
			return errors.Join(os.Chown(s, somebody, somebody), os.Chown(w, nobody, nobody))
		}, errStrange},
		{"both somebody's", true, func(s, w string) error {
			return errors.Join(os.Chown(s, somebody, somebody), os.Chown(w, somebody, somebody))
		}, nil},
		{"root's beside somebody's", true, func(s, _ string) error { return os.Chown(s, somebody, somebody) }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.root && os.Getuid() != 0 {
				t.Skip("only root can give files away")
			}
			server, worker := programs(t)
			must(t, tt.change(server, worker))
			f, err := Worker(server)
			if !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			f.Close()
		})
	}
}

// TestFingerprint: it is one line, has the version, and another version's is another.
func TestFingerprint(t *testing.T) {
	own := Fingerprint()
	if !strings.HasPrefix(own, Version+" ") || strings.Contains(own, "\n") || own != Fingerprint() {
		t.Errorf("%q", own)
	}
	defer func(v string) { Version = v }(Version)
	Version = "another"
	_, sum, _ := strings.Cut(own, " ")
	if strings.HasSuffix(Fingerprint(), sum) {
		t.Error("of another version it is the same")
	}
}
