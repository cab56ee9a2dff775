package quickstart

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// What a person can do about.
var (
	ErrNoPlace   = errors.New("no place for the state")
	ErrListen    = errors.New("cannot listen there")
	ErrState     = errors.New("the state cannot be used")
	ErrArguments = errors.New("internal error: arguments of the quickstart role")
)

// Options are those of the command line.
type Options struct {
	Listen   string // ADDR:PORT, :PORT or PORT; empty: :8443, or what the configuration says
	StateDir string // empty: $XDG_STATE_HOME/rocserv, or ~/.local/state/rocserv
}

// Args are the options as arguments for the child that calls MakeState.
func (o Options) Args() []string { return []string{o.Listen, o.StateDir} }

// ParseArgs is the reverse of Args.
func ParseArgs(args []string) (Options, error) {
	if len(args) != 2 {
		return Options{}, fmt.Errorf("%w: %d, not 2", ErrArguments, len(args))
	}
	return Options{Listen: args[0], StateDir: args[1]}, nil
}

// Files are where the state is, as absolute paths.
type Files struct {
	Dir, Config, Cert, Key, Users, Run string
}

// Paths says where the state of these options is. It touches nothing.
func Paths(o Options) (Files, error) { return paths(o, os.Getenv) }

func paths(o Options, env func(string) string) (Files, error) {
	dir, err := stateDir(o, env)
	if err != nil {
		return Files{}, err
	}
	return Files{
		Dir:    dir,
		Config: filepath.Join(dir, "ocserv.conf"),
		Cert:   filepath.Join(dir, "cert.pem"),
		Key:    filepath.Join(dir, "key.pem"),
		Users:  filepath.Join(dir, "users"),
		Run:    filepath.Join(dir, "run"),
	}, nil
}

func stateDir(o Options, env func(string) string) (string, error) {
	if o.StateDir != "" {
		dir, err := filepath.Abs(o.StateDir)
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrNoPlace, err)
		}
		return dir, nil
	}
	// The specification has relative paths ignored.
	if base := env("XDG_STATE_HOME"); filepath.IsAbs(base) {
		return filepath.Join(base, "rocserv"), nil
	}
	if home := env("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "rocserv"), nil
	}
	return "", fmt.Errorf("%w: neither HOME nor XDG_STATE_HOME is set; name a directory with --state-dir DIR", ErrNoPlace)
}
