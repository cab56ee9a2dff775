package sandbox

import (
	"errors"
	"strings"
)

// Report says what a process can no longer do.
type Report struct {
	Reached []string
	Missing []string // layers that are not there, each with the reason
}

func (r Report) String() string {
	s := strings.Join(r.Reached, ", ")
	if len(r.Missing) > 0 {
		s += "; missing: " + strings.Join(r.Missing, ", ")
	}
	return s
}

// add notes a layer, or why it is missing.
func (r *Report) add(what string, err error) {
	if err != nil {
		r.Missing = append(r.Missing, what+" ("+err.Error()+")")
		return
	}
	r.Reached = append(r.Reached, what)
}

// Err is an error if a layer is missing (require-confinement).
func (r Report) Err() error {
	if len(r.Missing) == 0 {
		return nil
	}
	return errors.New("require-confinement: missing " + strings.Join(r.Missing, ", "))
}
