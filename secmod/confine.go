package secmod

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"rocserv/internal/config"
	"rocserv/internal/sandbox"
)

// fence is what sec-mod can still open once it is confined. It can become
// narrower, never wider (landlock(7)), so a later configuration that names a
// file elsewhere needs a new sec-mod: main starts one.
type fence struct {
	dirs    []string // with all that is below
	write   []string // those of them where files can be changed
	enforce bool     // by the kernel
}

// confine gives up every file that the configuration does not name. It is
// called with every configuration, after it is parsed and before anything it
// names is opened: the first is confined to, the others must fit.
func (s *server) confine(c *config.Config) error {
	if s.Confine == nil {
		return nil
	}
	files := filesOf(c)
	if s.fence != nil {
		return s.fence.check(c)
	}
	rep, err := s.Confine(files)
	if err != nil {
		return err
	}
	s.fence = &fence{dirs: slices.Concat(files.Read, files.List), write: files.Write, enforce: len(rep.Missing) == 0}
	s.Log.Info("sec-mod is confined", "reached", strings.Join(rep.Reached, ", "), "files", s.fence.dirs)
	for _, layer := range rep.Missing {
		s.Log.Warn("sec-mod is not confined by " + layer)
	}
	return nil
}

// errElsewhere marks what another sec-mod could open.
var errElsewhere = errors.New("restart the server")

// check names the first file of a configuration that is outside.
func (f *fence) check(c *config.Config) error {
	if !f.enforce {
		return nil
	}
	files, folders := named(c)
	for _, name := range append(files, writtenBack(c)...) {
		for _, dir := range sandbox.Folders(name) {
			if !holds(f.dirs, dir) {
				return fmt.Errorf("%s: in a folder that the configuration did not name when the server started (sec-mod can open only %s): %w",
					name, strings.Join(f.dirs, ", "), errElsewhere)
			}
		}
	}
	for _, name := range folders {
		if !holds(f.dirs, realPath(name)) {
			return fmt.Errorf("%s: the configuration did not name it when the server started: %w", name, errElsewhere)
		}
	}
	for _, name := range writtenBack(c) {
		if !holds(f.write, filepath.Dir(realPath(name))) {
			return fmt.Errorf("%s: the configuration did not name it when the server started, and it is to be written: %w", name, errElsewhere)
		}
	}
	return nil
}

func holds(dirs []string, dir string) bool {
	return slices.ContainsFunc(dirs, func(in string) bool {
		rel, err := filepath.Rel(in, dir)
		return err == nil && (rel == "." || filepath.IsLocal(rel))
	})
}

// filesOf is what sec-mod opens with a configuration in effect.
func filesOf(c *config.Config) sandbox.Files {
	var f sandbox.Files
	files, folders := named(c)
	for _, name := range files {
		f.Read = append(f.Read, sandbox.Folders(name)...)
	}
	for _, name := range folders {
		f.List = append(f.List, realPath(name))
	}
	for _, name := range writtenBack(c) {
		f.Write = append(f.Write, sandbox.Folders(name)...)
	}
	for _, dirs := range []*[]string{&f.Read, &f.List, &f.Write} {
		slices.Sort(*dirs)
		*dirs = slices.Compact(*dirs)
	}
	return f
}

// writtenBack lists the files that a login changes: one-time passwords are used
// up (otp.go).
func writtenBack(c *config.Config) (files []string) {
	for _, v := range c.Vhosts {
		for _, m := range slices.Concat(v.Auth, v.EnableAuth) {
			if name := m.Options["otp"]; m.Name == "plain" && name != "" {
				files = append(files, name)
			}
		}
	}
	return files
}

func realPath(name string) string {
	if abs, err := filepath.Abs(name); err == nil {
		name = abs
	}
	if real, err := filepath.EvalSymlinks(name); err == nil {
		return real
	}
	return name
}

// named lists the files and folders that a configuration names for sec-mod. An
// option of a login method that is a path is one.
func named(c *config.Config) (files, folders []string) {
	add := func(to *[]string, names ...string) {
		for _, n := range names {
			if n != "" {
				*to = append(*to, n)
			}
		}
	}
	add(&files, systemCA()) // a user's file may name a proxy, and so may the next configuration
	for _, v := range c.Vhosts {
		for _, w := range v.User.Ways {
			add(&files, w.CA, w.Client.Cert, w.Client.Key)
		}
		for _, d := range v.User.Resolver.Servers {
			add(&files, d.CA)
		}
		add(&files, v.User.Resolver.BlockFiles()...)
		for _, pair := range v.Keys {
			add(&files, pair.Cert, pair.Key)
		}
		add(&files, v.PinFile, v.CACert, v.CRL, v.OCSPResponse, v.User.UserProfile, v.DefaultUserConfig, v.DefaultGroupConfig)
		add(&folders, v.ConfigPerUser, v.ConfigPerGroup)
		for _, m := range slices.Concat(v.Auth, v.EnableAuth, v.Acct) {
			if m.Remote() { // its helper opens them
				continue
			}
			for _, value := range m.Options {
				if strings.HasPrefix(value, "/") {
					add(&files, value)
				}
			}
		}
	}
	return files, folders
}
