package secmod

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"rocserv/internal/config"
	"rocserv/internal/sandbox"
)

// confinements is what a Confine was confinements for.
type confinements struct {
	mu    sync.Mutex
	files []sandbox.Files
}

func (a *confinements) add(f sandbox.Files) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.files = append(a.files, f)
}

func (a *confinements) all() []sandbox.Files {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.files)
}

// confined gives a rig a Confine that remembers, and takes layers away.
func confined(got *confinements, missing ...string) func(*server) {
	return func(s *server) {
		s.Confine = func(f sandbox.Files) (sandbox.Report, error) {
			got.add(f)
			return sandbox.Report{Reached: []string{"all"}, Missing: missing}, nil
		}
	}
}

// TestConfinedToItsFiles: what a configuration names is all that is left, from
// before anything is opened.
func TestConfinedToItsFiles(t *testing.T) {
	st := newSite(t, hashOf(t, "anna", "*", "secret"))
	dir := realPath(st.dir)
	users := filepath.Join(dir, "per-user")
	if err := os.Mkdir(users, 0o700); err != nil {
		t.Fatal(err)
	}
	other := newSite(t)
	st.add("config-per-user = "+users, "default-user-config = "+other.write("default", ""))
	var log confinements
	r := newRig(t, confined(&log))
	if rep := r.configure(1, st.text()); rep.Error != "" {
		t.Fatal(rep.Error)
	}
	got := log.all()
	if len(got) != 1 {
		t.Fatalf("confined %d times", len(got))
	}
	if got[0].Write != nil {
		t.Errorf("may write to %v", got[0].Write)
	}
	read := []string{dir, realPath(other.dir)}
	if ca := systemCA(); ca != "" {
		read = append(read, sandbox.Folders(ca)...)
	}
	slices.Sort(read)
	read = slices.Compact(read)
	if !slices.Equal(got[0].Read, read) || !slices.Equal(got[0].List, []string{users}) {
		t.Errorf("files %+v, want %v and %s", got[0], read, users)
	}
	if rep := r.configure(2, st.text()); rep.Error != "" || len(log.all()) != 1 {
		t.Errorf("the same again: %q, confined %d times", rep.Error, len(log.all()))
	}
}

// TestReloadOutside: a file that cannot be opened any more is an error that
// says what to do, and what is in effect stays.
func TestReloadOutside(t *testing.T) {
	st, other := newSite(t, hashOf(t, "anna", "*", "secret")), newSite(t)
	other.write("users", "")
	outside := strings.ReplaceAll(string(st.text()), st.path("users"), other.path("users"))
	folder := string(st.text()) + "config-per-user = " + other.dir + "\n"
	for _, tt := range []struct {
		name, conf string
		missing    []string
		want       string // of the error
	}{
		{"file", outside, nil, other.path("users")},
		{"folder", folder, nil, other.dir},
		{"file, without Landlock", outside, []string{"Landlock"}, ""},
		{"inside", strings.ReplaceAll(string(st.text()), "cookie-timeout = 300", "cookie-timeout = 301"), nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got confinements
			r := newRig(t, confined(&got, tt.missing...))
			if rep := r.configure(1, st.text()); rep.Error != "" {
				t.Fatal(rep.Error)
			}
			rep := r.configure(2, []byte(tt.conf))
			if tt.want == "" {
				if rep.Error != "" {
					t.Error(rep.Error)
				}
				return
			}
			if !strings.Contains(rep.Error, tt.want) || !strings.Contains(rep.Error, "restart") {
				t.Errorf("error %q", rep.Error)
			}
			if r.s.gens.Load().current.number != 1 {
				t.Error("it is in effect")
			}
			r.alive()
		})
	}
}

// TestKeepsUsedPasswords: only the folder of the file that sec-mod itself
// changes can be written to.
func TestKeepsUsedPasswords(t *testing.T) {
	dir := realPath(t.TempDir())
	c := &config.Config{Vhosts: []*config.Vhost{{
		Auth: []config.Method{{Name: "plain", Options: map[string]string{"passwd": "/etc/users", "otp": filepath.Join(dir, "otp")}}},
	}}}
	if f := filesOf(c); !slices.Equal(f.Write, []string{dir}) || !slices.Contains(f.Read, "/etc") {
		t.Errorf("%+v", f)
	}
	f := &fence{dirs: []string{"/etc", dir}, write: []string{dir}, enforce: true}
	if err := f.check(c); err != nil {
		t.Error(err)
	}
	f.write = nil
	if err := f.check(c); err == nil || !strings.Contains(err.Error(), "written") {
		t.Errorf("error %v", err)
	}
}
