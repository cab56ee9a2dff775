package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// document writes performance.md and its charts into a folder.
func (r *result) document(dir string) error {
	var b strings.Builder
	b.WriteString("# Performance\n\n")
	b.WriteString("Made by `test/bench/run -json FILE -doc doc`; `test/bench/doc.go` says how it is measured. ocserv runs as root\n" +
		"with kernel tun devices, rocserv as an ordinary user without capabilities and without a tun. Absolute figures are\n" +
		"this machine's; the ratios are what to look at. What connects for load offers openconnect's key exchanges.\n\n")
	b.WriteString(r.environment() + "\n")
	for _, c := range charts {
		if svg, ok := c.draw(r); ok {
			if err := os.WriteFile(filepath.Join(dir, c.file), []byte(svg), 0o644); err != nil {
				return err
			}
			fmt.Fprintf(&b, "![%s](%s)\n\n", c.title, c.file)
		}
	}
	course, err := r.documentCourse(dir)
	if err != nil {
		return err
	}
	b.WriteString(course + r.markdown())
	b.WriteString("\nMedians, with the least and the greatest of the rounds. ~ marks figures for which the machine was not quiet.\n" +
		"\"must\" is this project's own goal (× is the ratio to ocserv).\n\n## What is missed\n\n")
	misses := r.misses()
	if len(misses) == 0 {
		b.WriteString("Nothing of what was measured.\n")
	}
	for _, m := range misses {
		fmt.Fprintf(&b, "- %s\n", m)
	}
	b.WriteString(r.growths() + r.floors())
	if len(r.Failed) > 0 {
		b.WriteString("\nMeasurements that failed:\n\n")
	}
	for _, f := range r.Failed {
		fmt.Fprintf(&b, "- %s\n", strings.ReplaceAll(f, "\n", " "))
	}
	if left := r.unmeasured(); len(left) > 0 {
		fmt.Fprintf(&b, "\nNot measured in this run: %s.\n", strings.Join(left, "; "))
	}
	return os.WriteFile(filepath.Join(dir, "performance.md"), []byte(b.String()), 0o644)
}

// unmeasured are the rows that the run has not.
func (r *result) unmeasured() (titles []string) {
	have := map[string]bool{}
	for _, rr := range r.Rows {
		have[rr.Name] = true
	}
	for _, which := range rows {
		if !have[which.name] {
			titles = append(titles, which.title)
		}
	}
	return titles
}
