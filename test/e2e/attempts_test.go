//go:build e2e

package e2e

import (
	"encoding/json"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// What a guess comes to, as curl sees it.
const (
	guessWrong  = "200 again"
	guessRight  = "200 in"
	guessUnseen = "401"
)

// guess posts a name and a password on a connection of its own, to a virtual
// host by its name.
func (r *rig) guess(from lab.Netns, vhost, user, password string) string {
	r.Helper()
	form := url.Values{"username": {user}, "password": {password}}.Encode()
	at := net.JoinHostPort(vhost, strconv.Itoa(lab.Port))
	out, err := from.RunFor(20*time.Second, "", "curl", "-s", "-k", "-m", "15", "-w", "\n%{http_code}",
		"--resolve", at+":"+lab.Srv4, "-A", "Open AnyConnect VPN Agent v9.12", "--data", form, "https://"+at+"/auth")
	if err != nil {
		r.Fatalf("curl: %v\n%s", err, out)
	}
	body, status, _ := strings.Cut(out, "\n")
	if i := strings.LastIndexByte(out, '\n'); i >= 0 {
		body, status = out[:i], out[i+1:]
	}
	switch {
	case strings.Contains(body, "Login failed"):
		return status + " again"
	case strings.Contains(body, `id="success"`):
		return status + " in"
	}
	return status
}

// Wrong answers are counted by user and by source, at all virtual hosts
// together; then nothing is looked at, whoever is meant. A user who logged in
// from where he is gets in while others guess his name.
func TestAttempts(t *testing.T) {
	rocservOnly(t, "it counts by source only")
	const main, second = "vpn.test", "other.test"
	r := newLab(t, 3)
	r.must(r.state.Configure("attempts-pair = 4", "attempts-source = 6", "attempts-user = 5",
		"use-occtl = true", "occtl-socket-file = "+r.socket(), "[vhost:"+second+"]"))
	r.start()
	home, guesser, elsewhere := r.Cli[0], r.Cli[1], r.Cli[2]
	gone := r.connect(lab.Dial{From: home})
	if _, err := gone.Quit(); err != nil {
		t.Fatal(err)
	}
	for i, g := range []struct {
		from        lab.Netns
		vhost, user string
		password    string
		want        string
	}{
		{guesser, main, lab.User, "1", guessWrong},
		{guesser, second, lab.User, "2", guessWrong},
		{guesser, main, lab.User, "3", guessWrong},
		{guesser, second, strings.ToUpper(lab.User), "4", guessWrong},
		{guesser, main, lab.User, lab.Password, guessUnseen},
		{guesser, second, lab.User, "5", guessUnseen},
		{guesser, main, "mallory", "1", guessWrong},
		{guesser, main, "nobody", "1", guessWrong},
		{guesser, main, "somebody", "1", guessUnseen},
		{guesser, main, lab.Other, lab.Password, guessUnseen},

		{elsewhere, main, lab.User, "6", guessWrong},
		{elsewhere, main, lab.User, lab.Password, guessUnseen},
		{elsewhere, second, lab.Other, lab.Password, guessRight},

		{home, main, lab.User, "a typing error", guessWrong},
		{home, second, lab.User, lab.Password, guessRight},
	} {
		if got := r.guess(g.from, g.vhost, g.user, g.password); got != g.want {
			t.Errorf("guess %d, %q with %q: %s, want %s", i, g.user, g.password, got, g.want)
		}
	}
	for _, l := range []login{
		{name: "from home", dial: lab.Dial{From: home}, lines: []string{lineDTLS}, checks: both},
		{name: "from elsewhere", dial: lab.Dial{From: elsewhere}, status: 1, lines: []string{`HTTP/1.1 401`}, never: []string{lineFailed, `CONNECT response`}},
	} {
		t.Run(l.name, func(t *testing.T) { r.in(t).try(l) })
	}
	var status struct {
		Counters map[string]map[string]uint64
		Gauges   map[string]uint64
	}
	text := r.wants("-j show status")
	if err := json.Unmarshal([]byte(text), &status); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	limited, users, sources := status.Counters["secmod"]["logins_limited"], status.Gauges["users_limited"], status.Gauges["sources_limited"]
	if limited != 6 || users != 1 || sources != 1 {
		t.Errorf("%d logins limited, %d users and %d sources at their limit", limited, users, sources)
	}
	source := lab.ClientAddr4(1)
	r.wants("show limits", lab.User, source, "(any)")
	r.wants("-j show limits", `"Username":  "`+lab.User+`"`, `"IP":  "`+source+`"`)
	r.wants("unlimit user "+lab.User, "user '"+lab.User+"' is no longer limited")
	if got := r.guess(elsewhere, main, lab.User, lab.Password); got != guessRight {
		t.Errorf("after an operator's word for the user: %s", got)
	}
	r.wants("unlimit ip "+source, "IP '"+source+"' is no longer limited")
	if got := r.guess(guesser, main, lab.Other, lab.Password); got != guessRight {
		t.Errorf("after an operator's word for the source: %s", got)
	}
	if out := r.wants("show limits"); out != "" {
		t.Errorf("still limited:\n%s", out)
	}
}
