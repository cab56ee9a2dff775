package mainproc

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rocserv/internal/control"
)

func TestStoreFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "store")
	log := slog.New(slog.DiscardHandler)
	s, was, err := openStore(name, log)
	must(err)
	if !same(was, newImage()) {
		t.Errorf("a new file has %v", was)
	}
	if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if _, _, err := openStore(name, log); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a file that is in use: %v", err)
	}
	now := newImage()
	now[storeMeta]["version"] = []byte(storeVersion)
	now[storeRecords]["a"], now[storeRecords]["b"] = []byte("1"), []byte("2")
	must(s.write(now))
	next := newImage()
	next[storeMeta]["version"] = []byte(storeVersion)
	next[storeRecords]["b"], next[storeBans]["c"] = []byte("3"), []byte("4")
	must(s.write(next))
	must(s.db.Close())
	if err := s.write(now); err == nil {
		t.Error("no error of a file that is closed")
	}
	s, was, err = openStore(name, log)
	must(err)
	if !same(was, next) || !same(next, was) {
		t.Errorf("read %v, wrote %v", was, next)
	}
	next = newImage()
	next[storeMeta]["version"] = []byte("0")
	must(s.write(next))
	must(s.db.Close())
	if _, _, err := openStore(name, log); err == nil || !strings.Contains(err.Error(), "remove the file") {
		t.Errorf("a file of another version: %v", err)
	}
	whole, err := os.ReadFile(name)
	must(err)
	for _, n := range []int{1, 100, 4096, 5000, len(whole) - 4096} {
		must(os.WriteFile(name, whole[:n], 0o600))
		if s, _, err := openStore(name, log); err == nil {
			s.db.Close()
			t.Errorf("%d bytes of it are no error", n)
		}
	}
	if _, _, err := openStore(filepath.Join(t.TempDir(), "none", "store"), log); err == nil {
		t.Error("no error of a folder that is not there")
	}
}

// TestStore: what main knows of sessions and bans is known to the main after it,
// in good order or killed, and is not in the file in clear.
func TestStore(t *testing.T) {
	cfg := defaults()
	g := &cfg.Config.Global
	g.UseControl, g.ControlFile, g.Device, g.SessionStore = true, "ctl", "vpns", "store"
	g.MaxBanScore, g.BanTime, g.BanResetTime, g.BanLocal, g.BanPointsConnect = 1000, time.Hour, time.Hour, true, 1
	sid := testSID(sidGood, 1, 0, false, 1)
	var dir, ip string
	begin := func() *running {
		t.Helper()
		r := prepare(t, cfg)
		if dir == "" {
			dir = r.dir
		}
		r.dir, r.cmd.Dir = dir, dir
		r.launch()
		r.waitLog("initialized rocserv test")
		r.tcp = r.logged(`listening \(TCP\) on (\S+)\.\.\.`)
		return r
	}
	for i, end := range []func(*running){
		(*running).stop,
		func(r *running) {
			eventually(t, "the session in the file", func() bool {
				b, err := os.ReadFile(filepath.Join(dir, "store"))
				return err == nil && bytes.Contains(b, []byte(safeID(sid)))
			})
			r.cmd.Process.Kill()
			r.wait()
		},
		(*running).stop,
	} {
		r := begin()
		if i > 0 {
			r.waitLog(fmt.Sprintf("restored safe_id=%q", safeID(sid)))
			r.waitLog("sessions of the session-store")
			if got := ask[control.Status](t, r.ctl(), control.CmdStatus, nil); got.AwaySessions != 1 {
				t.Errorf("status %+v", got)
			}
			if got := ask[control.Bans](t, r.ctl(), control.CmdBans, nil).Bans; len(got) != 1 {
				t.Errorf("bans %+v", got)
			}
		}
		c := r.dial()
		now := strings.Fields(c.open(sid))
		if len(now) < 2 || now[0] != "ok" || ip != "" && now[1] != ip {
			t.Fatalf("the lease was %s: %v", ip, now)
		}
		ip = now[1]
		end(r)
	}
	b, err := os.ReadFile(filepath.Join(dir, "store"))
	must(err)
	if bytes.Contains(b, sid) || !bytes.Contains(b, []byte(ip)) {
		t.Errorf("the file has the cookie: %v, the lease: %v", bytes.Contains(b, sid), bytes.Contains(b, []byte(ip)))
	}
}

// A store that cannot be had costs the sessions of before only.
func TestStoreUnusable(t *testing.T) {
	cfg := defaults()
	cfg.Config.Global.SessionStore = "store"
	r := prepare(t, cfg)
	must(os.WriteFile(filepath.Join(r.dir, "store"), bytes.Repeat([]byte("no"), 10000), 0o666))
	must(os.Chmod(filepath.Join(r.dir, "store"), 0o666))
	r.launch()
	r.waitLog("initialized rocserv test")
	r.tcp = r.logged(`listening \(TCP\) on (\S+)\.\.\.`)
	r.waitLog("the server runs without a session-store")
	if got := r.dial().open(testSID(sidGood, 1, 0, false, 1)); !strings.HasPrefix(got, "ok") {
		t.Errorf("a client: %q", got)
	}
	r.stop()
}

// What is in the file is not believed.
func TestStoreSessions(t *testing.T) {
	s := newSessions()
	v := sessionState{SafeID: "x", User: "u", Key: make([]byte, 32)}
	v.Lease.IPv4 = netip.MustParseAddr("10.9.0.9")
	must(s.take([]sessionState{v}, nil, nil))
	v.SafeID = "y"
	if err := s.take([]sessionState{v}, nil, nil); err == nil {
		t.Error("an address twice")
	}
	if live, all := s.count(); live != 0 || all != 1 {
		t.Errorf("%d live of %d", live, all)
	}
}
