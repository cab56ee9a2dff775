package radius

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc6911"

	"rocserv/internal/ipc"
	"rocserv/secmod/helper"
)

// accountant makes the accounting at these servers.
func accountant(t *testing.T, servers ...*fake) *method {
	t.Helper()
	lines := []string{"radius_timeout 1", "radius_retries 0", "radius_deadtime 60"}
	for _, s := range servers {
		lines = append(lines, "acctserver "+s.addr)
	}
	m, err := MakeAccount(map[string]string{"config": written(t, servers, lines...), "nas-identifier": "vpn"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return m.Account.(*method)
}

// taking is a server for accounting.
func taking(t *testing.T, heard chan *radius.Packet) *fake {
	return answering(t, true, func(q, rep *radius.Packet) {
		rep.Code = radius.CodeAccountingResponse
		if heard != nil {
			heard <- q
		}
	})
}

var accounted = helper.Accounting{
	SafeID: "c2FmZQ==", User: "anna", Agent: "client/1", Peer: netip.MustParseAddr("192.0.2.7"), Local: netip.MustParseAddr("192.0.2.1"),
	Lease: []netip.Addr{netip.MustParseAddr("10.9.0.7"), netip.MustParseAddr("2001:db8:9::7")}, Up: 5<<32 + 6, Down: 7<<32 + 8,
}

// TestAccounting: what a server is told of a session's beginning, course and end.
func TestAccounting(t *testing.T) {
	heard := make(chan *radius.Packet, 1)
	m := accountant(t, taking(t, heard))
	now := time.Now()
	for event, status := range statuses {
		a := accounted
		a.Event, a.Login, a.At, a.Reason = event, now.Add(-100*time.Second), now.Add(-40*time.Second), ipc.Reason_REASON_USER
		if err := m.Tell(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		q := <-heard
		at, _ := rfc2869.EventTimestamp_Lookup(q)
		delay := rfc2866.AcctDelayTime_Get(q)
		for what, ok := range map[string]bool{
			"the event":            rfc2866.AcctStatusType_Get(q) == status,
			"the session":          rfc2866.AcctSessionID_GetString(q) == "c2FmZQ==",
			"the user":             rfc2865.UserName_GetString(q) == "anna",
			"the client's address": rfc2865.CallingStationID_GetString(q) == "192.0.2.7",
			"this server":          rfc2865.NASIdentifier_GetString(q) == "vpn" && rfc2865.NASIPAddress_Get(q).Equal(net.IPv4(192, 0, 2, 1)),
			"the client's program": rfc2869.ConnectInfo_GetString(q) == "client/1",
			"its addresses":        rfc2865.FramedIPAddress_Get(q).Equal(net.IPv4(10, 9, 0, 7)) && rfc6911.FramedIPv6Address_Get(q).String() == "2001:db8:9::7",
			"the service":          rfc2865.ServiceType_Get(q) == rfc2865.ServiceType_Value_FramedUser && rfc2865.FramedProtocol_Get(q) == rfc2865.FramedProtocol_Value_PPP,
			"who knew the user":    rfc2866.AcctAuthentic_Get(q) == rfc2866.AcctAuthentic_Value_RADIUS,
			"when it was":          at.Unix() == a.At.Unix() && delay >= 40 && delay < 100,
		} {
			if !ok {
				t.Errorf("%v: not told: %s", status, what)
			}
		}
		counted := fmt.Sprintf("%d %d %d %d %d", rfc2866.AcctSessionTime_Get(q), rfc2866.AcctInputOctets_Get(q), rfc2869.AcctInputGigawords_Get(q),
			rfc2866.AcctOutputOctets_Get(q), rfc2869.AcctOutputGigawords_Get(q))
		want := "60 6 5 8 7"
		if event == helper.Start {
			want = "0 0 0 0 0"
		}
		if counted != want {
			t.Errorf("%v: counters %s, want %s", status, counted, want)
		}
		if cause, err := rfc2866.AcctTerminateCause_Lookup(q); (err == nil) != (event == helper.Stop) || err == nil && cause != rfc2866.AcctTerminateCause_Value_UserRequest {
			t.Errorf("%v: cause %v, %v", status, cause, err)
		}
	}
}

// TestTerminateCauses: every reason has a cause.
func TestTerminateCauses(t *testing.T) {
	heard := make(chan *radius.Packet, 1)
	m := accountant(t, taking(t, heard))
	want := map[string]string{
		"USER": "User-Request", "SERVER": "Admin-Reset", "IDLE_TIMEOUT": "Idle-Timeout", "SESSION_TIMEOUT": "Session-Timeout",
		"DPD_TIMEOUT": "Lost-Carrier", "CONNECTION_LOST": "Lost-Carrier", "ERROR": "User-Error",
		"TEMPORARY": "Lost-Service", "UNSPECIFIED": "Lost-Service", "REPLACED": "Lost-Service", "HEALTH_PROBE": "Lost-Service",
	}
	for n, name := range ipc.Reason_name {
		a := accounted
		a.Event, a.Reason = helper.Stop, ipc.Reason(n)
		if err := m.Tell(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if got := rfc2866.AcctTerminateCause_Get(<-heard).String(); got != want[strings.TrimPrefix(name, "REASON_")] {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestAccountingFailover: who does not answer is asked last, and where nobody
// does it is not accounted.
func TestAccountingFailover(t *testing.T) {
	for name, first := range map[string]*fake{
		"silent":  silent(t, nil),
		"forged":  silent(t, func(q []byte) []byte { return append([]byte{5, q[1], 0, 20}, make([]byte, 16)...) }),
		"an echo": silent(t, func(q []byte) []byte { return q }),
	} {
		t.Run(name, func(t *testing.T) {
			second := taking(t, nil)
			m := accountant(t, first, second)
			for range 2 {
				if err := m.Tell(t.Context(), accounted); err != nil {
					t.Fatal(err)
				}
			}
			if first.asked.Load() != 1 || second.asked.Load() != 2 {
				t.Errorf("asked %d and %d times", first.asked.Load(), second.asked.Load())
			}
			if err := accountant(t, first).Tell(context.Background(), accounted); err == nil {
				t.Error("accounted, and nobody has answered")
			}
		})
	}
	refusing := answering(t, true, func(_, rep *radius.Packet) { rep.Code = radius.CodeAccessReject })
	if err := accountant(t, refusing).Tell(t.Context(), accounted); err == nil {
		t.Error("accounted by a reject")
	}
}

// TestTogether: two files that hear Disconnect-Requests at one port are refused, and
// not what nothing is heard at.
func TestTogether(t *testing.T) {
	at := func(listen string) map[string]string {
		lines := []string{"acctserver 127.0.0.1:9:x"}
		if listen != "" {
			lines = append(lines, "dynauth-listen "+listen)
		}
		return map[string]string{"config": written(t, nil, lines...)}
	}
	for _, k := range []struct {
		listen []string
		want   bool
	}{
		{nil, true},
		{[]string{"", "", "3799"}, true},
		{[]string{"3799", "", "3800"}, true},
		{[]string{"127.0.0.1:3799", "127.0.0.2:3799"}, true},
		{[]string{"3799", "3799"}, false},
		{[]string{"127.0.0.1:3799", "3800", "127.0.0.1:3799"}, false},
		{[]string{"127.0.0.1:3799", "3799"}, false},
		{[]string{"0.0.0.0:3799", "127.0.0.1:3799"}, false},
	} {
		var lines []map[string]string
		for _, l := range k.listen {
			lines = append(lines, at(l))
		}
		err := Together(lines)
		if (err == nil) != k.want {
			t.Errorf("%q: %v", k.listen, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "dynauth-listen") || !strings.Contains(err.Error(), "port 3799")) {
			t.Errorf("%q: %v", k.listen, err)
		}
	}
}

func TestMakeAccountErrors(t *testing.T) {
	logins := map[string]string{"config": written(t, nil, "authserver 127.0.0.1:1812:x")}
	if _, err := MakeAccount(logins, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "no acctserver") {
		t.Error(err)
	}
	if _, err := CheckAccount(logins); err == nil || !strings.Contains(err.Error(), "no acctserver") {
		t.Error(err)
	}
	c, err := CheckAccount(map[string]string{"config": written(t, nil, "acctserver radius.invalid")})
	if err != nil || len(c) != 0 {
		t.Errorf("%v, %v", c, err)
	}
}
