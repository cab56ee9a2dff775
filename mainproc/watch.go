package mainproc

import (
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"rocserv/internal/config"
)

// watchEvery is how often files are looked at. What has changed is read when it
// has not changed again since the look before: a certificate and its key come one
// after the other.
const watchEvery = 2 * time.Second

// watched lists the files that are read when a configuration is loaded, and at no
// other time: certificates and keys, and what login helpers read, named by the
// configuration or, as they say (more), by one of its files. (Lists of users and of
// revoked certificates sec-mod reads again by itself.) Beside them the configuration's own file where
// it is a symbolic link: that is how Kubernetes mounts one, and replaces it as a
// whole; one that people edit is read when they say so.
func watched(name string, c *config.Config, more []string) (files []string) {
	if st, err := os.Lstat(name); err == nil && st.Mode().Type() == os.ModeSymlink {
		files = append(files, name)
	}
	for _, v := range c.Vhosts {
		for _, pair := range v.Keys {
			files = append(files, pair.Cert, pair.Key)
		}
		files = append(files, v.CACert, v.OCSPResponse, v.PinFile)
		for _, m := range slices.Concat(v.Auth, v.EnableAuth, v.Acct) {
			if m.Remote() {
				files = append(files, m.Options["config"], strings.TrimPrefix(m.Options["keytab"], "FILE:"))
			}
		}
		for _, w := range v.User.Ways {
			files = append(files, w.CA, w.Client.Cert, w.Client.Key)
		}
		for _, d := range v.User.Resolver.Servers {
			files = append(files, d.CA)
		}
		files = append(files, v.User.Resolver.BlockFiles()...)
	}
	return append(files, more...)
}

// fileStamp says whether a file is still the one that was read. A link's is that
// of what it leads to: a swap of any link on the way shows.
type fileStamp struct {
	dev, ino uint64
	size     int64
	mtime    syscall.Timespec
}

// stamps looks at files. One that is not there at the moment (somebody is
// replacing it) is as it was before.
func stamps(files []string, before map[string]fileStamp) map[string]fileStamp {
	now := make(map[string]fileStamp, len(files))
	for _, name := range files {
		if name == "" {
			continue
		}
		st, err := os.Stat(name)
		sys, ok := (*syscall.Stat_t)(nil), false
		if err == nil {
			sys, ok = st.Sys().(*syscall.Stat_t)
		}
		if !ok {
			if old, known := before[name]; known {
				now[name] = old
			}
			continue
		}
		now[name] = fileStamp{uint64(sys.Dev), sys.Ino, sys.Size, sys.Mtim}
	}
	return now
}

// watcher says when files have changed and settled.
type watcher struct {
	loaded map[string]fileStamp // of what is in effect, or was refused
	last   map[string]fileStamp
}

// look is called now and then with the files of the configuration in effect.
func (w *watcher) look(files []string) (changed bool) {
	now := stamps(files, w.last)
	settled := maps.Equal(now, w.last)
	w.last = now
	if w.loaded == nil || !sameNames(w.loaded, now) { // the first look at these
		w.loaded = now
		return false
	}
	if !settled || maps.Equal(now, w.loaded) {
		return false
	}
	w.loaded = now
	return true
}

func sameNames(a, b map[string]fileStamp) bool {
	for name := range a {
		if _, there := b[name]; !there {
			return false
		}
	}
	return len(a) == len(b)
}

// watchFiles reloads the configuration when a file that it names was replaced.
func (s *server) watchFiles(w *watcher) {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		gen := s.gen.Load()
		cfg := gen.cfg
		if !cfg.Global.WatchFiles {
			w = new(watcher)
		} else if w.look(watched(s.opts.ConfigName, cfg, gen.keys.GetWatch())) {
			s.log.Info("files of the configuration were replaced")
			if s.console.order(syscall.SIGHUP) != nil {
				w = new(watcher) // too busy; the orders there are will do
			}
		}
		select {
		case <-s.ended:
			return
		case <-t.C:
		}
	}
}
