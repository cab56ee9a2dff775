package lab

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// roleVariable says, in the environment, that a program is to be a role.
const roleVariable = "ROCSERV_LAB_ROLE"

const (
	roleTarget = "target"
	roleFetch  = "fetch"
	roleEcho   = "echo"
	roleInject = "inject"
	roleHold   = "hold"
	roleTrace  = "trace"
	roleSay    = "say"
	roleTalk   = "talk"

	roleCrowd   = "crowd"
	roleVolley  = "volley"
	roleCapture = "capture"
	roleFlows   = "flows"
	roleTap     = "tap"
)

// Role runs this process as a role of the lab if it was started as one, and
// then does not return. A program that uses the lab calls it before anything
// else.
func Role() {
	role := os.Getenv(roleVariable)
	if role == "" {
		return
	}
	if err := run(role); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", role, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(role string) error {
	switch role {
	case roleTarget:
		return serveTarget(os.Stdout)
	case roleFetch:
		return answer(fetch)
	case roleEcho:
		return answer(echo)
	case roleInject:
		return answer(inject)
	case roleSay:
		return answer(say)
	case roleTalk:
		return talk(os.Stdin, os.Stdout)
	case roleTrace:
		return answer(trace)
	case roleHold:
		return hold(os.Stdout)
	case roleCrowd:
		return crowd(os.Stdin, os.Stdout)
	case roleVolley:
		return answer(volley)
	case roleFlows:
		return flows(os.Stdin, os.Stdout)
	case roleTap:
		return tap(os.Stdin, os.Stdout)
	case roleCapture:
		return answer(capture)
	}
	return fmt.Errorf("no role %q", role)
}

// Holder is a program that opens a lab, prints its folder and its namespaces
// on one line, and then waits for its death.
func Holder() (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleVariable+"="+roleHold)
	return cmd, nil
}

func hold(out io.Writer) error {
	l, err := Open(1)
	if err != nil {
		return err
	}
	if _, err := StartTarget(l.Tgt); err != nil {
		return err
	}
	names := []string{l.Dir}
	for _, n := range l.namespaces() {
		names = append(names, n.Name)
	}
	fmt.Fprintln(out, strings.Join(names, " "))
	select {}
}
