package mainproc

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	"rocserv/internal/ban"
	"rocserv/internal/ipc"
	"rocserv/internal/sandbox"
)

// Trial is the hidden role in which a program shows that it can take another
// one's place: it builds main's tables out of the state at descriptor 4 and the
// configuration at 5, touches nothing, and says so at 3. Otherwise it says why on
// standard error, which is the log.
func Trial(args []string, opts Options) int {
	if _, err := sandbox.Prepare(sandbox.Main, sandbox.Options{}); err != nil {
		return trialFailed(err)
	}
	if len(args) > 0 {
		opts.ConfigName = filepath.Clean(args[0])
	}
	st, err := readState(4)
	if err != nil {
		return trialFailed(err)
	}
	if err := tryResume(opts, st, 5); err != nil {
		return trialFailed(err)
	}
	fmt.Fprintf(os.NewFile(3, "ready"), "%s %s\n%s\n", readyWord, opts.Version, opts.Build) // at once: tryState
	io.Copy(io.Discard, os.Stdin)                                                           // main ends this process
	return 0
}

func trialFailed(err error) int {
	fmt.Fprintf(os.Stderr, "<3>%v\n", err)
	return 1
}

// tryResume is what takeOver does, without the processes and their descriptors.
func tryResume(opts Options, st *inherited, text int) error {
	cfg, err := configState{Text: text}.parse(opts)
	if err != nil {
		return err
	}
	if err := decodeState(st.Config.Keys, new(ipc.SecmConfigRep)); err != nil {
		return err
	}
	s := &server{opts: opts, log: opts.Logger}
	s.sec, s.records, s.closings = newSecurity(), newRecords(), newClosings()
	s.gen.Store(&generation{cfg: cfg})
	s.console = newConsole(s, nil)
	s.workers, s.sessions, s.bans = newRegistry(), newSessions(), ban.New(banPolicy(&cfg.Global))
	s.door = newDoor(s, maxLogins)
	_, err = s.resume(st, func(v workerState) (*child, *ipc.Conn, error) {
		conn, err := inheritChannel(-1)
		return &child{role: roleWorker, pid: v.PID, done: make(chan struct{})}, conn, err
	})
	return err
}

func decodeState(b []byte, m ipc.Message) error {
	if err := proto.Unmarshal(b, m); err != nil {
		return fmt.Errorf("%w: %w", errState, err)
	}
	return nil
}
