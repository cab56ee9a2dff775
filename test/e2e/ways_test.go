//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// proxied is a way out and what it is to do.
type proxied struct {
	name     string
	ports    []int // of proxies to start; the last is the way's
	url      string
	with     string // behind the URL
	udp      bool
	besides  []string // what reaches it beside the way's port, as nft has it
	refused  string   // what a refused connection looks like to nc
	halfOpen bool     // it passes a half close on
}

const (
	closedPort   = "fails:Connection refused"
	noRoute      = "fails:No route to host"
	proxyHost    = lab.Tgt4
	proxyAddress = proxyHost + ":"
)

func proxies() []proxied {
	with := lab.ProxyUser + ":" + url.QueryEscape(lab.ProxyPassword) + "@"
	return []proxied{
		{name: "dante", ports: []int{lab.PortDante}, url: "socks5://" + proxyAddress + "1080", udp: true, besides: []string{"udp dport >= 1024"}, refused: closedPort, halfOpen: true},
		{name: "microsocks with a login", ports: []int{lab.PortMicrosocks}, url: "socks5://" + with + proxyAddress + "1081", refused: closedPort},
		{name: "squid", ports: []int{lab.PortSquid}, url: "http://" + proxyAddress + "3128", refused: closedPort},
		{name: "squid with a login, over IPv6", ports: []int{lab.PortSquidAuth}, url: "http://" + with + "[" + lab.Tgt6 + "]:3129", refused: closedPort},
		{name: "tinyproxy with a login", ports: []int{lab.PortTinyproxy}, url: "http://" + with + proxyAddress + "8888", refused: noRoute},
		{name: "nghttpx, HTTP/2", ports: []int{lab.PortSquid, lab.PortNghttpx}, url: "https://" + lab.NameProxy[:len(lab.NameProxy)-1] + ":8443", with: " ca=CA", refused: closedPort, besides: []string{"udp dport 53"}},
		{name: "nghttpx, HTTP/1.1", ports: []int{lab.PortSquid, lab.PortNghttpx}, url: "https://" + proxyAddress + "8443", with: " ca=CA http=1.1", refused: closedPort},
	}
}

// proxyRig is a rig with proxies, by their ports.
type proxyRig struct {
	*rig
	proxies map[int]*lab.Process
}

// newProxyRig is a rig with the proxies of p in tgt and the server told to use
// the last of them.
func newProxyRig(t *testing.T, p proxied, settings ...string) *proxyRig {
	t.Helper()
	r := &proxyRig{newLab(t, 1), map[int]*lab.Process{}}
	r.secrets[lab.ProxyPassword], r.secrets[url.QueryEscape(lab.ProxyPassword)] = true, true
	r.must(r.AddBehind())
	r.must(r.OpenPing(true))
	for _, port := range p.ports {
		proxy, err := r.StartProxy(port)
		if errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") != "true" {
			t.Skip(err)
		}
		r.must(err)
		r.proxies[port] = proxy
		t.Cleanup(func() {
			proxy.End(15, 5*time.Second)
			if t.Failed() {
				t.Log(tail(proxy.Story()))
			}
		})
	}
	lines := append([]string{"egress = p " + p.url + p.with}, settings...)
	cert, key := r.ClientCertificate()
	files := strings.NewReplacer("SOCKET", r.socket(), "ca=CA", "ca="+r.ProxyCA(), "client-cert=CERT", "client-cert="+cert, "client-key=KEY", "client-key="+key)
	for i := range lines {
		lines[i] = files.Replace(lines[i])
	}
	r.must(r.state.Configure(lines...))
	r.start()
	return r
}

// Through every kind of proxy, what is behind it is reached over both versions
// of IP, and nothing leaves another way.
func TestProxies(t *testing.T) {
	rocservOnly(t, "it has no ways but the host's")
	for _, p := range proxies() {
		t.Run(p.name, func(t *testing.T) {
			r := newProxyRig(t, p, "egress-via = p", "dns = 198.51.100.53")
			r.must(r.Watch(append(p.besides, fmt.Sprintf("tcp dport %d", p.ports[len(p.ports)-1]))...))
			c := r.connect(lab.Dial{})
			checks := []check{
				command("HTTP over IPv4", lab.Hello, web(lab.Behind4)...),
				command("HTTP over IPv6", lab.Hello, web("["+lab.Behind6+"]")...),
				command("connection refused", p.refused, connecting(lab.Behind4, lab.PortClosed, 5)...),
				command("connection refused over IPv6", p.refused, connecting(lab.Behind6, lab.PortClosed, 5)...),
				command("ping", "fails:Packet filtered", pinging(lab.Behind4)...),
				command("the host itself", "fails:", connecting(lab.SrvIn4, lab.PortHTTP, 3)...),
				{"bytes both ways", func(r *rig, c *lab.Client) error {
					done, err := lab.Fetch(c.From, 40*time.Second,
						lab.Transfer{Host: lab.Behind4, Bytes: 3 << 20}, lab.Transfer{Host: lab.Behind6, Bytes: 3 << 20, Upload: true},
						lab.Transfer{Host: lab.Behind4, Bytes: 1 << 20, Upload: true})
					for _, d := range done {
						if d.Err != "" {
							return fmt.Errorf("%s", d.Err)
						}
					}
					return err
				}},
			}
			if p.halfOpen {
				checks = append(checks, piped("half close", "hello", `^5 bytes`, "nc", "-n", "-N", "-w", "8", lab.Behind4, fmt.Sprint(lab.PortCount)))
			}
			if p.udp {
				checks = append(checks, check{"UDP", echoing(lab.Behind4, 0, 1, 1400)},
					command("DNS by UDP", `\s10\.77\.9\.2\s`, asking(lab.Behind4, lab.NameTgt, "A")...))
			} else {
				checks = append(checks, check{"UDP is refused", func(r *rig, c *lab.Client) error {
					time.Sleep(1200 * time.Millisecond) // a verdict is remembered for a second
					var got []string
					var err error
					for range 2 { // the first may find out that the proxy relays none
						got, err = lab.Inject(c.From, lab.Injection{Device: c.Device, Packets: []lab.Injected{{Proto: "udp", Dst: lab.Behind4, Port: lab.PortEcho}}})
					}
					if err == nil && got[0] != prohibited4 {
						err = fmt.Errorf("%s, not %s", got[0], prohibited4)
					}
					return err
				}})
			}
			r.each(c, checks...)
			past, err := r.Past()
			r.must(err)
			if past != 0 {
				out, _ := r.Tgt.Run("nft", "list", "ruleset")
				t.Errorf("%d packets went past the proxy\n%s", past, out)
			}
		})
	}
}

// The name by which the client asked goes to the proxy; who it is sent to by
// rules of users and domains; what was not to go there does not.
func TestWaysByRule(t *testing.T) {
	rocservOnly(t, "it has no ways but the host's")
	t.Parallel()
	p := proxies()[0]
	p.ports = []int{lab.PortMicrosocks, lab.PortDante}
	r := newProxyRig(t, p,
		"egress = other socks5://"+lab.ProxyUser+":"+lab.ProxyPassword+"@"+lab.Tgt4+":1081",
		"egress = out direct source="+lab.SrvIn4,
		"egress-via = p for user:"+lab.Other,
		"egress-via = other for behind.test",
		"egress-via = blackhole for "+lab.Tgt6,
		"egress-via = out",
		"dns =")
	c := r.connect(lab.Dial{})
	named := r.proxies[lab.PortMicrosocks]
	byName := []string{"curl", "-sS", "-4", "-m", "10", "--resolve", "behind.test:80:" + lab.Behind4, "http://behind.test/"}
	r.each(c,
		command("before the name is asked for", "fails:", byName...),
		command("the name", `\s203\.0\.113\.1\s`, asking(lab.Gateway4, lab.NameBehind, "A")...),
		command("by its name", lab.Hello, byName...),
		command("another destination, directly", lab.Hello, web(lab.Tgt4)...),
		command("into the hole", "fails:timed out", connecting(lab.Tgt6, lab.PortHTTP, 2)...),
	)
	if named.Count(`connected to behind\.test:80`) != 1 || named.Count(`connected to`) != 1 {
		t.Errorf("the proxy was not told the name, once:\n%s", named.Story())
	}
	if dante := r.proxies[lab.PortDante]; dante.Has(`tcp/connect`) {
		t.Errorf("a way of somebody else was taken:\n%s", dante.Story())
	}
}

// With each fingerprint what leaves the host is the ClientHello asked for, and
// nghttpx speaks HTTP/2; the failover list goes on when a proxy dies and comes back.
func TestFingerprintsAndFailover(t *testing.T) {
	rocservOnly(t, "it has no ways but the host's")
	t.Parallel()
	p := proxies()[5]
	p.ports = []int{lab.PortDante, lab.PortSquid, lab.PortNghttpx}
	var settings []string
	fingerprints := []string{"go", "chrome", "firefox", "safari", "ios", "randomized"}
	for i, f := range fingerprints {
		settings = append(settings, fmt.Sprintf("egress = %s https://%s:8443 ca=CA tls-fingerprint=%s name=proxy.test", f, lab.Tgt4, f),
			fmt.Sprintf("egress-via = %s for %s", f, behind(i)))
	}
	settings = append(settings, "egress = dante socks5://"+lab.Tgt4+":1080", "egress-via = go,dante for "+lab.Behind4, "dns = 198.51.100.53")
	r := newProxyRig(t, p, settings...)
	for i := range fingerprints {
		r.must(r.Tgt.IP("addr add " + behind(i) + "/32 dev lo"))
	}
	c := r.connect(lab.Dial{})
	nghttpx := r.proxies[lab.PortNghttpx]
	stop, err := r.Tap()
	r.must(err)
	for i, f := range fingerprints {
		r.each(c, command(f, lab.Hello, web(behind(i))...))
	}
	seen, err := stop()
	r.must(err)
	r.hellos(seen, fingerprints)
	for i, f := range fingerprints { // the log is written with some delay
		line := "h2 TLSv1.3 CONNECT " + behind(i) + ":80"
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			log, err := r.AccessLog(lab.PortNghttpx)
			r.must(err)
			if strings.Count(log, line) == 1 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: not one request by HTTP/2 and TLS 1.3 in\n%s", f, log)
			}
		}
	}
	r.each(c, command("by the first", lab.Hello, web(lab.Behind4)...))
	dante := r.proxies[lab.PortDante]
	if dante.Has(`tcp/connect`) {
		t.Error("the second way is taken while the first is up")
	}
	began := make(chan []lab.Transferred, 1)
	go func() {
		done, _ := lab.Fetch(c.From, 30*time.Second, lab.Transfer{Host: lab.Behind4, Bytes: 8 << 20, Rate: 1 << 20})
		began <- done
	}()
	time.Sleep(time.Second)
	_, err = nghttpx.End(9, 5*time.Second) // it dies in the middle of a transfer
	r.must(err)
	if done := <-began; len(done) != 1 || done[0].Err == "" {
		t.Errorf("a transfer through a dead proxy: %+v", done)
	}
	r.each(c, command("by the second", lab.Hello, web(lab.Behind4)...),
		command("a dead proxy alone", noRoute, blocking(behind(1), lab.PortHTTP, 5)...))
	if !dante.Has(`tcp/connect`) {
		t.Error("the second way was not taken")
	}
	r.expect(r.srv.Process, `way out is down.*way=go`, 5*time.Second)
	again, err := r.StartProxy(lab.PortNghttpx)
	r.must(err)
	t.Cleanup(func() { again.End(15, 5*time.Second) })
	for deadline := time.Now().Add(45 * time.Second); !r.srv.Has(`way out is up again.*way=go`); time.Sleep(500 * time.Millisecond) {
		c.From.Run(web(lab.Behind4)...)
		if time.Now().After(deadline) {
			t.Fatal("the first way is not found to be up again")
		}
	}
}

// A proxy that asks for a certificate is shown the way's, by either TLS library,
// with the key in sec-mod; without one it serves nobody, and the log says so.
func TestProxyClientCertificate(t *testing.T) {
	rocservOnly(t, "it has no ways but the host's")
	t.Parallel()
	p := proxies()[5]
	p.ports, p.url = []int{lab.PortSquid, lab.PortNghttpxOwn}, "https://"+lab.Tgt4+":8444"
	settings := []string{"egress-via = p for " + behind(9), "dns = 198.51.100.53"}
	ways := []string{"http=1.1", "tls-fingerprint=go", "tls-fingerprint=chrome", "tls-fingerprint=safari"}
	for i, with := range ways {
		settings = append(settings, fmt.Sprintf("egress = own%d %s ca=CA client-cert=CERT client-key=KEY %s", i, p.url, with),
			fmt.Sprintf("egress-via = own%d for %s", i, behind(i)))
	}
	r := newProxyRig(t, p, settings...)
	c := r.connect(lab.Dial{})
	for i, with := range ways {
		r.must(r.Tgt.IP("addr add " + behind(i) + "/32 dev lo"))
		r.each(c, command(with, lab.Hello, web(behind(i))...))
	}
	r.each(c, command("without a certificate", noRoute, blocking(behind(9), lab.PortHTTP, 5)...))
	r.expect(r.srv.Process, `way out is down.*way=p.*certificate`, 5*time.Second)
}

// behind is the i-th of some addresses that only tgt knows.
func behind(i int) string { return fmt.Sprintf("203.0.113.%d", 10+i) }
