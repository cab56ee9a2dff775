package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"rocserv/test/e2e/lab"
)

// userHz is the unit of /proc/stat.
const userHz = 100

// Limits of what counts as quiet, as parts of one processor.
const (
	maxForeign = 0.06
	maxSteal   = 0.03
)

// machineTimes is what all processors together have done so far.
type machineTimes struct {
	at          time.Time
	busy, steal time.Duration // busy: in user and system mode
	ours        time.Duration // of busy: this process and all below it
}

func readMachine() (machineTimes, error) {
	t := machineTimes{at: time.Now()}
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return t, err
	}
	// cpu user nice system idle iowait irq softirq steal guest guest_nice
	const user, nice, system, steal = 1, 2, 3, 8
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line)
	if len(f) <= steal || f[0] != "cpu" {
		return t, fmt.Errorf("/proc/stat begins with %q", line)
	}
	ticks := func(i int) time.Duration {
		n, _ := strconv.ParseInt(f[i], 10, 64)
		return time.Duration(n) * time.Second / userHz
	}
	t.busy = ticks(user) + ticks(nice) + ticks(system)
	t.steal = ticks(steal)
	tree, err := lab.Tree(os.Getpid())
	if err != nil {
		return t, err
	}
	for _, p := range tree {
		t.ours += p.CPU
	}
	return t, nil
}

// noise is what others did meanwhile, as parts of one processor.
type noise struct {
	Foreign, Steal float64
}

// since is the noise between an earlier reading and t.
func (t machineTimes) since(from machineTimes) noise {
	span := float64(t.at.Sub(from.at))
	foreign := float64((t.busy - from.busy) - (t.ours - from.ours))
	return noise{Foreign: max(foreign/span, 0), Steal: float64(t.steal-from.steal) / span}
}

func (n noise) disturbed() bool { return n.Foreign > maxForeign || n.Steal > maxSteal }

func (n noise) sum() float64 { return n.Foreign + n.Steal }

func (n noise) String() string {
	return fmt.Sprintf("foreign %.0f %%, steal %.0f %%", 100*n.Foreign, 100*n.Steal)
}

// waitQuiet waits until the machine is quiet, at most so long, and says whether
// it was.
func waitQuiet(limit time.Duration) bool {
	for deadline := time.Now().Add(limit); ; {
		from, err := readMachine()
		if err != nil {
			return false
		}
		time.Sleep(300 * time.Millisecond)
		to, err := readMachine()
		if err != nil {
			return false
		}
		if !to.since(from).disturbed() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}
