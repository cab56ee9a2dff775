package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// Files are what a process may still open, as folders: a file that is replaced
// by a rename, as tools replace them, is another file to Landlock.
type Files struct {
	Read  []string // files below them can be read
	List  []string // and the folders themselves opened
	Write []string // and files made, changed and removed
	Exact []string // these files can be read, as they are now: what a rename puts there cannot
}

const (
	readFile  = landlock.AccessFSSet(ll.AccessFSReadFile)
	readDir   = landlock.AccessFSSet(ll.AccessFSReadDir)
	writeFile = landlock.AccessFSSet(ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSMakeReg | ll.AccessFSRemoveFile)
)

// firstScoped is the Landlock version that confines signals and abstract sockets.
const firstScoped = 6

var errNoLandlock = errors.New("the kernel has none, or a container's filter hides it")

// LandlockABI is the version that the kernel gives this process, 0 for none.
func LandlockABI() int {
	v, err := ll.LandlockGetABIVersion()
	if err != nil {
		return 0
	}
	return max(v, 0)
}

// firstAtOnce is the version with which the kernel confines all threads by one call.
const firstAtOnce = 8

// restrict applies Landlock to all threads and says what it reached.
func (f Files) restrict() (reached string, err error) {
	abi := LandlockABI()
	if abi == 0 {
		return "Landlock", errNoLandlock
	}
	scoped := landlock.V6.Scoped
	reached = fmt.Sprintf("Landlock %d", abi)
	if abi >= firstScoped && !threadsMaySignal() {
		scoped &^= landlock.ScopedSet(ll.ScopeSignal)
		reached += " without signals"
	}
	if len(f.Read)+len(f.List)+len(f.Write)+len(f.Exact) == 0 && abi < firstAtOnce && !withC {
		return reached, takeAll(abi, scoped)
	}
	return reached, f.leave(scoped)
}

// leave takes everything but the files.
func (f Files) leave(scoped landlock.ScopedSet) error {
	cfg, err := landlock.NewConfig(handled(), scoped)
	if err != nil {
		return err
	}
	var rules []landlock.Rule
	for _, r := range []struct {
		paths  []string
		access landlock.AccessFSSet
	}{{f.Read, readFile}, {f.List, readFile | readDir}, {f.Write, readFile | readDir | writeFile}} {
		if dirs := present(r.paths, unix.O_DIRECTORY); len(dirs) > 0 {
			rules = append(rules, landlock.PathAccess(r.access, dirs...))
		}
	}
	if files := present(f.Exact, 0); len(files) > 0 {
		rules = append(rules, landlock.PathAccess(readFile, files...))
	}
	return cfg.BestEffort().Restrict(rules...)
}

// handled is what can be done with files, as of the last version that is known here.
func handled() landlock.AccessFSSet { return landlock.V9.HandledAccessFS }

// takeAll is leave without files to leave, for a worker: the same two calls to the
// kernel. The library sets no_new_privs in every thread in between, which here all
// have (Prepare; without it the kernel refuses), and so stops each once more: 0.15 ms
// of a worker's start.
func takeAll(abi int, scoped landlock.ScopedSet) error {
	of := [firstAtOnce]landlock.Config{1: landlock.V1, landlock.V2, landlock.V3, landlock.V4, landlock.V5, landlock.V6, landlock.V7}[abi]
	fd, err := ll.LandlockCreateRuleset(&ll.RulesetAttr{
		HandledAccessFS: uint64(handled() & of.HandledAccessFS),
		Scoped:          uint64(scoped & of.Scoped),
	}, 0)
	if err != nil {
		return fmt.Errorf("landlock_create_ruleset: %w", err)
	}
	defer unix.Close(fd)
	if err := ll.AllThreadsLandlockRestrictSelf(fd, 0); err != nil {
		return fmt.Errorf("landlock_restrict_self: %w", err)
	}
	return nil
}

// present leaves out what cannot be opened anyway: it must not cost the others.
func present(paths []string, kind int) []string {
	return slices.DeleteFunc(slices.Clone(paths), func(path string) bool {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC|kind, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err != nil
	})
}

// threadsMaySignal says whether the kernel lets threads of one process signal
// each other although each has a Landlock domain of its own, as go-landlock
// makes them before version 8. The runtime cannot do without. It is erratum 2
// of Linux 6.12 (landlock_create_ruleset(2), LANDLOCK_CREATE_RULESET_ERRATA).
func threadsMaySignal() bool {
	const askErrata, erratum2 = 1 << 1, 1 << 1
	errata, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, askErrata)
	return errno == 0 && errata&erratum2 != 0
}

// Folders returns the folders in which a file is found: its own, and those of
// what symbolic links on the last step lead to, as of now.
func Folders(file string) (dirs []string) {
	const most = 40 // links, as the kernel
	if abs, err := filepath.Abs(file); err == nil {
		file = abs
	}
	for range most {
		dir := filepath.Dir(file)
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			dir = real
		}
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
		to, err := os.Readlink(file)
		if err != nil {
			return dirs
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(dir, to)
		}
		file = to
	}
	return dirs
}
