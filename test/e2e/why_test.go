//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// writeGolden has the golden files written anew.
var writeGolden = os.Getenv("GOLDEN") == "write"

// changing is what an answer of ctl why has of the moment.
var changing = []struct {
	is *regexp.Regexp
	as string
}{
	{regexp.MustCompile(`\(ID \d+\)`), "(ID 1)"},
	{regexp.MustCompile(`"id": \d+`), `"id": 1`},
	{regexp.MustCompile(`\(\d+\.\d ms\)`), "(0.0 ms)"},
	{regexp.MustCompile(`"seconds": [\d.e-]+`), `"seconds": 0`},
}

// What ctl why says, and with --dial does, of a server with rules and ways, in
// text and JSON: each of the words there is.
func TestWhy(t *testing.T) {
	rocservOnly(t, "its occtl has no why")
	t.Parallel()
	p := proxies()[0]
	p.ports = []int{lab.PortSquid, lab.PortDante}
	r := newProxyRig(t, p, "use-occtl = true", "occtl-socket-file = SOCKET",
		"egress = closed https://"+lab.Tgt4+":9003", "egress = web http://"+lab.Tgt4+":3128", "egress = out direct",
		"egress-deny = 10.77.9.2 tcp(25)", "egress-deny = *.test tcp(26)", "egress-allow = "+lab.Tgt4,
		"egress-via = closed,web,out for 203.0.113.1", "egress-via = closed for "+behind(1), "egress-via = web for behind.test",
		"egress-via = p for "+lab.Behind6, "egress-via = out for "+lab.Tgt6)
	r.must(r.Tgt.IP("addr add " + behind(1) + "/32 dev lo"))
	c := r.connect(lab.Dial{})
	// Its first connection finds that the first way is down.
	r.each(c, command("by the second way", lab.Hello, web(lab.Behind4)...))
	r.expect(r.srv.Process, `way out is down.*way=closed`, 5*time.Second)
	for _, ask := range []struct {
		name   string
		args   string
		failed bool // occtl's status
	}{
		{"failover", lab.Behind4 + ":80 --dial", false},
		{"only-way-down", behind(1) + ":80 --dial", false},
		{"refused", lab.Behind6 + " --dial", false}, // port 443
		{"socks", "[" + lab.Behind6 + "]:80 --dial", false},
		{"by-name", "behind.test:80 --dial", false},
		{"denied-network", lab.Tgt4 + ":25 --dial", false},
		{"denied-domain", "tgt.test:26", false},
		{"allowed", lab.Tgt4 + ":80 --dial", false},
		{"direct", "[" + lab.Tgt6 + "]:80 --dial", false},
		{"itself", "127.0.0.1:80", false},
		{"udp", "--udp " + lab.Behind4 + ":53", false},
		{"icmp", "--icmp " + lab.Behind4, false},
		{"no-such-name", "none.test:80", true},
	} {
		for _, form := range []string{"text", "json"} {
			args := append([]string{"why", lab.User}, strings.Fields(ask.args)...)
			if form == "json" {
				args = append([]string{"-j"}, args...)
			}
			out, err := r.ctl(args...)
			if (err != nil) != ask.failed {
				t.Errorf("%v: %v\n%s", args, err, out)
			}
			for _, c := range changing {
				out = c.is.ReplaceAllString(out, c.as)
			}
			file := filepath.Join("testdata", "why", ask.name+"."+form)
			if writeGolden {
				r.must(os.WriteFile(file, []byte(out), 0o644))
			}
			want, err := os.ReadFile(file)
			if err != nil || out != string(want) {
				t.Errorf("%v: %v\n%s\nnot\n%s", args, err, out, want)
			}
		}
	}
	if out, err := r.ctl("why", "nobody", lab.Tgt4); err == nil || !strings.Contains(out, "nobody") {
		t.Errorf("of a user without a tunnel: %v\n%s", err, out)
	}
}
