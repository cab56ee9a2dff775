//go:build e2e

package e2e

import (
	"fmt"
	"testing"

	"rocserv/test/e2e/lab"
)

// Whatever the gateway's resolver asks by, clients have their answers, by UDP
// and TCP, the server is asked once for what it said to keep, and not a packet
// of the questions leaves by another way.
func TestResolver(t *testing.T) {
	rocservOnly(t, "it has no resolver")
	t.Parallel()
	unbound := func(word string) string { return fmt.Sprintf("resolver = %s ca=CA", word) }
	tls := fmt.Sprintf("tls://%s:%d", lab.Tgt4, lab.PortUnbound)
	named := fmt.Sprintf("tls://%s:%d", lab.NameProxy[:len(lab.NameProxy)-1], lab.PortUnbound)
	https := fmt.Sprintf("https://%s:%d/dns-query", lab.Tgt4, lab.PortUnboundWeb)
	for _, tt := range []struct {
		name     string
		ports    []int
		way      string
		settings []string
		expected string // at tgt; nothing else comes
	}{
		{"TLS", []int{lab.PortUnbound}, "direct", []string{unbound(tls)}, fmt.Sprintf("tcp dport %d", lab.PortUnbound)},
		{"HTTPS", []int{lab.PortUnbound}, "direct", []string{unbound(https)}, fmt.Sprintf("tcp dport %d", lab.PortUnboundWeb)},
		{"HTTPS as chrome", []int{lab.PortUnbound}, "direct", []string{unbound(https) + " tls-fingerprint=chrome"}, fmt.Sprintf("tcp dport %d", lab.PortUnboundWeb)},
		{"TLS by SOCKS5, by name", []int{lab.PortUnbound, lab.PortDante}, fmt.Sprintf("socks5://%s:%d", lab.Tgt4, lab.PortDante),
			[]string{unbound(named), "resolver-via = p"}, fmt.Sprintf("tcp dport %d", lab.PortDante)},
		{"plain by an HTTP proxy", []int{lab.PortSquid}, fmt.Sprintf("http://%s:%d", lab.Tgt4, lab.PortSquid),
			[]string{"resolver = " + lab.Tgt4, "resolver-via = p"}, fmt.Sprintf("tcp dport %d", lab.PortSquid)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			settings := append(tt.settings, "resolver-block = behind.test", "resolver-guard = true", "resolver-guard-except = tgt.test")
			r := newProxyRig(t, proxied{ports: tt.ports, url: tt.way}, settings...)
			r.must(r.Watch(tt.expected))
			c := r.connect(lab.Dial{})
			r.each(c, gatewayDNS...)
			r.each(c,
				command("whole by TCP", `"019 x`, asking(lab.Gateway4, lab.NameBig, "TXT", "+tcp")...),
				command("several by one connection", `(?s)\s10\.77\.9\.2\s.*NXDOMAIN.*"019 x`, "dig", "+time=3", "+tcp", "+keepopen", "@"+lab.Gateway4,
					lab.NameTgt, "A", lab.NameNone, "A", lab.NameBig, "TXT"),
				command("blocked", "NXDOMAIN", asking(lab.Gateway4, lab.NameBehind, "A")...),
				command("blocked by TCP", "NXDOMAIN", asking(lab.Gateway4, lab.NameBehind, "A", "+tcp")...),
				command("withheld", `NOERROR(?s).*ANSWER: 0`, asking(lab.Gateway4, lab.NameProxy, "A")...),
			)
			if past, err := r.Past(); err != nil || past != 0 {
				out, _ := r.Tgt.Run("nft", "list", "ruleset")
				t.Errorf("%d packets went another way, %v\n%s", past, err, out)
			}
			if u := r.proxies[lab.PortUnbound]; u != nil {
				if n := u.Count(`tgt\.test\. A IN`); n != 1 {
					t.Errorf("the server was asked %d times for what it said to keep\n%s", n, tail(u.Story()))
				}
			}
		})
	}
}
