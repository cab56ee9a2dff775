package mainproc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"rocserv/internal/ipc"
)

func TestNAT64Finder(t *testing.T) {
	var answer []netip.Addr
	var fails error
	asked := 0
	f := nat64Finder{lookup: func(_ context.Context, network, host string) ([]netip.Addr, error) {
		asked++
		if network != "ip6" || host != "ipv4only.arpa." {
			t.Errorf("asked for %s, %s", network, host)
		}
		return answer, fails
	}}
	now := time.Unix(0, 0)
	for i, step := range []struct {
		after  time.Duration
		answer string
		err    error
		asked  int
		want   string
	}{
		{0, "", errors.New("no resolver"), 1, "[]"},
		{nat64Again, "64:ff9b::192.0.0.170", nil, 2, "[64:ff9b::/96]"},
		{time.Second, "", nil, 2, "[64:ff9b::/96]"},                                     // too soon
		{nat64Again, "", errors.New("no answer"), 3, "[64:ff9b::/96]"},                  // nothing is known
		{nat64Again, "2001:db8::192.0.0.171", nil, 4, "[2001:db8::/96]"},                // another network
		{nat64Again, "", &net.DNSError{Err: "no such host", IsNotFound: true}, 5, "[]"}, // none
	} {
		now = now.Add(step.after)
		answer, fails = nil, step.err
		if step.answer != "" {
			answer = []netip.Addr{netip.MustParseAddr(step.answer)}
		}
		if got := fmt.Sprint(f.find(now)); got != step.want || asked != step.asked {
			t.Errorf("step %d: %s after %d questions, want %s after %d", i, got, asked, step.want, step.asked)
		}
	}
}

// IPv4 is offered where it has a way out, be it a NAT64.
func TestNAT64IsOffered(t *testing.T) {
	p := [][]byte{ipc.PutPrefix(netip.MustParsePrefix("64:ff9b::/96"))}
	if v4, v6 := offered(&ipc.HostInfo{Ipv6Out: true, Nat64: p}); !v4 || !v6 {
		t.Error("not offered")
	}
	if v4, _ := offered(&ipc.HostInfo{Ipv6Out: true}); v4 {
		t.Error("offered without any way out")
	}
}
