package worker

import (
	"errors"
	"log/slog"
	"os"
	"runtime"
	"strings"

	"rocserv/internal/ipc"
	"rocserv/internal/rolelog"
	"rocserv/internal/sandbox"
)

// The descriptors main starts a worker with, beside 0, 1 and 2.
const (
	mainFD   = 3
	secModFD = 4
)

// Main is the worker's process: it confines itself as the arguments say
// (sandbox.Options), tells main, waits for a connection, serves it, and
// returns the exit status.
func Main(args []string) int {
	// Main's program begins on the process's first thread for main's sake, whose
	// children are that thread's. Here it would be one more thread, and two
	// switches for every wait.
	runtime.UnlockOSThread()
	level := new(slog.LevelVar)
	log := slog.New(rolelog.NewHandler(os.Stderr, level))
	main, err := ipc.NewConn(mainFD)
	if err != nil {
		log.Error("not started by main", "err", err)
		return 1
	}
	sec, err := ipc.NewConn(secModFD)
	if err != nil {
		log.Error("not started by main", "err", err)
		return 1
	}
	main.Trust()
	sec.Trust()
	opts, err := sandbox.ParseArgs(args)
	if err != nil {
		log.Error("not started by main", "err", err)
		return 1
	}
	memory := &collector{limit: opts.HeapLimit()}
	memory.quiet()
	ready, err := confine(opts)
	if err != nil {
		log.Error("cannot be confined", "err", err)
		return 1
	}
	if err := main.Send(ipc.WorkerReadyT, 0, ready); err != nil {
		return 1
	}
	err = Serve(Options{Main: main, SecMod: sec, Log: log, Level: level, memory: memory})
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errProbe):
		log.Debug("TCP health probe")
		return 0
	case errors.Is(err, ipc.ErrViolation):
		log.Error("channel to main failed", "err", err)
		return 1
	}
	log.Info("connection ended", "err", err)
	return 0
}

// confine takes everything from this process but its channels and the network.
func confine(opts sandbox.Options) (*ipc.WorkerReady, error) {
	first, err := sandbox.Prepare(sandbox.Worker, opts)
	if err != nil {
		return nil, err
	}
	second, err := sandbox.Confine(sandbox.Worker, opts, sandbox.Files{})
	if err != nil {
		return nil, err
	}
	return &ipc.WorkerReady{
		Confinement: strings.Join(append(first.Reached, second.Reached...), ", "),
		Missing:     second.Missing,
	}, nil
}
