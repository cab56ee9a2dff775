package descriptors

import (
	"os"
	"testing"
)

// told counts what a test is told.
type told struct {
	testing.TB
	errors int
}

func (t *told) Errorf(string, ...any) { t.errors++ }

func TestNoneLeft(t *testing.T) {
	old, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	before, n := Open(t), Count(t)
	old.Close() // an earlier test's
	r := &told{TB: t}
	if NoneLeft(r, before); r.errors != 0 {
		t.Errorf("%d errors though nothing was opened", r.errors)
	}
	f, err := os.Open(".") // in the place of the other one
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if NoneLeft(r, before); r.errors != 1 || Count(t) != n {
		t.Errorf("%d errors, %d open where %d were: one was left, one is closed", r.errors, Count(t), n)
	}
}
