package config

import (
	"fmt"
	"strings"
)

// How many problems of a kind are kept; what a file has beyond is counted.
const (
	maxErrors   = 50
	maxWarnings = 200
)

func (p Problem) String() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}

// Error is why a file is not taken: every problem that was found in it, at
// least one, those of lines in the order of the lines.
type Error struct {
	Problems []Problem
}

func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// report collects what is to be said about a file.
type report struct {
	file                    string
	errors, warnings, notes []Problem
	moreErrors              int
	moreWarnings            int
}

func (r *report) errorf(line int, format string, args ...any) {
	if len(r.errors) == maxErrors {
		r.moreErrors++
		return
	}
	r.errors = append(r.errors, Problem{r.file, line, fmt.Sprintf(format, args...)})
}

func (r *report) warnf(line int, format string, args ...any) {
	if len(r.warnings) == maxWarnings {
		r.moreWarnings++
		return
	}
	r.warnings = append(r.warnings, Problem{r.file, line, fmt.Sprintf(format, args...)})
}

func (r *report) notef(line int, format string, args ...any) {
	if len(r.notes) < maxWarnings {
		r.notes = append(r.notes, Problem{r.file, line, fmt.Sprintf(format, args...)})
	}
}

// err returns the errors, if any.
func (r *report) err() error {
	if len(r.errors) == 0 {
		return nil
	}
	if r.moreErrors > 0 {
		r.errors = append(r.errors, Problem{r.file, 0, fmt.Sprintf("and %d errors more", r.moreErrors)})
	}
	return &Error{r.errors}
}

// warned returns the warnings.
func (r *report) warned() []Problem {
	if r.moreWarnings > 0 {
		r.warnings = append(r.warnings, Problem{r.file, 0, fmt.Sprintf("and %d warnings more", r.moreWarnings)})
		r.moreWarnings = 0
	}
	return r.warnings
}
