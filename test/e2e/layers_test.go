//go:build e2e

package e2e

import (
	"os"
	"regexp"
	"testing"
	"time"

	"rocserv/internal/sandbox"
	"rocserv/test/e2e/lab"
)

// On a host that lacks a layer of confinement the server works, says which one
// is missing, and what doctor says of it is so; with require-confinement = true
// that is an error that names the layer.
func TestMissingLayer(t *testing.T) {
	rocservOnly(t, "it is confined otherwise")
	for _, k := range []struct {
		layer string
		lacks []uintptr
		warns []string // of which process
		found string   // by doctor
	}{
		{"Landlock", lab.NoLandlock, []string{"sec-mod", "workers"}, "none"},
		{"system call filter", lab.NoFilters, []string{"main", "sec-mod", "workers"}, "function not implemented"},
	} {
		t.Run(k.layer, func(t *testing.T) {
			host := server
			host.Sandbox, host.Lacks = lab.Bwrap, k.lacks
			r := newLab(t, 1)
			doctor := func(status int, state string) {
				t.Helper()
				if said := r.doctorOn(host, status); !regexp.MustCompile(state + ` +` + k.layer + ` +` + k.found).MatchString(said) {
					t.Errorf("doctor does not say that there is %s %s:\n%s", state, k.layer, said)
				}
			}
			doctor(0, "gap")
			var err error
			r.srv, err = r.StartServer(host, r.state)
			r.must(err)
			c := r.connect(lab.Dial{})
			r.each(c, hello4, hello6, lookup)
			for _, who := range k.warns {
				r.expect(r.srv.Process, `warning.*: `+who+` (is|are) not confined by `+k.layer, time.Second)
			}
			if n := r.srv.Count(` not confined by `); n != len(k.warns) {
				t.Errorf("%d warnings, not %d", n, len(k.warns))
			}

			// What cannot be had is no reason to lose the configuration in effect.
			mark := r.srv.Mark()
			r.reload(`not reloaded.*require-confinement`, "require-confinement = true")
			if _, err := r.srv.ExpectAfter(mark, `this host lacks: .*`+k.layer, time.Second); err != nil {
				t.Error(err)
			}
			r.must(hello4.run(r, c))
			r.must(r.srv.Stop())
			r.killed = true // it is stopped already

			said := r.failsOn(host, 1, []string{`require-confinement = true, and this host lacks: .*` + k.layer}, "-f", "-c", r.state.Config)
			if said.Has(`initialized rocserv`) {
				t.Error("it starts all the same")
			}
			doctor(1, "bad")
		})
	}
}

// needsLandlock skips a test where the kernel has none, which must not go
// unnoticed where all are to run.
func needsLandlock(t *testing.T) {
	t.Helper()
	if sandbox.LandlockABI() != 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("this kernel has no Landlock")
	}
	t.Skip("this kernel has no Landlock")
}

// Where every layer is there, require-confinement costs nothing.
func TestRequireConfinement(t *testing.T) {
	rocservOnly(t, "it is confined otherwise")
	needsLandlock(t)
	r := newRig(t, 1, "require-confinement = true")
	c := r.connect(lab.Dial{})
	r.each(c, hello4, hello6)
	for _, who := range []string{"main", "sec-mod", "workers"} {
		r.expect(r.srv.Process, who+` (is|are) confined reached=.*system call filter`, time.Second)
	}
	if r.srv.Has(` not confined by `) {
		t.Error("a layer is missing, and the server works")
	}
}
