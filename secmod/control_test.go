package secmod

import (
	"strings"
	"testing"

	"rocserv/internal/ipc"
	"rocserv/internal/session"
)

func (r *rig) cookies() []*ipc.SecmCookie {
	r.t.Helper()
	rec, err := r.ask(ipc.SecmListCookiesT, new(ipc.Nothing), new(ipc.Nothing))
	if err != nil {
		r.t.Fatal(err)
	}
	defer rec.Close()
	m := new(ipc.SecmCookies)
	if err := ipc.ReadSealedMessage(rec.FDs[0], m); err != nil {
		r.t.Fatal(err)
	}
	return m.Cookies
}

func (r *rig) terminate(q *ipc.SecmTerminate) *ipc.SecmTerminateRep {
	r.t.Helper()
	rep := new(ipc.SecmTerminateRep)
	if _, err := r.ask(ipc.SecmTerminateT, q, rep); err != nil {
		r.t.Fatal(err)
	}
	return rep
}

func TestOperatorsQuestions(t *testing.T) {
	r := boot(t, newSite(t, hashOf(t, "anna", "staff", "secret"), hashOf(t, "ben", "*", "word")))
	c, id := r.handshaken(home)
	first := authInit(t, c, &ipc.AuthInit{User: "anna", UserAgent: "client\x00/1 " + strings.Repeat("ä", 300)})
	list := r.cookies()
	if len(list) != 1 || list[0].User != "anna" || list[0].State != uint32(session.Init) || list[0].SafeId != "" {
		t.Fatalf("a login: %v", list)
	}
	if a := list[0].UserAgent; !strings.HasPrefix(a, "client/1 ä") || len(a) > 130 {
		t.Errorf("agent %q", a)
	}
	cookie := authCont(t, c, first.Sid, "secret").Sid
	opened, _ := r.openSession(cookie, id)
	c.Send(ipc.CliStatsT, 0, &ipc.CliStats{BytesUp: 5, BytesDown: 7})
	eventually(t, "the statistics count", func() bool { return r.cookies()[0].BytesDown == 7 })
	if e := r.cookies()[0]; e.SafeId != opened.SafeId || e.InUse != 1 || !e.Opened || e.ExpiresUnixMs != 0 || !strings.HasPrefix(e.UserAgent, "client/1") {
		t.Fatalf("a session: %v", e)
	}
	c2, _ := r.handshaken(home)
	r.login(c2, "ben", "word")

	stats := new(ipc.SecmStats)
	if _, err := r.ask(ipc.SecmStatsReqT, new(ipc.Nothing), stats); err != nil {
		t.Fatal(err)
	}
	if stats.Logins != 2 || stats.Signatures != 2 || stats.Sessions != 2 || stats.SessionsUnopened != 1 {
		t.Errorf("statistics %v", stats)
	}

	rep := r.terminate(&ipc.SecmTerminate{User: "anna"})
	if len(rep.Live) != 1 || rep.Live[0] != opened.SafeId || len(rep.Ended) != 0 {
		t.Fatalf("terminated %v", rep)
	}
	c3, id3 := r.handshaken(home)
	if again, _ := r.openSession(cookie, id3); again.Ok || again.Unavailable {
		t.Errorf("a terminated cookie: %v", again)
	}
	c3.Close()
	c.Close()
	if end := r.closeSession(opened.SafeId, id, ipc.Reason_REASON_CONNECTION_LOST); !end.Invalidated || end.BytesUp != 5 {
		t.Errorf("the end of a terminated session: %v", end)
	}
	left := r.cookies()
	if len(left) != 1 || left[0].User != "ben" {
		t.Fatalf("left: %v", left)
	}
	if rep := r.terminate(&ipc.SecmTerminate{SafeIds: []string{left[0].SafeId, "nonsense"}}); len(rep.Ended) != 1 || len(rep.Live) != 0 {
		t.Errorf("terminated %v", rep)
	}
	if rep := r.terminate(&ipc.SecmTerminate{}); len(rep.Ended)+len(rep.Live) != 0 {
		t.Errorf("nobody named: %v", rep)
	}
}
