package mainproc

import (
	"log/slog"

	"rocserv/internal/config"
	"rocserv/internal/rolelog"
)

// Options is what the command line decides.
type Options struct {
	ConfigName string                 // of the file, for messages
	ReadConfig func() ([]byte, error) // the file's bytes: at the start, and at each reload
	Parse      ParseFunc              // how to read them, with the values of secrets skipped
	PIDFile    string                 // wins over the file's pid-file
	Foreground bool                   // stay with the terminal; otherwise Run returns when the server is up
	Debug      int                    // log-level; wins over the file's unless negative
	SelfExe    string                 // the program to start workers from; empty: this one
	Version    string                 // for the log
	Build      string                 // of this program: what a worker of another program must be of
	Logger     *slog.Logger           // everything goes there, the children's lines too
	Level      *slog.LevelVar         // of Logger; set to the log-level in effect. May be nil
	Log        *rolelog.Main          // where Logger's lines go; set to the log-format in effect. May be nil
	Facility   string                 // syslog-facility; wins over the file's unless empty

	passed passed // found by Run
}

// ParseFunc parses and checks a configuration; name is for messages.
type ParseFunc func(name string, b []byte) (*config.Config, error)
