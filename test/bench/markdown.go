package main

import (
	"fmt"
	"strings"
	"time"
)

// markdown is the table.
func (r *result) markdown() string {
	var b strings.Builder
	b.WriteString("| what | figure | ocserv | rocserv | ratio | must | |\n|---|---|---:|---:|---:|---:|---|\n")
	for _, rr := range r.Rows {
		which, ok := rowNamed(rr.Name)
		if !ok {
			continue
		}
		title := which.title
		for i, f := range which.shown() {
			c, ok := rr.compare(f)
			if !ok {
				continue
			}
			var must, verdict string
			if i < len(which.goals) {
				must, verdict = which.goals[i].String(), rr.verdict(which, which.goals[i])
			}
			ratio := ""
			if c.both {
				ratio = fmt.Sprintf("%.2f", c.ratio)
			}
			fmt.Fprintf(&b, "| %s | %s, %s | %s | %s | %s | %s | %s |\n",
				title, figures[f].title, figures[f].unit, c.theirs.cell(), c.ours.cell(), ratio, must, verdict)
			title = ""
		}
	}
	return b.String()
}

// cell is a median with its spread.
func (s summary) cell() string {
	if s.samples == 0 {
		return ""
	}
	text := number(s.value)
	if s.samples > 1 {
		text += fmt.Sprintf(" (%s-%s)", number(s.low), number(s.high))
	}
	if s.disturbed {
		text += " ~"
	}
	return text
}

func (rr *rowResult) verdict(which row, g goal) string {
	value, met, known := rr.judge(g)
	switch {
	case !known:
		return ""
	case !met && rr.closed(which, g) != "":
		return "missed, by the floor too"
	case !met:
		return "**missed**"
	case g.aim != 0 && (goal{atMin: g.atMin, must: g.aim}).met(value):
		return "better than aimed at"
	default:
		return "met"
	}
}

// misses are the goals that are not reached.
func (r *result) misses() (all []string) {
	for _, rr := range r.Rows {
		which, ok := rowNamed(rr.Name)
		if !ok {
			continue
		}
		for _, g := range which.goals {
			if value, met, known := rr.judge(g); known && !met {
				unit := " " + figures[g.of].unit
				if g.ratio {
					unit = " × ocserv's"
				}
				all = append(all, fmt.Sprintf("%s, %s: %s%s, must be %s", which.title, figures[g.of].title, number(value), unit, g)+rr.closed(which, g))
			}
		}
	}
	return all
}

// environment says where and of what the figures are.
func (r *result) environment() string {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "- %s, %d processors, %d MB, %s; Linux %s; congestion control of the hosts: %s\n",
		m.CPU, m.Processors, m.MemoryMB, orHardware(m.Virtual), m.Kernel, m.Congestion)
	changed := ""
	if r.Changed {
		changed = " and changes that are in no commit"
	}
	fmt.Fprintf(&b, "- rocserv at commit %s%s, %s; beside it %s; clients: %s\n",
		r.Commit, changed, r.Go, r.Servers["ocserv"], r.Client)
	fmt.Fprintf(&b, "- %s, %d complete rounds of %d s a measurement, in %v\n",
		r.Date.Format("2006-01-02 15:04 UTC"), r.Rounds, r.Seconds, r.Took.Round(time.Second))
	n, bad := r.disturbances()
	fmt.Fprintf(&b, "- %d of %d measurements were disturbed by other load on the machine\n", bad, n)
	return b.String()
}

func orHardware(virtual string) string {
	if virtual == "" {
		return "hardware"
	}
	return virtual
}

func (r *result) disturbances() (all, bad int) {
	for _, rr := range r.Rows {
		for _, samples := range rr.Samples {
			for _, m := range samples {
				all++
				if m.Noise.disturbed() {
					bad++
				}
			}
		}
	}
	return all, bad
}
