package mainproc

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"

	"rocserv/internal/config"
	"rocserv/internal/ipc"
	"rocserv/internal/sandbox"
)

// confineMain takes from this process, and whatever it starts, what none of
// them needs. inForce are the filters that programs before had put on it.
func confineMain(inForce []string) (sandbox.Report, error) {
	first, err := sandbox.Prepare(sandbox.Main, sandbox.Options{})
	if err != nil {
		return first, err
	}
	second, err := sandbox.Confine(sandbox.Main, sandbox.Options{InForce: strings.Join(inForce, " ")}, sandbox.Files{})
	second.Reached = append(first.Reached, second.Reached...)
	return second, err
}

func confinement(g *config.Global) sandbox.Options {
	return sandbox.Options{Isolate: g.Isolate, LimitMemory: g.LimitWorkerMemory, OpenFiles: g.WorkerFiles, Require: g.RequireConfinement}
}

// filters names the filters that are on this process, whose predecessor had some.
func (s *server) filters() []string {
	if own := sandbox.FilterName(sandbox.Main); own != "" && !slices.Contains(s.before.filters, own) && len(s.confined.Missing) == 0 {
		return append(slices.Clone(s.before.filters), own)
	}
	return s.before.filters
}

// confinement is what children are started with.
func (s *server) confinement() sandbox.Options { return confinement(s.settings()) }

// checkConfinement says whether what a configuration requires can be had here.
// The children look themselves too; but a server that will never get a worker
// must not start.
func checkConfinement(g *config.Global, own sandbox.Report) error {
	o := confinement(g)
	if err := o.Check(); err != nil {
		return err
	}
	if !o.Require {
		return nil
	}
	missing := append([]string(nil), own.Missing...)
	if sandbox.LandlockABI() == 0 {
		missing = append(missing, "Landlock")
	}
	if len(missing) > 0 {
		return fmt.Errorf("require-confinement = true, and this host lacks: %s", strings.Join(missing, ", "))
	}
	return nil
}

// confinedLog writes what the first worker of a configuration could reach:
// the others are like it.
type confinedLog struct {
	mu   sync.Mutex
	last string
}

func (s *server) logConfinement(m *ipc.WorkerReady) {
	what := m.Confinement + ";" + strings.Join(m.Missing, ";")
	s.confinedLog.mu.Lock()
	known := s.confinedLog.last == what
	s.confinedLog.last = what
	s.confinedLog.mu.Unlock()
	if known {
		return
	}
	s.log.Info("workers are confined", "reached", m.Confinement)
	for _, layer := range m.Missing {
		s.log.Warn("workers are not confined by " + layer)
	}
}

// logOwnConfinement does the same of main itself.
func (s *server) logOwnConfinement() {
	s.log.Info("main is confined", "reached", strings.Join(s.confined.Reached, ", "))
	for _, layer := range s.confined.Missing {
		s.log.Warn("main is not confined by " + layer)
	}
}

// forbiddenCall says whether the kernel ended the worker because it made a
// system call that no worker makes. That counts as a violation.
func (w *worker) forbiddenCall() bool {
	return w.child.status.Signaled() && w.child.status.Signal() == syscall.SIGSYS
}
