//go:build e2e

package e2e

import (
	"testing"

	"rocserv/test/e2e/lab"
)

// Every process is an ordinary user's, without any capability, and can never
// have one.
func TestOrdinaryProcesses(t *testing.T) {
	rocservOnly(t, "it runs as root")
	r := newRig(t, 1)
	c := r.connect(lab.Dial{})
	r.must(hello4.run(r, c))
	roles, err := r.srv.Processes()
	r.must(err)
	if len(roles[lab.RoleMain]) != 1 || len(roles[lab.RoleSecMod]) != 1 || len(roles[lab.RoleWorker]) < 1 || len(roles) != 3 {
		t.Fatalf("processes: %v", roles)
	}
	for role, procs := range roles {
		for _, p := range procs {
			r.ordinary(role, p.PID, lab.ServerID)
		}
	}
}

// ordinary wants a process to be a user's who may do nothing special.
func (r *rig) ordinary(role string, pid, uid int) {
	r.Helper()
	got, err := lab.ReadConfinement(pid)
	if err != nil {
		r.Errorf("%s %d: %v", role, pid, err)
		return
	}
	const filter = 2 // mode, of /proc/PID/status
	want := lab.Confinement{NoNewPrivs: true, Seccomp: filter}
	for i := range want.UIDs {
		want.UIDs[i] = uid
	}
	if got != want {
		r.Errorf("%s %d is %+v, not %+v", role, pid, got, want)
	}
}
