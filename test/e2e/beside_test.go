//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// action is what is done to both servers; what comes of it is compared line by
// line. Exactly one of the ways to do it is set.
type action struct {
	name  string
	curl  []string // arguments; the URL's path is the last one
	login bool     // curl: with the cookie of a new login
	raw   string   // gnutls-cli: bytes to send, after which the server ends the connection; SID is the cookie of a new login
	then  string   // raw: bytes to send a second later
	vpn   []string // openconnect: arguments, with a tunnel
	auth  []string // openconnect --authenticate: arguments; what it says over HTTP
	fails bool     // auth: with a wrong password
	occtl []string // arguments of the control tool
}

// peer is one of the two servers with its client.
type peer struct {
	*rig
	program lab.Program
	tool    string // its occtl
}

const answerLimit = 60 * time.Second

func (p *peer) url(path string) string { return "https://" + lab.ServerAt(lab.Srv4) + path }

// act does it, and returns what is seen of it: a line each.
func (p *peer) act(a action) []string {
	switch {
	case a.curl != nil:
		args := slices.Clone(a.curl)
		if a.login {
			args = append([]string{"-b", "webvpn=" + p.cookie()}, args...)
		}
		return p.curl(args...)
	case a.raw != "":
		raw := a.raw
		if strings.Contains(raw, "SID") {
			raw = strings.ReplaceAll(raw, "SID", p.cookie())
		}
		return p.say(raw, a.then)
	case a.vpn != nil:
		return p.tunnel(a.vpn)
	case a.auth != nil:
		return p.authenticate(a)
	default:
		return p.control(a.occtl)
	}
}

// curl is one request. The exit code counts too: 52 is a connection that ends
// without a reply, as is 56.
func (p *peer) curl(args ...string) []string {
	n := len(args) - 1
	args[n] = p.url(args[n])
	argv := append([]string{"curl", "-s", "-k", "-i", "--path-as-is", "--max-time", "40"}, args...)
	out, err := p.Cli[0].RunFor(answerLimit, "", argv...)
	for try := 1; exitCode(err) == 35 && try < 5; try++ {
		// ocserv sometimes closes a connection within the TLS handshake.
		out, err = p.Cli[0].RunFor(answerLimit, "", argv...)
	}
	if code := exitCode(err); code == 52 || code == 56 || code == 55 {
		return []string{"no reply"}
	} else if err != nil {
		p.Errorf("curl %q: %v", args, err)
	}
	return lines(out)
}

// cookie logs in and returns the session's cookie.
func (p *peer) cookie() string {
	cookie, err := lab.Authenticate(lab.Dial{
		From: p.Cli[0], To: lab.ServerAt(lab.Srv4), Pin: p.state.Pin, User: lab.User, Input: []string{lab.Password},
		Args: besideGroup,
	})
	p.must(err)
	// With the key of a later STRAP request in front, "openconnect_strapkey=...; webvpn=...".
	return cookie[strings.LastIndex(cookie, "webvpn=")+len("webvpn="):]
}

// say sends bytes, and others later, and returns what comes back until the
// server closes.
func (p *peer) say(raw, then string) []string {
	host, port, _ := strings.Cut(lab.ServerAt(lab.Srv4), ":")
	// The input stays open until the other side has closed.
	script := `{ printf "$1"; sleep 1; printf "$4"; sleep 50; } | { gnutls-cli --no-ca-verification --logfile=/dev/null -p "$2" "$3" 2>/dev/null; kill 0; }`
	out, _ := p.Cli[0].RunFor(answerLimit, "", "setsid", "sh", "-c", script, "sh", raw, port, host, then)
	var seen []string
	for _, line := range lines(out) {
		if strings.HasPrefix(line, "STF\x01") { // packets of the tunnel
			break
		}
		if !strings.HasPrefix(line, "*** ") && !strings.HasPrefix(line, "- ") && line != "Terminated" {
			seen = append(seen, line)
		}
	}
	if seen == nil {
		seen = []string{"no reply"}
	}
	return seen
}

// tunnelLine is how openconnect shows the reply to its CONNECT, after a time.
var tunnelLine = regexp.MustCompile(`^\s*[0-9.]+ ((?:Got CONNECT response: |X-)\S.*)`)

// authenticate logs in with openconnect and returns the replies.
func (p *peer) authenticate(a action) []string {
	password := lab.Password
	if a.fails {
		password = "wrong"
	}
	argv := append([]string{"openconnect", "-vvv", "--dump-http-traffic", "--authenticate", "--servercert", p.state.Pin,
		"--user", lab.User, "--passwd-on-stdin", "--non-inter"}, slices.Concat(besideGroup, a.auth)...)
	out, err := p.Cli[0].RunFor(answerLimit, password+"\n", append(argv, p.url("/"))...)
	seen := []string{fmt.Sprintf("openconnect exit %d", exitCode(err))}
	for _, line := range lines(out) {
		if strings.HasPrefix(line, "< ") {
			seen = append(seen, strings.TrimPrefix(line, "< "))
		}
	}
	return seen
}

// tunnel connects and returns the headers of the reply to CONNECT.
func (p *peer) tunnel(args []string) []string {
	c := p.dial(lab.Dial{Args: slices.Concat([]string{"-vv"}, besideGroup, args)})
	p.must(c.WaitUp())
	var seen []string
	for _, line := range lines(c.Story()) {
		if m := tunnelLine.FindStringSubmatch(line); m != nil {
			seen = append(seen, m[1])
		}
	}
	status, err := c.Quit()
	p.must(err)
	return append(seen, fmt.Sprintf("openconnect exit %d", status))
}

// control runs the server's control tool.
func (p *peer) control(args []string) []string {
	argv := append([]string{p.tool, "-s", p.state.Path("run", "occtl")}, args...)
	out, err := p.Srv.RunFor(answerLimit, "", argv...)
	return append(lines(out), fmt.Sprintf("occtl exit %d", exitCode(err)))
}

func exitCode(err error) int {
	var exit *exec.ExitError
	if err == nil {
		return 0
	}
	if !errors.As(err, &exit) {
		return -1
	}
	return exit.ExitCode()
}

// masks hide what is different each time.
var masks = []struct {
	of *regexp.Regexp
	by string
}{
	{regexp.MustCompile(`(?i)(webvpn(?:context)?=)[A-Za-z0-9+/_=-]{20,}`), "${1}SID"},
	{regexp.MustCompile(`<session-token>[^<]*</session-token>`), "<session-token>SID</session-token>"},
	{regexp.MustCompile(`[0-9A-F]{40}`), "SHA1"},
	{regexp.MustCompile(`(App-ID: |Session-ID: )[0-9a-f]{64}`), "${1}ID"},
	{regexp.MustCompile(`(?i)^(Content-Length: )[0-9]+`), "${1}N"}, // bodies are compared themselves
	{regexp.MustCompile(`Base-MTU: [0-9]+`), "Base-MTU: N"},
}

func lines(out string) []string {
	var list []string
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\r\n\t ")
		for _, m := range masks {
			line = m.of.ReplaceAllString(line, m.by)
		}
		if line != "" {
			list = append(list, line)
		}
	}
	return list
}

// differences are the lines of one that the other lacks: "- " theirs, "+ " ours.
func differences(theirs, ours []string) (list []string) {
	left := slices.Clone(ours)
	for _, line := range theirs {
		if i := slices.Index(left, line); i >= 0 {
			left = slices.Delete(left, i, i+1)
		} else {
			list = append(list, "- "+line)
		}
	}
	for _, line := range left {
		list = append(list, "+ "+line)
	}
	return list
}

// meet starts a server with its client and does everything to it.
func meet(t *testing.T, program lab.Program) map[string][]string {
	r := newLab(t, 1, besideSettings...)
	p := &peer{rig: r, program: program, tool: "occtl"}
	if program.Kind == lab.Rocserv {
		p.tool = named(t, "occtl")
	}
	users, err := os.ReadFile(r.state.Path("users"))
	r.must(err)
	r.must(os.WriteFile(r.state.Path("users"), []byte(strings.ReplaceAll(string(users), ":*:", ":staff,guests:")), 0o600))
	r.must(os.WriteFile(r.state.Path("profile.xml"), []byte(besideProfile), 0o644))
	r.must(r.state.Configure(append(besideSettings, "user-profile = "+r.state.Path("profile.xml"),
		"occtl-socket-file = "+r.state.Path("run", "occtl"))...))
	r.srv, err = r.StartServer(program, r.state)
	if err != nil {
		t.Fatalf("%s does not start: %v", program.Kind, err)
	}
	seen := map[string][]string{}
	for _, a := range besideActions() {
		seen[a.name] = p.act(a)
	}
	return seen
}

// Debian's ocserv and rocserv, given one configuration file and the same doings
// of clients, say the same but for what the two lists explain.
func TestBesideOcserv(t *testing.T) {
	rocservOnly(t, "it is the program that is compared with")
	path, err := exec.LookPath("ocserv")
	if err != nil {
		t.Skip("ocserv is missing")
	}
	if _, err := exec.LookPath("gnutls-cli"); err != nil {
		t.Skip("gnutls-cli is missing")
	}
	var theirs, ours map[string][]string
	t.Run("both", func(t *testing.T) {
		t.Run("ocserv", func(t *testing.T) {
			t.Parallel()
			theirs = meet(t, lab.Program{Kind: lab.Ocserv, Path: path})
		})
		t.Run("rocserv", func(t *testing.T) {
			t.Parallel()
			ours = meet(t, server)
		})
	})
	if theirs == nil || ours == nil {
		t.FailNow()
	}
	doc, err := os.ReadFile(filepath.Join("..", "..", "doc", "differences.md"))
	if err != nil {
		t.Fatal(err)
	}
	rules := slices.Concat(besideOlder, besideOurs)
	used := make([]bool, len(rules))
	for _, a := range besideActions() {
		for _, line := range differences(theirs[a.name], ours[a.name]) {
			explained := false
			for i, rule := range rules {
				if rule.at.MatchString(a.name) && rule.line.MatchString(line) {
					used[i], explained = true, true
				}
			}
			if !explained {
				t.Errorf("%s: unexplained: %s", a.name, line)
			}
		}
	}
	if t.Failed() {
		for _, a := range besideActions() {
			t.Logf("%s\nocserv:\n\t%s\nrocserv:\n\t%s", a.name, strings.Join(theirs[a.name], "\n\t"), strings.Join(ours[a.name], "\n\t"))
		}
	}
	for i, rule := range rules {
		if !used[i] {
			t.Errorf("nothing differs any more at %q in %q: %s", rule.at, rule.line, rule.why)
		}
		if !strings.Contains(flat(string(doc)), flat(rule.why)) {
			t.Errorf("doc/differences.md does not say: %s", rule.why)
		}
	}
}

// flat is a text without its line breaks.
func flat(s string) string { return strings.Join(strings.Fields(s), " ") }
