package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"rocserv/test/client"
	"rocserv/test/e2e/lab"
)

// startFloor starts test/floor as the user that rocserv is.
func (c *contender) startFloor() error {
	argv := lab.Ordinary(c.program.Path, lab.ServerAt(lab.Srv4))
	p, err := c.lab.Srv.Start("floor", nil, nil, argv...)
	if err != nil {
		return err
	}
	c.srv = &lab.Server{Process: p, Kind: floor}
	m, err := p.Expect("^ready (.*)$", 20*time.Second)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, p.Story())
	}
	c.pin = m[1]
	return nil
}

// hold is a role: a TLS connection with one request, that stays until the
// program is ended.
func hold(to string) (string, error) {
	raw, err := net.DialTimeout("tcp", to, answerLimit)
	if err != nil {
		return "", err
	}
	c := tls.Client(raw, client.Offer())
	defer c.Close()
	if _, err := io.WriteString(c, firstRequest); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return "", err
	}
	fmt.Println("held", line)
	io.Copy(io.Discard, c) // until somebody ends this process
	return "", errors.New("the floor closed the connection")
}

// floorMemory is the private memory of a worker of the floor whose client is
// silent, beside that of another one, as idleMemory's.
func (c *contender) floorMemory() (sample, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	q, err := json.Marshal(lab.ServerAt(lab.Srv4))
	if err != nil {
		return nil, err
	}
	for _, via := range []int{viaPath, viaDTLS} {
		p, err := c.lab.Cli[via].Start("hold", strings.NewReader(string(q)), nil, self, "__hold")
		if err != nil {
			return nil, err
		}
		defer p.Signal(syscall.SIGKILL)
		if _, err := p.Expect("^held ", answerLimit); err != nil {
			return nil, fmt.Errorf("%w\n%s", err, p.Story())
		}
	}
	time.Sleep(idleWait)
	w, err := c.srv.Worker(lab.ClientAddr4(viaDTLS))
	if err != nil {
		return nil, err
	}
	n, err := lab.Private(w.PID)
	if err != nil {
		return nil, err
	}
	return sample{megabytes: float64(n) / 1e6}, nil
}

// floors is the table of what the floor was measured for: a cell each for the
// program alone and with the libraries, with its ratio to ocserv.
func (r *result) floors() string {
	var b strings.Builder
	for _, rr := range r.Rows {
		which, ok := rowNamed(rr.Name)
		if !ok || len(which.floors) == 0 {
			continue
		}
		title := which.title
		for i, f := range which.shown() {
			alone, ok := rr.summary(string(floor), f)
			with, also := rr.summary(string(floorWith), f)
			if !ok && !also {
				continue
			}
			theirs, _ := rr.summary(string(lab.Ocserv), f)
			ours, _ := rr.summary(string(lab.Rocserv), f)
			must := ""
			if i < len(which.goals) {
				must = which.goals[i].String()
			}
			fmt.Fprintf(&b, "| %s | %s, %s | %s | %s | %s | %s | %s |\n", title, figures[f].title, figures[f].unit,
				theirs.cell(), alone.beside(theirs), with.beside(theirs), ours.beside(theirs), must)
			title = ""
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "\n## The floor\n\nWhat test/floor takes beside them, a process of Go for each connection with nothing of ours: alone, and with\n" +
		"the libraries that rocserv is built of. In brackets the ratio to ocserv (doc/decisions/0014, 0015, 0018).\n\n" +
		"| what | figure | ocserv | floor | with libraries | rocserv | must |\n|---|---|---:|---:|---:|---:|---|\n" + b.String()
}

// closed says that the row's floor misses a goal too, in the same run. Empty: it
// does not, or it is not known, or the floor is none, as ours is better. Beside an
// upload it says what the floor's client would send if it never waited.
func (rr *rowResult) closed(which row, g goal) string {
	if len(which.floors) == 0 {
		return ""
	}
	kind := string(which.floors[0])
	least, ok := rr.summary(kind, g.of)
	c, known := rr.compare(g.of)
	if !ok || !known || !c.both || least.disturbed || c.theirs.disturbed {
		return ""
	}
	by, unit := 1.0, " "+figures[g.of].unit
	if g.ratio {
		by, unit = c.theirs.value, " × ocserv's"
	}
	better := least.value > c.ours.value
	if g.met(least.value/by) || better != g.atMin {
		return ""
	}
	text := "; the floor misses it too: " + number(least.value/by) + unit
	if most, ok := rr.summary(kind, clientMost); ok && g.of == throughput {
		text += ", and " + number(most.value/by) + unit + " if its client never waited"
	}
	return text
}

// beside is a median with its ratio to another.
func (s summary) beside(other summary) string {
	if s.samples == 0 || other.samples == 0 || other.value == 0 {
		return s.cell()
	}
	text := fmt.Sprintf("%s (%.2f)", number(s.value), s.value/other.value)
	if s.disturbed || other.disturbed {
		text += " ~"
	}
	return text
}
