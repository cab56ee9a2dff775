//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// check is one thing that a client with a tunnel can do, or is properly told
// that it cannot.
type check struct {
	name string
	run  func(*rig, *lab.Client) error
}

// command is a check that runs a program in the client's namespace and wants a
// text in what it prints, and its success. With a text that begins with "fails:",
// it wants the program to fail, with the rest as the text.
func command(name, want string, argv ...string) check {
	return check{name, func(_ *rig, c *lab.Client) error { return runs(c, "", want, argv...) }}
}

// piped is command with something on standard input.
func piped(name, stdin, want string, argv ...string) check {
	return check{name, func(_ *rig, c *lab.Client) error { return runs(c, stdin, want, argv...) }}
}

func runs(c *lab.Client, stdin, want string, argv ...string) error {
	out, err := c.From.RunFor(30*time.Second, stdin, argv...)
	want, fails := strings.CutPrefix(want, "fails:")
	if !fails && err != nil {
		return err
	}
	if fails && err == nil {
		return fmt.Errorf("%v succeeds:\n%s", argv, out)
	}
	if !regexp.MustCompile(want).MatchString(out) {
		return fmt.Errorf("%v: nothing like %q in:\n%s", argv, want, out)
	}
	return nil
}

func web(addr string) []string { return []string{"curl", "-sS", "-m", "10", "http://" + addr + "/"} }

// connecting tries to connect by TCP for some seconds; nc says why it could not.
func connecting(addr string, port, seconds int) []string {
	return []string{"nc", "-n", "-v", "-z", "-w", fmt.Sprint(seconds), addr, fmt.Sprint(port)}
}

func asking(server, name, kind string, options ...string) []string {
	return append([]string{"dig", "+time=3", "+tries=2", "@" + server, name, kind}, options...)
}

func pinging(addr string) []string {
	return []string{"ping", "-n", "-c", "3", "-i", "0.2", "-W", "2", addr}
}

func echoing(host string, sizes ...int) func(*rig, *lab.Client) error {
	return func(_ *rig, c *lab.Client) error {
		results, err := lab.Echo(c.From, lab.Echoes{Host: host, Sizes: sizes})
		if err != nil {
			return err
		}
		var bad []string
		for i, what := range results {
			if what != "" {
				bad = append(bad, fmt.Sprintf("%d bytes: %s", sizes[i], what))
			}
		}
		if bad != nil {
			return fmt.Errorf("UDP echo of %s", strings.Join(bad, "; "))
		}
		return nil
	}
}

// What every tunnel can do.
var (
	hello4 = command("HTTP over IPv4", lab.Hello, web(lab.Tgt4)...)
	hello6 = command("HTTP over IPv6", lab.Hello, web("["+lab.Tgt6+"]")...)
	lookup = command("DNS by UDP", `\s10\.77\.9\.2\s`, asking(lab.Tgt4, lab.NameTgt, "A")...)
	echoes = check{"UDP of every size", echoing(lab.Tgt4, 0, 1, 1400, 3000)}
)

// everyday is what people do with a VPN, and what they are to be told of what
// does not work.
var everyday = []check{
	hello4,
	hello6,
	lookup,
	command("DNS by UDP over IPv6", `\sfd77:9::2\s`, asking(lab.Tgt6, lab.NameTgt, "AAAA")...),
	command("DNS by TCP", `\s10\.77\.9\.2\s`, asking(lab.Tgt4, lab.NameTgt, "A", "+tcp")...),
	command("DNS truncated, then by TCP", `(?s)retrying in TCP mode.*"019 x`, asking(lab.Tgt4, lab.NameBig, "TXT", "+noedns")...),
	command("DNS in large datagrams", `"019 x`, asking(lab.Tgt4, lab.NameBig, "TXT", "+bufsize=8000", "+ignore")...),
	echoes,
	{"UDP of every size over IPv6", echoing(lab.Tgt6, 0, 1, 1400, 3000)},
	piped("half close", "hello", `^5 bytes`, "nc", "-n", "-N", "-w", "8", lab.Tgt4, fmt.Sprint(lab.PortCount)),
	piped("half close over IPv6", "hello", `^5 bytes`, "nc", "-n", "-N", "-w", "8", lab.Tgt6, fmt.Sprint(lab.PortCount)),
	command("connection refused", "fails:Connection refused", connecting(lab.Tgt4, lab.PortClosed, 2)...),
	command("connection refused over IPv6", "fails:Connection refused", connecting(lab.Tgt6, lab.PortClosed, 2)...),
	command("connection reset", "fails:(?i)reset", "curl", "-sS", "-m", "8", fmt.Sprintf("http://%s:%d/", lab.Tgt4, lab.PortReset)),
	command("no such host", "fails:No route to host|Network is unreachable", connecting(lab.Absent4, lab.PortHTTP, 8)...),
	command("no such host over IPv6", "fails:No route to host|Network is unreachable", connecting(lab.Absent6, lab.PortHTTP, 8)...),
	command("no such network", "fails:No route to host|Network is unreachable", connecting(lab.NoRoute4, lab.PortHTTP, 8)...),
	command("no such network over IPv6", "fails:No route to host|Network is unreachable", connecting(lab.NoRoute6, lab.PortHTTP, 8)...),
	command("a host that is silent", "fails:timed out", connecting(lab.Silent4, lab.PortHTTP, 2)...),
	command("ping of the gateway", " 0% packet loss", pinging(lab.Gateway4)...),
	command("ping of the gateway over IPv6", " 0% packet loss", pinging(lab.Gateway6)...),
	command("ping of a host", " 0% packet loss", pinging(lab.Tgt4)...),
	command("ping of a host over IPv6", " 0% packet loss", pinging(lab.Tgt6)...),
}

// gatewayDNS is for a server that answers queries itself.
var gatewayDNS = []check{
	command("DNS of the gateway", `\s10\.77\.9\.2\s`, asking(lab.Gateway4, lab.NameTgt, "A")...),
	command("DNS of the gateway over IPv6", `\s10\.77\.9\.2\s`, asking(lab.Gateway6, lab.NameTgt, "A")...),
	command("DNS of the gateway by TCP", `"019 x`, asking(lab.Gateway4, lab.NameBig, "TXT", "+noedns")...),
	command("DNS of the gateway, no such name", "NXDOMAIN", asking(lab.Gateway4, lab.NameNone, "A")...),
}

// each runs checks, each as a test of its own.
func (r *rig) each(c *lab.Client, checks ...check) {
	for _, k := range checks {
		r.Run(k.name, func(t *testing.T) {
			if err := k.run(r, c); err != nil {
				t.Error(err)
			}
		})
	}
}
