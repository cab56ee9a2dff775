package helper

import (
	"errors"
	"log/slog"
	"os"

	"rocserv/internal/ipc"
	"rocserv/internal/rolelog"
	"rocserv/internal/sandbox"
)

// secModFD is the channel to sec-mod that main starts a helper with, beside 0, 1
// and 2.
const secModFD = 3

// Main is a helper's process: args are its method and how it is confined
// (sandbox.Options). It serves until sec-mod is gone and returns the exit status.
func Main(args []string, methods Table) int {
	level := new(slog.LevelVar)
	level.Set(slog.LevelDebug) // main leaves out what it does not want
	log := slog.New(rolelog.NewHandler(os.Stderr, level))
	channel, err := ipc.NewConn(secModFD)
	if err != nil || len(args) == 0 {
		log.Error("not started by main", "err", err)
		return 1
	}
	opts, err := sandbox.ParseArgs(args[1:])
	if err != nil {
		log.Error("not started by main", "err", err)
		return 1
	}
	log = log.With("method", args[0])
	kind := methods[args[0]]
	role := sandbox.Helper
	if kind.Modules {
		role = sandbox.Modules
	}
	first, err := sandbox.Prepare(role, opts)
	if err != nil {
		log.Error("cannot be confined", "err", err)
		return 1
	}
	confine := func(files sandbox.Files) (sandbox.Report, error) {
		second, err := sandbox.Confine(role, opts, files)
		second.Reached = append(first.Reached, second.Reached...)
		return second, err
	}
	if err := Run(Options{SecMod: channel, Kind: kind, Log: log, Confine: confine}); !errors.Is(err, ErrSecModGone) {
		log.Error("ended", "err", err)
		return 1
	}
	return 0
}
