package occtl

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rocserv/internal/control"
)

// topViews are two looks, two seconds apart: one session went on, one is new, one
// is gone, one has not been counted anew, and one is full of what clients send.
func topViews() (before, after view) {
	count := func(s control.Session, at time.Time, rx, tx uint64) control.Session {
		s.Traffic = control.Traffic{RX: rx, TX: tx, TotalRX: rx + 1000000, TotalTX: tx, At: at, More: map[string]uint64{"flows_tcp": 3, "flows_udp": 4}}
		return s
	}
	later := now.Add(2 * time.Second)
	gone, stale := bob, bob
	gone.ID, gone.User, stale.ID, stale.User = 1, "gone", 2, "stale"
	before = view{at: now, sessions: []control.Session{count(alice, now, 100, 5000), count(gone, now, 1, 1), count(stale, now, 7, 7)}}
	after = view{at: later, sessions: []control.Session{
		count(evil, later, 5, 5), count(stale, now, 7, 7), count(alice, later, 2100, 4005000), count(bob, later, 9, 9),
	}}
	after.status = control.Status{Version: "test", Started: at("2026-11-25 04:00:00"), ActiveSessions: 4, AwaySessions: 1, Workers: 5, Banned: 2}
	return before, after
}

func TestTopFrame(t *testing.T) {
	before, after := topViews()
	for _, tt := range []struct {
		name          string
		order         order
		width, height int
	}{
		{"whole", order{'d', false}, 0, 0},
		{"small", order{'u', true}, 60, 8},
	} {
		got := frame(before, after, tt.order, tt.width, tt.height)
		file := filepath.Join("testdata", "top-"+tt.name+".text")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, got, want)
		}
		if strings.ContainsAny(got, "\x1b\r\x00") {
			t.Errorf("%s: control characters of a client: %q", tt.name, got)
		}
		lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
		if tt.height > 0 && len(lines) > tt.height {
			t.Errorf("%s: %d lines", tt.name, len(lines))
		}
	}
	for h := range 10 { // no size is too small
		for w := range 10 {
			frame(before, after, order{column: 't'}, w, h)
			screen(frame(view{}, view{}, order{column: 'd'}, w, h), h)
		}
	}
}

func TestTopOrders(t *testing.T) {
	before, after := topViews()
	tp := &top{order: order{column: 'd'}}
	for _, tt := range []struct {
		keys string
		want string
	}{
		{"", "alice bob e\"v\\il\x1b[2J stale"},
		{"r", "stale e\"v\\il\x1b[2J bob alice"},
		{"u", "alice bob e\"v\\il\x1b[2J stale"},
		{"x", "alice bob e\"v\\il\x1b[2J stale"},
		{"ur", "stale e\"v\\il\x1b[2J bob alice"},
		{"p", "alice bob e\"v\\il\x1b[2J stale"},
		{"t", "alice bob stale e\"v\\il\x1b[2J"},
	} {
		for _, k := range []byte(tt.keys) {
			if !tp.press(k) {
				t.Errorf("%q ends it", k)
			}
		}
		var got []string
		for _, r := range rows(before, after, tp.order) {
			got = append(got, r.User)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("after %q: %q, want %q", tt.keys, got, tt.want)
		}
	}
	for _, k := range []byte{'q', 3, 27} {
		if tp.press(k) {
			t.Errorf("%d does not end it", k)
		}
	}
	if got := rows(before, after, order{column: 'u'})[0]; got.up != 1000 || got.down != 2000000 {
		t.Errorf("rates %v up, %v down", got.up, got.down)
	}
	if perSecond(10, 5, 1) != 0 || perSecond(0, 5, 0) != 0 {
		t.Error("a rate out of nothing")
	}
}

func TestTopCommand(t *testing.T) {
	name := fake(t, alice, bob)
	for _, tt := range []struct {
		args   string
		status int
		want   string
	}{
		{"--once -d 0.5 -s " + name, 0, "alice"},
		{"--once -d 0.5 -s " + name + "none", 1, "error connecting to ocserv socket"},
		{"-s " + name, 1, "--once"},
		{"--sort nothing", 1, "Usage: rocserv top"},
		{"-d 0", 1, "Usage: rocserv top"},
		{"what", 1, "Usage: rocserv top"},
		{"-h", 0, "Usage: rocserv top"},
	} {
		var out bytes.Buffer
		status := Top(strings.Fields(tt.args), IO{In: strings.NewReader(""), Out: &out, Err: &out})
		if status != tt.status || !strings.Contains(out.String(), tt.want) {
			t.Errorf("top %s: status %d, %s", tt.args, status, fmt.Sprintf("%q", out.String()))
		}
	}
}
