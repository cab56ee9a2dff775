package secmod

import (
	"bytes"
	"crypto"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/ipc"
)

var kept crypto.Signer // the key of TestKeyring

func addrPort(addr string) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), 4711)
}

// successor is the sec-mod after r, with the configuration of st and what r
// left with main. conns are the workers that main knows of each session.
func (r *rig) successor(st *site, before *ipc.SecmConfigRep, conns map[string][]uint64) (*rig, *ipc.SecmRestoreRep) {
	r.t.Helper()
	next := newRig(r.t)
	next.clock.forward(r.clock.now().Sub(next.clock.now()))
	next.conns = r.conns
	var known []*ipc.Chain
	for _, v := range before.Vhosts {
		known = append(known, v.Chains...)
	}
	fd, err := ipc.Seal("config", st.text())
	if err != nil {
		r.t.Fatal(err)
	}
	defer unix.Close(fd)
	rep := new(ipc.SecmConfigRep)
	q := &ipc.SecmConfig{Generation: 1, Name: "ocserv.conf", Keyring: before.Keyring, Known: known}
	if _, err := next.ask(ipc.SecmConfigT, q, rep, fd); err != nil || rep.Error != "" {
		r.t.Fatal(err, rep.Error)
	}
	all := new(ipc.SecmRecords)
	r.mu.Lock()
	for id, m := range r.held {
		all.Records = append(all.Records, &ipc.SecmRecord{SafeId: id, Sealed: m.Sealed, ConnIds: conns[id]})
	}
	r.mu.Unlock()
	mem, err := ipc.SealMessage("records", all)
	if err != nil {
		r.t.Fatal(err)
	}
	defer unix.Close(mem)
	restored := new(ipc.SecmRestoreRep)
	if _, err := next.ask(ipc.SecmRestoreT, new(ipc.Nothing), restored, mem); err != nil {
		r.t.Fatal(err)
	}
	return next, restored
}

// TestSuccessor: a sec-mod goes on where the one before ended.
func TestSuccessor(t *testing.T) {
	st := newSite(t, hashOf(t, "anna", "staff", "secret"))
	r := newRig(t)
	conf := r.configure(1, st.text())
	c, id := r.handshaken(home)
	cookie := r.login(c, "anna", "secret")
	rep, _ := r.openSession(cookie, id)
	c.Send(ipc.CliStatsT, 0, &ipc.CliStats{BytesUp: 10, BytesDown: 20})
	other, _ := r.handshaken(home)
	unopened := r.login(other, "anna", "secret")
	leaver, leaverID := r.handshaken(home)
	left := r.login(leaver, "anna", "secret")
	leftRep, _ := r.openSession(left, leaverID)
	leaver.Close()
	r.closeSession(leftRep.SafeId, leaverID, ipc.Reason_REASON_USER)
	lostWorker, lostID := r.handshaken(home)
	lost := r.login(lostWorker, "anna", "secret")
	lostRep, _ := r.openSession(lost, lostID)
	half, _ := r.handshaken(home)
	begun := authInit(t, half, &ipc.AuthInit{User: "anna"})
	r.closeSession("nobody's", 0, 0) // all that was sent before is read

	next, n := r.successor(st, conf, map[string][]uint64{rep.SafeId: {id}})
	if n.Restored != 3 || n.Refused != 0 || n.Expired != 0 {
		t.Fatalf("restored %v", n)
	}
	// The worker with the tunnel.
	near, far, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	who := &ipc.Identity{ConnId: id, Peer: ipc.PutAddrPort(addrPort(home))}
	if err := next.main.Send(ipc.SecmWorkerT, 0, &ipc.SecmWorker{Identity: who, Rejoined: true, SafeId: rep.SafeId}, far); err != nil {
		t.Fatal(err)
	}
	unix.Close(far)
	near.Send(ipc.CliStatsT, 0, &ipc.CliStats{BytesUp: 15, BytesDown: 15})
	near.Close()
	if end := next.closeSession(rep.SafeId, id, ipc.Reason_REASON_DPD_TIMEOUT); end.BytesUp != 15 || end.BytesDown != 20 || end.Invalidated {
		t.Errorf("the end of the tunnel: %v", end)
	}
	for what, sid := range map[string][]byte{"detached": cookie, "never opened": unopened, "its worker died in between": lost} {
		_, conn := next.handshaken(home)
		if rep, _ := next.openSession(sid, conn); !rep.Ok {
			t.Errorf("%s: %v", what, rep)
		}
	}
	_, conn := next.handshaken(home)
	if rep, _ := next.openSession(left, conn); rep.Ok {
		t.Error("who had left is back")
	}
	if lostRep.SafeId == "" {
		t.Fatal("no session")
	}
	// A login that was under way begins anew, on the same connection.
	w, farther, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	next.main.Send(ipc.SecmWorkerT, 0, &ipc.SecmWorker{Identity: &ipc.Identity{ConnId: 1000, Peer: who.Peer}, Rejoined: true}, farther)
	unix.Close(farther)
	if rep := authCont(t, w, begun.Sid, "secret"); status(rep) != "FAILED" {
		t.Errorf("the other half of a login: %v", rep)
	}
	next.login(w, "anna", "secret")
	if n := next.s.counts.violations.Load() + next.s.counts.panics.Load(); n != 0 {
		t.Errorf("%d violations and panics: %s", n, next.log)
	}
}

// TestRecordsAreSealed: nothing of a session can be read by who keeps its
// record, changed, or given to another.
func TestRecordsAreSealed(t *testing.T) {
	st := newSite(t, hashOf(t, "anna", "staff", "secret"))
	r := newRig(t)
	conf := r.configure(1, st.text())
	var ids []string
	for range 2 {
		c, id := r.handshaken(home)
		rep, _ := r.openSession(r.login(c, "anna", "secret"), id)
		ids = append(ids, rep.SafeId)
	}
	r.closeSession("nobody's", 0, 0)
	for id, m := range r.held {
		if bytes.Contains(m.Sealed, []byte("anna")) || bytes.Contains(m.Sealed, []byte("staff")) || len(m.Sealed) < 100 {
			t.Errorf("record of %s: %q", id, m.Sealed)
		}
	}
	a, b := r.held[ids[0]], r.held[ids[1]]
	a.Sealed, b.Sealed = b.Sealed, a.Sealed
	if _, n := r.successor(st, conf, nil); n.Restored != 0 || n.Refused != 2 {
		t.Errorf("swapped records: %v", n)
	}
	a.Sealed, b.Sealed = b.Sealed, a.Sealed
	a.Sealed[20] ^= 1
	if _, n := r.successor(st, conf, nil); n.Restored != 1 || n.Refused != 1 {
		t.Errorf("a changed record: %v", n)
	}
}

// TestKeyring: the secret of the records goes from sec-mod to sec-mod while at
// least one key does.
func TestKeyring(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(st *site)
		want   uint32
	}{
		{"same keys", func(*site) {}, 1},
		{"one more key", func(st *site) { st.key("", "ed25519", newPrivate(t, "ed25519")) }, 1},
		{"certificate renewed", func(st *site) { st.conf = st.conf[:len(st.conf)-2]; st.key("", "p256b", kept) }, 1},
		{"all keys new", func(st *site) { st.conf = st.conf[:len(st.conf)-2]; st.key("", "p384", newPrivate(t, "p384")) }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st := newSite(t, hashOf(t, "anna", "staff", "secret"))
			st.conf = st.conf[:len(st.conf)-2]
			kept = newPrivate(t, "p256")
			st.key("", "p256", kept)
			r := newRig(t)
			conf := r.configure(1, st.text())
			c, _ := r.handshaken(home)
			r.login(c, "anna", "secret")
			r.closeSession("nobody's", 0, 0)
			tt.change(st)
			next, n := r.successor(st, conf, nil)
			if n.Restored != tt.want || n.Refused != 1-tt.want {
				t.Errorf("restored %v", n)
			}
			if lost := strings.Contains(next.log.String(), "sessions of before are lost"); lost != (tt.want == 0) {
				t.Errorf("the log says that sessions are lost: %t", lost)
			}
		})
	}
}

// TestKeyringOverReloads: keys that were replaced in a reload need not be the
// ones of the first configuration.
func TestKeyringOverReloads(t *testing.T) {
	st := newSite(t, hashOf(t, "anna", "staff", "secret"))
	r := newRig(t)
	r.configure(1, st.text())
	c, _ := r.handshaken(home)
	r.login(c, "anna", "secret")
	st.conf = st.conf[:len(st.conf)-2]
	st.key("", "p384", newPrivate(t, "p384"))
	conf := r.configure(2, st.text())
	if conf.Error != "" {
		t.Fatal(conf.Error)
	}
	next, n := r.successor(st, conf, nil)
	if n.Restored != 1 {
		t.Errorf("restored %v: %s", n, next.log)
	}
	if i := conf.Vhosts[0].Chains[0].KeyIndex; i == 0 || next.s.gens.Load().current.keys[i] == nil {
		t.Errorf("the key that workers know as %d has another index", i)
	}
}

func TestRestoreExpired(t *testing.T) {
	st := newSite(t, hashOf(t, "anna", "staff", "secret"))
	r := newRig(t)
	conf := r.configure(1, st.text())
	c, _ := r.handshaken(home)
	r.login(c, "anna", "secret")
	r.closeSession("nobody's", 0, 0)
	r.clock.forward(time.Hour)
	if _, n := r.successor(st, conf, nil); n.Expired != 1 || n.Restored != 0 {
		t.Errorf("restored %v", n)
	}
	if s := fmt.Sprintf("%v %+v %#v", &r.s.records, &r.s.records, &r.s.records); strings.Contains(s, "secret") || len(s) > 100 {
		t.Errorf("the secret prints: %s", s)
	}
}
