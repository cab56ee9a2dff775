//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// soakTime is what CI has time for; SOAK is another duration (make soak).
const soakTime = 2 * time.Minute

// soakBudget is what a process may hold more at the end than after the first
// rounds, in bytes: pools and stacks that the load makes once, and the noise of
// when the collector ran.
const soakBudget = 4 * megabyte

// TestSoak puts mixed load on two DTLS and two TLS tunnels at full rate: long
// transfers both ways, short connections, UDP of every size, DNS, pings, and a
// client that reconnects in the middle of it. Every byte arrives, nobody loses
// a tunnel, and no process of the server grows. SOAK_REPORT is a file for the
// report.
func TestSoak(t *testing.T) {
	rocservOnly(t, "its flows and memory are the kernel's")
	limit := soakTime
	if s := os.Getenv("SOAK"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatalf("SOAK: %v", err)
		}
		limit = d
	}
	const clients = 4
	r := newRig(t, clients)
	r.must(r.OpenPing(true))
	var all []*lab.Client
	for i := range clients {
		d := lab.Dial{From: r.Cli[i]}
		if i%2 == 0 {
			all = append(all, r.connect(d))
		} else {
			all = append(all, r.connectTLS(d))
		}
	}
	s := soak{rig: r, began: time.Now()}
	for time.Since(s.began) < limit && !t.Failed() {
		s.round(all)
	}
	s.judge()
	for i, c := range all {
		if c.Has(lineDTLSLost) {
			t.Errorf("client %d lost its DTLS", i)
		}
	}
}

// soak is what a long run has seen.
type soak struct {
	*rig
	began  time.Time
	rounds int
	memory []map[string]int64
}

// round is some seconds of load by all clients, one of which reconnects.
func (s *soak) round(all []*lab.Client) {
	var wg sync.WaitGroup
	for _, c := range all {
		wg.Go(func() {
			if err := s.load(c); err != nil {
				s.Errorf("round %d, %s: %v", s.rounds, c.From.Name, err)
			}
		})
	}
	roamer := all[s.rounds%len(all)]
	s.must(roamer.Forget("reconnect"))
	time.Sleep(500 * time.Millisecond)
	s.must(roamer.Signal(syscall.SIGUSR2))
	wg.Wait()
	s.must(roamer.WaitScript("reconnect", 60*time.Second))
	s.rounds++
	s.memory = append(s.memory, s.sample())
}

// perRound is what a client moves in a round, each way, in bytes.
const perRound = 40 * megabyte

func (s *soak) load(c *lab.Client) error {
	done := make(chan error, 1)
	go func() {
		done <- transfer(c, lab.Transfer{Host: lab.Tgt4, Bytes: perRound}, lab.Transfer{Host: lab.Tgt4, Bytes: perRound, Upload: true},
			lab.Transfer{Host: lab.Tgt6, Bytes: perRound / 4}, lab.Transfer{Host: lab.Tgt6, Bytes: perRound / 4, Upload: true})
	}()
	for _, k := range []check{hello4, hello6} {
		if err := k.run(s.rig, c); err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
	}
	for _, k := range []check{lookup, echoes, command("ping", "[1-3] received", pinging(lab.Tgt6)...)} {
		if err := s.patiently(k, c); err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
	}
	return <-done
}

// patiently is for datagrams, which a full queue of the client may lose.
func (s *soak) patiently(k check, c *lab.Client) (err error) {
	for range 4 {
		if err = k.run(s.rig, c); err == nil {
			return nil
		}
	}
	return err
}

// sample is the private memory of each role, the largest process of it.
func (s *soak) sample() map[string]int64 {
	roles, err := s.srv.Processes()
	s.must(err)
	most := map[string]int64{}
	for role, procs := range roles {
		for _, p := range procs {
			if n, err := lab.Private(p.PID); err == nil { // a worker may just have left
				most[string(role)] = max(most[string(role)], n)
			}
		}
	}
	return most
}

// judge compares the last third of the samples with the first, by their
// medians, and writes the report.
func (s *soak) judge() {
	var b strings.Builder
	fmt.Fprintf(&b, "%d rounds in %v, %d MB each way in each round\n", s.rounds, time.Since(s.began).Round(time.Second), 4*perRound*5/4/megabyte)
	third := max(len(s.memory)/3, 1)
	for role := range s.memory[0] {
		first, last := median(s.memory[:third], role), median(s.memory[len(s.memory)-third:], role)
		fmt.Fprintf(&b, "%s: %.1f MB private in the first third, %.1f MB in the last\n", role, float64(first)/megabyte, float64(last)/megabyte)
		if last > first+max(soakBudget, first/2) {
			s.Errorf("%s grew from %.1f to %.1f MB", role, float64(first)/megabyte, float64(last)/megabyte)
		}
	}
	s.Log("\n" + b.String())
	if name := os.Getenv("SOAK_REPORT"); name != "" {
		s.must(os.WriteFile(name, []byte(b.String()), 0o644))
	}
}

func median(samples []map[string]int64, role string) int64 {
	var all []int64
	for _, m := range samples {
		all = append(all, m[role])
	}
	slices.Sort(all)
	return all[len(all)/2]
}
