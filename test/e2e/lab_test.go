//go:build e2e

package e2e

import (
	"bufio"
	"os"
	"strings"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// Without the VPN no client reaches tgt, even if it tries by way of the server.
func TestNoWayAround(t *testing.T) {
	r := newRig(t, 1)
	for _, k := range []struct{ name, to string }{{"IPv4", lab.Tgt4}, {"IPv6", lab.Tgt6}} {
		if out, err := r.Cli[0].Run(connecting(k.to, lab.PortHTTP, 3)...); err == nil {
			t.Errorf("%s: the client reaches tgt: %s", k.name, out)
		}
		if _, err := r.Srv.Run(connecting(k.to, lab.PortHTTP, 3)...); err != nil {
			t.Errorf("%s: the server does not: %v", k.name, err)
		}
	}
	// tgt could answer, so that it is the server's host that does not forward.
	r.must(r.Tgt.IP("route add 10.77.1.0/24 via "+lab.SrvIn4, "route add fd77:1::/64 via "+lab.SrvIn6))
	r.must(r.Cli[0].IP("route add 10.77.9.0/24 via "+lab.Srv4, "route add fd77:9::/64 via "+lab.Srv6))
	for _, to := range []string{lab.Tgt4, lab.Tgt6} {
		if out, err := r.Cli[0].Run(connecting(to, lab.PortHTTP, 2)...); err == nil {
			t.Errorf("the client reaches tgt through the server's host: %s", out)
		}
	}
}

// A lab is gone soon after the program that opened it, however that died.
func TestNothingStays(t *testing.T) {
	holder, err := lab.Holder()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if kerr := holder.Process.Kill(); err != nil || kerr != nil {
		t.Fatal(err, kerr)
	}
	holder.Wait()
	left := strings.Fields(line)
	for i, name := range left[1:] {
		left[1+i] = "/run/netns/" + name
	}
	deadline := time.Now().Add(15 * time.Second)
	for _, name := range left {
		for {
			_, err := os.Stat(name)
			if os.IsNotExist(err) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s is still there (%v)", name, err)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	if len(left) != 4 {
		t.Fatalf("the holder said %q", line)
	}
}
