package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"rocserv/egress"
)

// A service is reached at the first of its addresses that takes the connection,
// whatever the policy says of clients.
func TestDialService(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	at := ln.Addr().(*net.TCPAddr).AddrPort()
	d := newDirect(t)
	lookup := func(_ context.Context, name string) ([]netip.Addr, error) {
		switch name {
		case "service.test":
			return []netip.Addr{netip.MustParseAddr("127.0.0.2"), at.Addr()}, nil
		case "down.test":
			return []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")}, nil
		}
		return nil, errors.New("no such name")
	}
	for host, ok := range map[string]bool{"service.test": true, "127.0.0.1": true, "::ffff:127.0.0.1": true, "down.test": false, "none.test": false, "127.0.0.2": false} {
		c, err := DialService(t.Context(), d, lookup, host, at.Port())
		if (err == nil) != ok {
			t.Errorf("%s: %v", host, err)
		}
		if err == nil {
			c.Close()
		} else if host != "none.test" && egress.Classify(err) != egress.Refused {
			t.Errorf("%s: %v is no refusal", host, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := DialService(ctx, d, lookup, "service.test", at.Port()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// What a router said of an attempt is not passed on: only what it means.
func TestDialServiceHidesReports(t *testing.T) {
	rep := &egress.ReportError{Report: egress.Report{From: netip.MustParseAddr("10.0.0.1")}, Err: syscall.EHOSTUNREACH}
	for _, err := range []error{rep, fmt.Errorf("egress: connect: %w", rep)} {
		got := withoutReport(err)
		if errors.As(got, new(*egress.ReportError)) || egress.Classify(got) != egress.HostUnreachable {
			t.Errorf("%v becomes %v", err, got)
		}
	}
	for _, err := range []error{nil, syscall.ECONNREFUSED} {
		if got := withoutReport(err); got != err {
			t.Errorf("%v becomes %v", err, got)
		}
	}
}
