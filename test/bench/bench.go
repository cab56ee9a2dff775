package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// repeats is how often a disturbed measurement is repeated.
const repeats = 2

// bench is a run.
type bench struct {
	plan        plan
	rows        []row
	contenders  []*contender
	settle      time.Duration
	deadline    time.Time
	interrupted <-chan os.Signal
	result      *result
}

var (
	errDeadline    = errors.New("out of time")
	errInterrupted = errors.New("interrupted")
)

// run measures everything. A run that is out of time has what it has.
func (b *bench) run() (err error) {
	defer func() {
		for _, c := range b.contenders {
			err = errors.Join(err, c.close())
		}
	}()
	for _, c := range b.contenders {
		if err := c.start(); err != nil {
			return fmt.Errorf("%s: %w", c.name(), err)
		}
	}
	began := time.Now()
	for round := range b.plan.rounds {
		switch err := b.round(round); {
		case errors.Is(err, errDeadline):
			progress("out of time in round %d of %d", round+1, b.plan.rounds)
			b.result.Took = time.Since(began)
			return nil
		case err != nil:
			return err
		}
		b.result.Rounds = round + 1
	}
	b.result.Took = time.Since(began)
	return nil
}

// round measures every row once on every contender, in turns. Every other
// round the contenders change places.
func (b *bench) round(round int) error {
	for _, r := range b.rows {
		if r.once && round > 0 {
			continue
		}
		order := slices.DeleteFunc(slices.Clone(b.contenders), func(c *contender) bool { return !r.measures(c) })
		if round%2 == 1 {
			slices.Reverse(order)
		}
		if r.prepare != nil {
			order = slices.DeleteFunc(order, func(c *contender) bool {
				err := r.prepare(c, b.plan)
				if err != nil {
					b.fail(r, c, err)
				}
				return err != nil
			})
		}
		for _, c := range order {
			if err := b.measure(r, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// measure takes one sample, of a quiet machine if there is one.
func (b *bench) measure(r row, c *contender) error {
	var best measured
	for range 1 + repeats {
		select {
		case <-b.interrupted:
			return errInterrupted
		default:
		}
		if time.Now().After(b.deadline) {
			if best.Sample == nil {
				return errDeadline
			}
			break
		}
		waitQuiet(b.settle)
		before, err := readMachine()
		if err != nil {
			return err
		}
		s, err := r.measure(c, b.plan)
		if err != nil {
			b.fail(r, c, err)
			break
		}
		after, err := readMachine()
		if err != nil {
			return err
		}
		m := measured{Sample: s, Noise: after.since(before)}
		progress("%-12s %-8s %s%s", r.name, c.name(), s.line(r), m.Noise.mark())
		if best.Sample == nil || m.Noise.sum() < best.Noise.sum() {
			best = m
		}
		if !m.Noise.disturbed() || r.once {
			break
		}
	}
	if best.Sample != nil {
		b.result.add(r, c.name(), best)
	}
	return nil
}

// fail keeps what went wrong: one measurement less is no reason to lose the others.
func (b *bench) fail(r row, c *contender, err error) {
	b.result.Failed = append(b.result.Failed, fmt.Sprintf("%s, %s: %v", r.title, c.name(), err))
	progress("%-12s %-8s failed: %v", r.name, c.name(), err)
}

// mark is what a disturbed measurement has behind it.
func (n noise) mark() string {
	if !n.disturbed() {
		return ""
	}
	return "   disturbed: " + n.String()
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// shown are the figures of a row in the order they are shown.
func (r row) shown() (all []figure) {
	for _, g := range r.goals {
		all = append(all, g.of)
	}
	return append(all, r.also...)
}

// line is a sample for a person.
func (s sample) line(r row) (line string) {
	for _, f := range r.shown() {
		line += fmt.Sprintf("  %s %s %s", figures[f].title, number(s[f]), figures[f].unit)
	}
	return line
}

// number has three digits.
func number(v float64) string {
	switch {
	case v >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case v >= 9.995:
		return fmt.Sprintf("%.1f", v)
	case v >= 0.9995 || v == 0:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
}
