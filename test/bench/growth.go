package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"rocserv/test/client"
	"rocserv/test/e2e/lab"
)

// What grows, and how far. Each step sends as much as the others, so that what
// differs is only among how many it is divided.
const (
	growRate   = 5000 // datagrams a second of all tunnels and flows together
	growPrefix = "grow-"
)

var series = []struct {
	name  string
	title string // with the number in it
	steps []int
	load  func(n int, l *client.Load)
}{
	{"tunnels", "%d tunnels with one UDP flow each", []int{1, 10, 100, 1000}, func(n int, l *client.Load) { l.Tunnels, l.Flows = n, 1 }},
	{"flows", "%d UDP flows in one tunnel", []int{1, 100, 10_000}, func(n int, l *client.Load) { l.Tunnels, l.Flows = 1, n }},
}

// flowLimits let one client have as many flows as the longest step.
var flowLimits = []string{"limit-udp-flows = 10500", "limit-new-flows = 100000", "limit-worker-files = 11500"}

func growRow(of string, n int) string { return fmt.Sprintf("%s%s-%d", growPrefix, of, n) }

// growRows are the steps of all series.
func growRows() (all []row) {
	for _, s := range series {
		for _, n := range s.steps {
			all = append(all, row{name: growRow(s.name, n), title: fmt.Sprintf(s.title, n), once: true,
				measure: growth(n, s.load), also: []figure{cpuPerTrip, loss, megabytes}})
		}
	}
	return all
}

// growth measures datagrams there and back when every flow has had its first.
func growth(n int, set func(int, *client.Load)) func(*contender, plan) (sample, error) {
	return func(c *contender, p plan) (sample, error) {
		l := c.load()
		l.Mode, l.Target, l.Size, l.Rate, l.Seconds = client.Echo, tgtAt(lab.PortEcho), 64, growRate, float64(max(p.seconds, 3))
		set(n, &l)
		proc, _, err := c.startLoad(l)
		if err != nil {
			return nil, err
		}
		w, err := c.srv.Worker(lab.ClientAddr4(byLoad)) // of one of the tunnels
		if err != nil {
			return nil, err
		}
		memory, err := lab.Private(w.PID)
		if err != nil {
			return nil, err
		}
		before, err := c.srv.CPU()
		if err != nil {
			return nil, err
		}
		r, err := proc.report("done", time.Duration(l.Seconds+60)*time.Second)
		if err != nil {
			return nil, err
		}
		after, err := c.srv.CPU()
		if err != nil {
			return nil, err
		}
		if r.Broken > 0 || r.Back == 0 {
			return nil, fmt.Errorf("%d tunnels broke, %d of %d datagrams came back", r.Broken, r.Back, r.Sent)
		}
		s := sample{
			megabytes:  float64(memory) / 1e6,
			cpuPerTrip: (after - before).Seconds() * 1e6 / float64(r.Back),
			loss:       100 * float64(r.Sent-r.Back) / float64(r.Sent),
		}
		return s, proc.finished()
	}
}

// linear is how much more the last step may cost, per datagram, than the first
// with company: beyond it the growth is a finding.
const linear = 1.5

// growths says how cost grows. Steps of one are shown and not compared: a lone
// datagram shares its wake-up with nobody.
func (r *result) growths() string {
	var b strings.Builder
	for _, s := range series {
		for _, k := range []lab.Kind{lab.Ocserv, lab.Rocserv} {
			var line []string
			var first, last float64
			for _, n := range s.steps {
				i := slices.IndexFunc(r.Rows, func(rr *rowResult) bool { return rr.Name == growRow(s.name, n) })
				if i < 0 {
					continue
				}
				v, ok := r.Rows[i].summary(string(k), cpuPerTrip)
				if !ok {
					continue
				}
				line = append(line, fmt.Sprintf("%d: %s", n, number(v.value)))
				if last = v.value; first == 0 && n > 1 {
					first = v.value
				}
			}
			if len(line) == 0 {
				continue
			}
			verdict := "linear"
			if first > 0 && last > linear*first {
				verdict = fmt.Sprintf("**%.1f times as much for each**", last/first)
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", s.name, k, strings.Join(line, ", "), verdict)
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return fmt.Sprintf("\n## How cost grows\n\nServer CPU for a datagram there and back, in µs, when %d a second are divided among so many.\n\n"+
		"| of | server | CPU, µs | growth |\n|---|---|---|---|\n", growRate) + b.String()
}
