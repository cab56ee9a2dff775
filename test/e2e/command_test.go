//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// offer is what quickstart prints: how to connect.
type offer struct {
	line                string // to type on a client
	user, pin, password string
}

// offer reads it off quickstart's output. The password is printed once.
func (r *rig) offer(p *lab.Process) offer {
	r.Helper()
	m := r.expect(p, `^ +sudo (openconnect --user=(\S+) --servercert=(\S+) \S+)$`, 10*time.Second)
	o := offer{line: m[1], user: m[2], pin: m[3]}
	if m, err := p.Expect(`^ +password +(\S+)$`, 0); err == nil {
		o.password = m[1]
	}
	return o
}

// storyOf prints what a program said if the test fails.
func (r *rig) storyOf(p *lab.Process) {
	r.Cleanup(func() {
		if r.Failed() {
			r.Log(tail(p.Story()))
		}
	})
}

// quickstart starts `rocserv quickstart` as an ordinary user.
func (r *rig) quickstart(args ...string) *lab.Process {
	r.Helper()
	p, err := r.Launch(server, append([]string{"quickstart"}, args...)...)
	r.must(err)
	r.storyOf(p)
	r.expect(p, "initialized rocserv", 20*time.Second)
	return p
}

// What quickstart prints works as printed, and the next start is the same server.
func TestQuickstart(t *testing.T) {
	rocservOnly(t, "it has no such thing")
	r := newLab(t, 1)
	home := r.Path("home")
	r.must(os.Mkdir(home, 0o755))
	r.must(os.Chown(home, lab.ServerID, lab.ServerID))
	where := []string{"--listen", "127.0.0.1:14443", "--state-dir", home + "/state"}

	p := r.quickstart(where...)
	first := r.offer(p)
	if first.password == "" {
		t.Fatal("no password is printed")
	}
	r.typed(first, first.password)
	r.typed(first, "")
	r.stopped(p)

	p = r.quickstart("--state-dir", home+"/state")
	second := r.offer(p)
	if second.line != first.line {
		t.Errorf("the second start prints %q, the first %q", second.line, first.line)
	}
	if second.password != "" || p.Has(regexp.QuoteMeta(first.password)) {
		t.Error("the second start prints a password")
	}
	r.typed(second, first.password)
	r.stopped(p)
	r.onlyOwners(home)
}

// typed runs the line as a person would, on the server's host, where the
// address is; so only the way to the gateway goes through the tunnel. With
// the empty password it wants to be refused.
func (r *rig) typed(o offer, password string) {
	r.Helper()
	c, err := r.Lab.ConnectLine(r.Srv, o.line, password)
	r.must(err)
	r.storyOf(c.Process)
	if password == "" {
		if status, err := c.Wait(20 * time.Second); err != nil || status == 0 || c.Has("200 CONNECTED") {
			r.Errorf("without the password, openconnect ended with status %d, %v", status, err)
		}
		return
	}
	r.must(c.WaitDTLS())
	env, err := c.Env("connect")
	r.must(err)
	gateway := strings.TrimSuffix(env["INTERNAL_IP4_NETADDR"], ".0") + ".1"
	r.must(runs(c, "", " 0% packet loss", pinging(gateway)...))
	if status, err := c.Quit(); err != nil || status != 0 {
		r.Errorf("openconnect ended with status %d, %v", status, err)
	}
}

func (r *rig) stopped(p *lab.Process) {
	r.Helper()
	if status, err := p.End(syscall.SIGINT, 10*time.Second); err != nil || status != 0 {
		r.Errorf("%s ended with status %d, %v", p.Name, status, err)
	}
}

// onlyOwners wants files of the state to be their owner's alone.
func (r *rig) onlyOwners(dir string) {
	r.Helper()
	out, err := r.Srv.Run("find", dir+"/state", "-perm", "/077")
	r.must(err)
	if out != "" {
		r.Errorf("others may read:\n%s", out)
	}
}

// What is wrong with a configuration is said with file and line.
func TestCheckConfiguration(t *testing.T) {
	rocservOnly(t, "it names no lines")
	r := newLab(t, 0)
	r.fails(0, nil, "-t", "-c", r.state.Config)
	r.must(r.state.Configure("rekey-method = fast", "listen-clear-file = /x", "route = 10.0.0.0/33"))
	var want []string
	for _, key := range []string{"rekey-method", "listen-clear-file", "route"} {
		want = append(want, fmt.Sprintf(`(?m)%s:%d: `, regexp.QuoteMeta(r.state.Config), r.line(key)))
	}
	r.fails(1, want, "-t", "-c", r.state.Config)
	r.fails(1, want, "-f", "-c", r.state.Config)
	r.fails(1, []string{"no such file"}, "-t", "-c", r.Path("nothing"))
	r.fails(1, []string{"no additional command line options"}, "-f", "-c", r.state.Config, "more")
}

// line is the number of the line of the configuration that sets something.
func (r *rig) line(key string) int {
	r.Helper()
	b, err := os.ReadFile(r.state.Config)
	r.must(err)
	for i, line := range strings.Split(string(b), "\n") {
		if strings.HasPrefix(line, key+" ") {
			return i + 1
		}
	}
	r.Fatalf("no line %s", key)
	return 0
}

// fails runs the server, which is to end at once with a status and these texts.
func (r *rig) fails(status int, texts []string, args ...string) {
	r.Helper()
	r.failsOn(server, status, texts, args...)
}

// failsOn is fails with another program, and returns what ran.
func (r *rig) failsOn(program lab.Program, status int, texts []string, args ...string) *lab.Process {
	r.Helper()
	p, err := r.Launch(program, args...)
	r.must(err)
	got, err := p.Wait(10 * time.Second)
	if err != nil {
		p.End(syscall.SIGKILL, time.Second)
	}
	if err != nil || got != status {
		r.Errorf("%v: status %d, %v, not %d\n%s", args, got, err, status, p.Story())
	}
	for _, text := range texts {
		if !p.Has(text) {
			r.Errorf("%v: nothing like %q in\n%s", args, text, p.Story())
		}
	}
	return p
}

// A server that cannot start says why, and what helps.
func TestCannotStart(t *testing.T) {
	rocservOnly(t, "it starts as root")
	port := fmt.Sprint(lab.Port)
	for _, k := range []struct {
		name     string
		settings []string
		prepare  func(*rig) error
		texts    []string
	}{
		{"a low port", []string{"tcp-port = 443", "udp-port = 443"}, nil,
			[]string{`:443\b.*permission denied`, `net\.ipv4\.ip_unprivileged_port_start`}},
		{"a port in use", nil, func(r *rig) error { return r.occupy(port) },
			[]string{`:` + port + `\b.*address already in use`}},
		{"a key that cannot be read", nil, func(r *rig) error { return os.Chown(r.state.Path("key.pem"), 0, 0) },
			[]string{`key\.pem: permission denied`}},
		{"no key", nil, func(r *rig) error { return os.Remove(r.state.Path("key.pem")) },
			[]string{`key\.pem: no such file`}},
		{"another certificate's key", nil, func(r *rig) error {
			other, err := r.MakeState("other")
			if err != nil {
				return err
			}
			return os.Rename(other.Path("key.pem"), r.state.Path("key.pem"))
		}, []string{`(?i)key.*(match|belong)`}},
		{"no password file", nil, func(r *rig) error { return os.Remove(r.state.Path("users")) },
			[]string{`users: no such file`}},
	} {
		t.Run(k.name, func(t *testing.T) {
			r := newLab(t, 0, k.settings...)
			if k.prepare != nil {
				r.must(k.prepare(r))
			}
			r.fails(1, k.texts, "-f", "-c", r.state.Config)
		})
	}
}

// occupy has another program listen on a port in srv.
func (r *rig) occupy(port string) error {
	p, err := r.Srv.Start("socat", nil, nil, "socat", "-d", "-d", "TCP-LISTEN:"+port+",fork", "OPEN:/dev/null")
	if err != nil {
		return err
	}
	_, err = p.Expect("listening on", 5*time.Second)
	return err
}
