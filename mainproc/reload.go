package mainproc

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"rocserv/internal/config"
	"rocserv/internal/control"
	"rocserv/internal/ipc"
)

// readConfig reads and checks the file. The bytes may hold secrets: whoever
// gets them erases them.
func readConfig(opts Options) (*config.Config, []byte, error) {
	b, err := opts.ReadConfig()
	if err != nil {
		return nil, nil, err
	}
	cfg, err := opts.Parse(opts.ConfigName, b)
	if err != nil {
		clear(b)
		return nil, nil, err
	}
	return cfg, b, nil
}

// adopt makes a configuration that was parsed the one in effect: sec-mod loads
// it first, for the keys must fit what workers are told. text is erased.
func (s *server) adopt(cfg *config.Config, text []byte) error {
	s.number++
	fd, err := ipc.Seal("config", text)
	clear(text)
	if err != nil {
		return err
	}
	copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		unix.Close(fd)
		return fmt.Errorf("mainproc: descriptor: %w", err)
	}
	q := &ipc.SecmConfig{Generation: s.number, Name: s.opts.ConfigName, Keyring: s.records.lastKeyring()}
	keys, err := loadConfig(s.sec, q, fd)
	var next *secmod
	if errors.Is(err, errElsewhere) {
		s.log.Info("another sec-mod is started for this configuration", "why", err)
		next, keys, err = s.startFor(q, copied)
	}
	if err != nil {
		unix.Close(copied)
		return err
	}
	if next != nil {
		if err := s.change(next); err != nil {
			unix.Close(copied)
			return err
		}
	}
	s.records.setKeyring(keys.Keyring)
	for _, w := range keys.Warnings {
		s.log.Warn(w)
	}
	return s.effect(cfg, keys, copied)
}

// effect makes a configuration that sec-mod has loaded the one in effect. text is
// a descriptor of the file's bytes, which it takes over.
func (s *server) effect(cfg *config.Config, keys *ipc.SecmConfigRep, text int) error {
	gen, err := newGeneration(s.number, cfg, keys, text, s.logLevel(&cfg.Global))
	if err != nil {
		return err
	}
	s.gen.Store(gen)
	s.bans.SetPolicy(banPolicy(&cfg.Global))
	s.console.adapt(&cfg.Global)
	return nil
}

// startFor starts another sec-mod, with a configuration that the one in effect
// cannot load because it can open fewer files by now.
func (s *server) startFor(q *ipc.SecmConfig, text int) (*secmod, *ipc.SecmConfigRep, error) {
	fd, err := unix.FcntlInt(uintptr(text), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, nil, fmt.Errorf("mainproc: descriptor: %w", err)
	}
	m, err := s.startSecMod()
	if err != nil {
		unix.Close(fd)
		return nil, nil, err
	}
	q.Known = s.gen.Load().chains()
	keys, err := loadConfig(m, q, fd)
	if err != nil {
		m.close(s.procs)
		return nil, nil, err
	}
	return m, keys, nil
}

// change puts another sec-mod, which has its configuration, into the place of the
// one in effect. To workers it is as if that had died; no session is lost.
func (s *server) change(next *secmod) error {
	if old := s.sec.current(); old != nil {
		s.sec.lost()
		old.close(s.procs)
		<-old.gone
	}
	if err := s.restore(next); err != nil {
		next.close(s.procs)
		return err // replaceSecMod starts one with the configuration of before
	}
	if !s.sec.enter(next, func() { s.rejoin(next) }) {
		next.close(s.procs)
		return errStopped
	}
	s.log.Info("sec-mod replaced", "pid", next.child.pid)
	return nil
}

// reload reads the file again. Workers that have a client keep what they
// started with. Whatever is wrong with the file, what was in effect stays, and
// the error says why. It may be called from any goroutine.
func (s *server) reload() error {
	s.loading.Lock()
	defer s.loading.Unlock()
	s.notify.reloading()
	defer s.notify.say(sdReady)
	before := s.gen.Load()
	cfg, text, err := readConfig(s.opts)
	if err == nil {
		for _, w := range warnings(cfg) {
			s.log.Warn(w)
		}
		if err = checkConfinement(&cfg.Global, s.confined); err == nil {
			err = s.adopt(cfg, text)
		}
	}
	if err != nil {
		s.log.Error(msgReloadFailed, "err", err)
		return err
	}
	for _, name := range fixed(&before.cfg.Global, &cfg.Global) {
		s.log.Warn(fmt.Sprintf("note: %s takes effect with the next start", name))
	}
	s.setLevel(&cfg.Global)
	s.pool.renew()
	s.log.Info(msgReloaded, "generation", s.number)
	s.console.publish(control.Event{Type: control.EventReloaded})
	return nil
}

// fixed names the settings that differ and that a reload does not change.
func fixed(a, b *config.Global) (names []string) {
	for _, f := range []struct {
		name string
		same bool
	}{
		{"listen-host", slices.Equal(a.Listen, b.Listen)},
		{"udp-listen-host", slices.Equal(a.UDPListen, b.UDPListen)},
		{"tcp-port", a.TCPPort == b.TCPPort},
		{"udp-port", a.UDPPort == b.UDPPort},
		{"pid-file", a.PIDFile == b.PIDFile},
		{"occtl-socket-file", a.ControlFile == b.ControlFile},
		{"session-store", a.SessionStore == b.SessionStore},
		{"run-as-user", a.RunAsUser == b.RunAsUser},
	} {
		if !f.same {
			names = append(names, f.name)
		}
	}
	return names
}
