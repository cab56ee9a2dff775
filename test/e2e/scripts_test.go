//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// hookText keeps the environment that a script was started with, refuses bob
// while there is a file "refuse", and waits with bob while there is one "hold".
const hookText = `#!/bin/sh
dir=${0%/*}/run
cp /proc/$$/environ "$dir/new.$$" && mv "$dir/new.$$" "$dir/env.$REASON.$USERNAME"
test "$REASON $USERNAME" = "connect bob" || exit 0
while test -e "$dir/hold"; do sleep 0.05; done
! test -e "$dir/refuse"
`

// newHooked is a rig whose server has all three scripts.
func newHooked(t *testing.T, clients int, settings ...string) *rig {
	r := newLab(t, clients)
	r.hooked(settings...)
	r.start()
	return r
}

// hooked configures all three scripts.
func (r *rig) hooked(settings ...string) {
	r.Helper()
	name := r.state.Path("hook")
	r.must(os.WriteFile(name, []byte(hookText), 0o755))
	r.must(r.state.Configure(append(settings, "connect-script = "+name, "disconnect-script = "+name, "host-update-script = "+name)...))
}

// told is the environment of a script that was called, without what the server
// itself was started with.
func (r *rig) told(reason, user string) map[string]string {
	r.Helper()
	name := r.state.Path("run", "env."+reason+"."+user)
	var b []byte
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var err error
		if b, err = os.ReadFile(name); err == nil {
			break
		}
		if time.Now().After(deadline) {
			r.Fatalf("the script was not called for %s: %v", reason, err)
		}
	}
	env := map[string]string{}
	for entry := range strings.SplitSeq(strings.TrimSuffix(string(b), "\x00"), "\x00") {
		name, value, _ := strings.Cut(entry, "=")
		if old, inherited := os.LookupEnv(name); !inherited || old != value {
			env[name] = value
		}
	}
	for _, name := range []string{"PATH", "HOME", "SHELL", "USER", "LOGNAME", "PWD"} { // of who starts the server as another user, or in a sandbox
		delete(env, name)
	}
	return env
}

// matches holds an environment to what is wanted of it: "*" is anything but
// nothing.
func (r *rig) matches(what string, got, want map[string]string) {
	r.Helper()
	for name, value := range want {
		if got[name] == "" || value != "*" && got[name] != value {
			r.Errorf("%s: %s is %q, not %q", what, name, got[name], value)
		}
	}
	for name, value := range got {
		if _, ok := want[name]; !ok {
			r.Errorf("%s: %s=%s is not documented", what, name, value)
		}
	}
}

// The scripts of an operator get what ocserv's manual says, and the final
// counters.
func TestScriptsEnvironment(t *testing.T) {
	rocservOnly(t, "1.1.6 has other names")
	t.Parallel()
	r := newHooked(t, 1, "route = "+lab.Tgt4+"/32", "route = fd77:2::/64", "no-route = 192.0.2.0/24", "restrict-user-to-ports = !(tcp(9), udp(53))")
	c := r.dial(lab.Dial{Args: []string{"--os=android", "--local-hostname=laptop"}})
	r.must(c.WaitDTLS())
	ip4, ip6, err := c.Addresses()
	r.must(err)
	want := map[string]string{
		"REASON": "connect", "ID": "*", "VHOST": "default", "USERNAME": lab.User, "HOSTNAME": "laptop", "REMOTE_HOSTNAME": "laptop",
		"DEVICE": "vpns0", "USER_AGENT": "*", "DEVICE_TYPE": "android", "DEVICE_PLATFORM": "android",
		"IP_REAL": lab.ClientAddr4(0), "IP_REAL_LOCAL": lab.Srv4, "IP_LOCAL": "*", "IP_REMOTE": ip4,
		"IPV6_LOCAL": "*", "IPV6_REMOTE": ip6, "IPV6_PREFIX": "128",
		"OCSERV_ROUTES":  lab.Tgt4 + "/255.255.255.255 fd77:2::/64 ",
		"OCSERV_ROUTES4": lab.Tgt4 + "/255.255.255.255 ", "OCSERV_ROUTES6": "fd77:2::/64 ",
		"OCSERV_NO_ROUTES": "192.0.2.0/255.255.255.0 ", "OCSERV_NO_ROUTES4": "192.0.2.0/255.255.255.0 ",
		"OCSERV_DNS": lab.Tgt4 + " ", "OCSERV_DNS4": lab.Tgt4 + " ", "OCSERV_DENY_PORTS": "tcp 9 udp 53 ",
	}
	connect := r.told("connect", lab.User)
	r.matches("connect", connect, want)
	want["REASON"] = "host-update"
	r.matches("host-update", r.told("host-update", lab.User), want)
	worker, err := r.srv.Worker(lab.ClientAddr4(0))
	r.must(err)
	if pid := r.ownPID(worker.PID); connect["ID"] != strconv.Itoa(pid) {
		t.Errorf("ID is %s, the worker %d", connect["ID"], pid)
	}

	const size = 3 << 20
	r.must(transfer(c, lab.Transfer{Host: lab.Tgt4, Bytes: size}))
	if _, err := c.Quit(); err != nil {
		t.Fatal(err)
	}
	end := r.told("disconnect", lab.User)
	out, _ := strconv.Atoi(end["STATS_BYTES_OUT"])
	in, _ := strconv.Atoi(end["STATS_BYTES_IN"])
	if out < size || out > 2*size || in == 0 || in > size {
		t.Errorf("%d bytes in, %d out, after a download of %d", in, out, size)
	}
	want["REASON"], want["DISCONNECT_REASON"] = "disconnect", "user disconnected"
	want["STATS_BYTES_IN"], want["STATS_BYTES_OUT"], want["STATS_DURATION"] = "*", "*", "*"
	r.matches("disconnect", end, want)
}

// connect-script refuses a client, and delays one; nobody else notices. A stop
// of the server is told of too.
func TestConnectScript(t *testing.T) {
	t.Parallel()
	r := newHooked(t, 2)
	file := func(name string) string { return r.state.Path("run", name) }
	r.must(os.WriteFile(file("refuse"), nil, 0o644))
	bob := lab.Dial{From: r.Cli[1], User: lab.Other, Input: []string{lab.Password}, Args: []string{"--no-dtls"}}
	refused := r.dial(bob)
	status, err := refused.Wait(30 * time.Second)
	r.must(err)
	if status == 0 || refused.Has(`HTTP/1.1 200 CONNECTED`) || !refused.Has(`HTTP/1.1 401`) {
		t.Errorf("openconnect refused by connect-script ended with status %d", status)
	}
	r.must(os.Remove(file("refuse")))

	r.must(os.WriteFile(file("hold"), nil, 0o644))
	r.must(os.Remove(file("env.connect." + lab.Other)))
	slow := r.dial(bob)
	r.told("connect", lab.Other)
	alice := r.connect(as(lab.User, right))
	r.must(hello4.run(r, alice))
	if slow.Has(`HTTP/1.1 200 CONNECTED`) {
		t.Error("bob did not wait for the script")
	}
	r.must(os.Remove(file("hold")))
	r.must(slow.WaitUp())

	r.must(r.srv.Stop())
	for _, user := range []string{lab.User, lab.Other} {
		if got := r.told("disconnect", user); server.Kind == lab.Rocserv && got["DISCONNECT_REASON"] != "server disconnected" {
			t.Errorf("%s: %s", user, fmt.Sprint(got))
		}
	}
	r.killed = true // it is stopped already
}
