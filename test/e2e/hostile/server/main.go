//go:build e2e

// Server is rocserv whose workers are taken over: see package hostile.
package main

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime"

	"rocserv/internal/config"
	"rocserv/internal/rolelog"
	"rocserv/mainproc"
	"rocserv/secmod"
	"rocserv/test/e2e/hostile"
)

func init() { runtime.LockOSThread() }

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "__worker":
			os.Exit(hostile.Main(os.Args[2:]))
		case "__secmod":
			os.Exit(secmod.Main(os.Args[2:]))
		}
	}
	conf := flag.String("c", "", "configuration")
	pid := flag.String("p", "", "pid file")
	debug := flag.Int("d", -1, "log level")
	front := flag.Bool("f", false, "foreground")
	flag.Parse()
	level := new(slog.LevelVar)
	err := mainproc.Run(mainproc.Options{
		ConfigName: *conf,
		ReadConfig: func() ([]byte, error) { return os.ReadFile(*conf) },
		Parse:      func(name string, b []byte) (*config.Config, error) { return config.Parse(name, b, config.Main) },
		PIDFile:    *pid,
		Foreground: *front,
		Debug:      *debug,
		Version:    "hostile",
		Logger:     slog.New(rolelog.NewTextHandler(os.Stderr, level)),
		Level:      level,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
