package secmod

import (
	"errors"
	"log/slog"
	"os"

	"rocserv/internal/ipc"
	"rocserv/internal/rolelog"
	"rocserv/internal/sandbox"
)

// mainFD is the channel main starts sec-mod with, beside 0, 1 and 2.
const mainFD = 3

// Main is sec-mod's process: it confines itself as the arguments say
// (sandbox.Options), serves until main is gone, and returns the exit status.
func Main(args []string) int {
	level := new(slog.LevelVar)
	level.Set(slog.LevelDebug) // main leaves out what it does not want
	log := slog.New(rolelog.NewHandler(os.Stderr, level))
	main, err := ipc.NewConn(mainFD)
	if err != nil {
		log.Error("not started by main", "err", err)
		return 1
	}
	opts, err := sandbox.ParseArgs(args)
	if err != nil {
		log.Error("not started by main", "err", err)
		return 1
	}
	first, err := sandbox.Prepare(sandbox.SecMod, opts)
	if err != nil {
		log.Error("cannot be confined", "err", err)
		return 1
	}
	confine := func(files sandbox.Files) (sandbox.Report, error) {
		second, err := sandbox.Confine(sandbox.SecMod, opts, files)
		second.Reached = append(first.Reached, second.Reached...)
		return second, err
	}
	if err := Run(Options{Main: main, Log: log, Confine: confine}); !errors.Is(err, ErrMainGone) {
		log.Error("ended", "err", err)
		return 1
	}
	return 0
}
