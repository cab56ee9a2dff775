//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"rocserv/test/e2e/hostile"
	"rocserv/test/e2e/lab"
)

// hostileRig is a server whose workers do what their client says, and a client
// beside that must not notice.
type hostileRig struct {
	*rig
	exe   string
	order hostile.Order // what all orders have
	ended int           // attempts so far that end a worker

	broken int // attempts so far because of which another client's worker hangs up
}

// Networks behind the two clients.
const (
	behindAlice = "192.168.88.0/24"
	behindBob   = "192.168.77.0/24"
)

func newHostileRig(t *testing.T) *hostileRig {
	r := &hostileRig{rig: newLab(t, 2)}
	r.must(os.Mkdir(r.state.Path("user"), 0o755))
	for user, network := range map[string]string{lab.User: behindAlice, lab.Other: behindBob} {
		r.must(os.WriteFile(r.state.Path("user", user), []byte("iroute = "+network+"\n"), 0o644))
	}
	r.must(r.state.Configure("client-to-client = true", "config-per-user = "+r.state.Path("user"),
		"use-occtl = true", "occtl-socket-file = "+r.socket()))
	dir := r.Path("hostile")
	r.must(os.Mkdir(dir, 0o755))
	r.must(os.Chown(dir, lab.ServerID, lab.ServerID)) // workers of the pool take their orders there
	r.exe = filepath.Join(dir, "rocserv")
	build := exec.Command("go", "build", "-tags", "e2e", "-trimpath", "-o", r.exe, "rocserv/test/e2e/hostile/server")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program := server
	program.Path = r.exe
	srv, err := r.StartServer(program, r.state)
	r.srv, r.killed = srv, true // violations are what this is about
	r.must(err)
	return r
}

// attempts lists the table's attempts at these stages.
func (r *hostileRig) attempts(stages ...string) (list []hostile.Attempt, orders []hostile.Order) {
	for _, stage := range stages {
		for _, a := range hostile.Table() {
			for _, s := range a.Stages {
				if s == stage {
					o := r.order
					o.Attempt, o.Stage = a.Name, stage
					list, orders = append(list, a), append(orders, o)
				}
			}
		}
	}
	return list, orders
}

// withClient makes the attempts of workers that have one.
func (r *hostileRig) withClient() int {
	list, orders := r.attempts(hostile.Handshake, hostile.Login, hostile.Tunnel)
	q := lab.Lines{To: lab.ServerAt(lab.Srv4)}
	for _, o := range orders {
		b, err := json.Marshal(o)
		r.must(err)
		q.Lines = append(q.Lines, hostile.Prefix+string(b))
	}
	answers, err := lab.Say(r.Cli[1], q)
	r.must(err)
	for i, a := range list {
		r.judge(a, orders[i].Stage, answers[i])
	}
	return len(list)
}

// judge holds an answer against the table.
func (r *hostileRig) judge(a hostile.Attempt, stage, answer string) {
	if a.Want == hostile.Ended {
		r.ended++
	}
	if a.Want == hostile.Broken {
		r.broken++
	}
	refused := strings.HasPrefix(answer, "refused: ")
	var right bool
	switch a.Want {
	case hostile.Ended:
		right = answer == ""
	case hostile.Allowed:
		right = answer == hostile.In
	default:
		right = refused
	}
	if !right {
		r.Errorf("%s: %s: it should be %s; answer %q", stage, a.Name, a.Want, answer)
	}
}

// inPool makes the attempts of workers that wait for a client.
func (r *hostileRig) inPool() int {
	list, orders := r.attempts(hostile.Pooled)
	for i, o := range orders {
		answer := hostile.ClientCame
		for range 5 {
			if answer = r.tryInPool(list[i].Name, o); answer != hostile.ClientCame {
				break
			}
		}
		r.judge(list[i], hostile.Pooled, answer)
	}
	return len(list)
}

// tryInPool has the next worker of the pool make an attempt, and returns its
// answer, if it lived to give one.
func (r *hostileRig) tryInPool(name string, o hostile.Order) string {
	b, err := json.Marshal(o)
	r.must(err)
	next := hostile.PooledOrder(r.exe)
	r.must(os.WriteFile(next+".new", b, 0o644))
	r.must(os.Rename(next+".new", next))
	mark := r.srv.Mark()
	// Somebody takes a worker out of the pool, and it is replaced.
	if _, err := lab.Say(r.Cli[1], lab.Lines{To: lab.ServerAt(lab.Srv4), Lines: []string{"GET / HTTP/1.0"}}); err != nil {
		r.Fatal(err)
	}
	m, err := r.srv.ExpectAfter(mark, `hostile attempt="?`+name+`"? answer="?([^"]*)|protocol violation; worker killed`, 20*time.Second)
	r.must(err)
	return m[1]
}

// violations is what main has counted.
func (r *hostileRig) violations() int {
	r.must(r.srv.Signal(syscall.SIGUSR2))
	m := r.expect(r.srv.Process, `maintenance .*violations=(\d+)`, 5*time.Second)
	n, err := strconv.Atoi(m[1])
	r.must(err)
	return n
}

// A worker that is taken over, at any stage, gets nowhere, is ended at most,
// is counted, and disturbs nobody.
func TestHostileWorker(t *testing.T) {
	rocservOnly(t, "its workers speak something else")
	t.Parallel()
	r := newHostileRig(t)
	c := r.connect(lab.Dial{})
	_, err := lab.StartTarget(r.Cli[0])
	r.must(err)
	ip4, _, err := c.Addresses()
	r.must(err)
	before, err := r.srv.Worker(lab.ClientAddr4(0))
	r.must(err)
	roles, err := r.srv.Processes()
	r.must(err)
	r.order = hostile.Order{
		User: lab.Other, Password: lab.Password,
		Main: r.ownPID(roles[lab.RoleMain][0].PID), SecMod: r.ownPID(roles[lab.RoleSecMod][0].PID), Other: r.ownPID(before.PID),
		Key: r.state.Path("key.pem"), Config: r.state.Config, Port: lab.Port, SafeID: "AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
		Beside: netip.MustParseAddr(ip4), BehindOther: netip.MustParseAddr("192.168.88.9"), Behind: netip.MustParseAddr("192.168.77.9"),
	}
	files, err := lab.Descriptors(before.PID)
	r.must(err)
	n := r.withClient()
	n += r.inPool()
	t.Logf("%d attempts, %d of them the end of a worker", n, r.ended)
	if n < 40 {
		t.Errorf("only %d attempts", n)
	}
	if got := r.violations(); got != r.ended {
		t.Errorf("%d violations counted, %d workers had to be ended", got, r.ended)
	}
	if got := r.counter("workers", "peers_broken"); got != uint64(r.broken) {
		t.Errorf("%d pairs were ended for what came by them, %d had to be", got, r.broken)
	}
	r.within(10*time.Second, func() error {
		now, err := lab.Descriptors(before.PID)
		if err == nil && now > files {
			err = fmt.Errorf("the worker beside has %d descriptors, it had %d", now, files)
		}
		return err
	})
	if r.srv.Has(`panic|internal error`) {
		t.Error("the server's log tells of a failure")
	}

	// Who is beside has the same worker, and it works; nobody else came to harm.
	after, err := r.srv.Worker(lab.ClientAddr4(0))
	r.must(err)
	if after.PID != before.PID || !c.Running() {
		t.Errorf("the client beside was served by %d, now by %d", before.PID, after.PID)
	}
	r.must(hello4.run(r.rig, c))
	now, err := r.srv.Processes()
	r.must(err)
	if now[lab.RoleSecMod][0].PID != roles[lab.RoleSecMod][0].PID {
		t.Error("sec-mod is another one")
	}
	if _, err := os.Stat("/tmp/rocserv-hostile"); err == nil {
		t.Error("a worker made a file")
	}
	r.must(r.worksForOthers())
}

// worksForOthers logs somebody in.
func (r *hostileRig) worksForOthers() error {
	cookie, err := lab.Authenticate(lab.Dial{From: r.Cli[1], To: lab.ServerAt(lab.Srv4), Pin: r.state.Pin, User: lab.Other, Input: []string{lab.Password}})
	if err == nil && cookie == "" {
		err = fmt.Errorf("no cookie")
	}
	return err
}
