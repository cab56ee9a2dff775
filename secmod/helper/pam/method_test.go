//go:build cgo && pam

package pam

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rocserv/secmod/helper"
)

const matrix = "/usr/lib/x86_64-linux-gnu/pam_wrapper/pam_matrix.so"

// playing makes the method with a service of these lines; DB is a file of
// pam_matrix's with anna's password.
func playing(t *testing.T, lines ...string) (m *method, db string) {
	t.Helper()
	if _, err := os.Stat(matrix); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("Debian's libpam-wrapper is not there: ", err)
		}
		t.Skip("Debian's libpam-wrapper is not there: ", err)
	}
	dir := t.TempDir()
	db = filepath.Join(dir, "db")
	service := strings.NewReplacer("MATRIX", matrix, "DB2", db+"2", "DB", db).Replace(strings.Join(lines, "\n") + "\n")
	for name, text := range map[string]string{"vpn": service, "db": "anna:right:vpn\nroot:right:vpn\nelse:right:ftp\n", "db2": "anna:too:vpn\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m, _, err := makeFor(map[string]string{"service": "vpn"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	m.confDir = dir
	return m, db
}

var plain = []string{"auth required MATRIX passdb=DB", "account required MATRIX passdb=DB"}

// dialogue gives answers and returns what is said, in short.
func dialogue(t *testing.T, m *method, user string, answers ...string) string {
	t.Helper()
	d, v := m.Begin(t.Context(), helper.Applicant{User: user, Peer: netip.MustParseAddr("192.0.2.7")})
	if d != nil {
		defer d.End()
	}
	said := []string{short(v)}
	for _, a := range answers {
		if v.Outcome != helper.Ask {
			break
		}
		v = d.Answer(t.Context(), []byte(a))
		said = append(said, short(v))
	}
	return strings.Join(said, " | ")
}

func short(v helper.Verdict) string {
	switch v.Outcome {
	case helper.Ask:
		return fmt.Sprintf("%q%d", v.Prompt, v.Counter)
	case helper.Admit:
		return "admit " + v.User
	case helper.Unavailable:
		return "unavailable"
	}
	return fmt.Sprintf("refused wrong=%v", v.Wrong)
}

// TestConversations: what modules ask, and what becomes of the answers.
func TestConversations(t *testing.T) {
	const ask = `"Password:"0 | `
	for _, tt := range []struct {
		name    string
		service []string
		user    string
		answers []string
		want    string
	}{
		{"right", plain, "anna", []string{"right"}, ask + "admit anna"},
		{"wrong", plain, "anna", []string{"guess"}, ask + "refused wrong=true"},
		{"empty", plain, "anna", []string{""}, ask + "refused wrong=true"},
		{"unknown", plain, "nobody", []string{"right"}, ask + "refused wrong=true"},
		{"of another service", plain, "else", []string{"right"}, ask + "refused wrong=false"},
		{"two steps", []string{plain[0], "auth required MATRIX passdb=DB2", plain[1]}, "anna", []string{"right", "too"}, ask + `"Password:"0 | admit anna`},
		{"two steps, the second wrong", []string{plain[0], "auth required MATRIX passdb=DB2", plain[1]}, "anna", []string{"right", "guess"}, ask + `"Password:"0 | refused wrong=true`},
		{"something said", append([]string{"auth optional pam_echo.so file=DIR/motd"}, plain...), "anna", []string{"right"}, `"Be careful\nPassword:"0 | admit anna`},
		{"locked", []string{plain[0], "account required pam_debug.so acct=perm_denied"}, "anna", []string{"right"}, ask + "refused wrong=false"},
		{"expired", []string{plain[0], "account required pam_debug.so acct=acct_expired"}, "anna", []string{"right"}, ask + "refused wrong=false"},
		{"nobody knows", []string{plain[0], "account required pam_debug.so acct=authinfo_unavail"}, "anna", []string{"right"}, ask + "unavailable"},
		{"no such module", []string{"auth required pam_nonexistent.so"}, "anna", nil, "unavailable"},
		{"no modules", nil, "anna", nil, "refused wrong=false"},
	} {
		m, db := playing(t, tt.service...)
		for name, text := range map[string]string{"motd": "Be careful\n"} {
			if err := os.WriteFile(filepath.Join(filepath.Dir(db), name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		b, err := os.ReadFile(filepath.Join(m.confDir, "vpn"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(m.confDir, "vpn"), []byte(strings.ReplaceAll(string(b), "DIR", m.confDir)), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := dialogue(t, m, tt.user, tt.answers...); got != tt.want {
			t.Errorf("%s: %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

// TestPasswordChange: an expired password is changed in the same login.
func TestPasswordChange(t *testing.T) {
	m, _ := playing(t, plain[0], "account required pam_debug.so acct=new_authtok_reqd", "password required pam_pwhistory.so", "password required pam_debug.so")
	const asked = `"Password:"0 | "acct=new_authtok_reqd\nNew password:"1 | "Retype new password:"2 | `
	if got := dialogue(t, m, "root", "right", "a newer one", "a newer one"); got != asked+"admit root" {
		t.Errorf("the change: %s", got)
	}
	if got := dialogue(t, m, "root", "right", "a newer one", "another"); got != asked+"refused wrong=false" {
		t.Errorf("another one, retyped: %s", got)
	}
	if got := dialogue(t, m, "root", "guess", "a newer one", "a newer one"); got != `"Password:"0 | refused wrong=true` {
		t.Errorf("a wrong one first: %s", got)
	}
}

// TestConversationEnds: one that nobody answers gives its place back, and there are
// only so many.
func TestConversationEnds(t *testing.T) {
	m, _ := playing(t, plain...)
	m.places = newPlaces(2, 2)
	var open []helper.Dialogue
	for range 2 {
		d, v := m.Begin(t.Context(), helper.Applicant{User: "anna"})
		if v.Outcome != helper.Ask {
			t.Fatalf("%+v", v)
		}
		open = append(open, d)
	}
	if _, v := m.Begin(t.Context(), helper.Applicant{User: "anna"}); v.Outcome != helper.Unavailable {
		t.Errorf("one too many: %+v", v)
	}
	open[0].End()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	open[1].End()
	if v := open[1].Answer(ctx, []byte("right")); v.Outcome != helper.Unavailable {
		t.Errorf("an answer too late: %+v", v)
	}
	m.emptied(t)
}

// emptied returns when all conversations have given their places back.
func (m *method) emptied(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		m.places.mu.Lock()
		n := len(m.places.inside)
		m.places.mu.Unlock()
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d places are still taken", n)
		}
	}
}

// TestUnreadQuestion: a conversation whose login was over when a module asked ends too.
func TestUnreadQuestion(t *testing.T) {
	m, _ := playing(t, plain...)
	d := &login{m: m, who: helper.Applicant{User: "anna"}, answers: make(chan string), verdicts: make(chan helper.Verdict, 1), gone: make(chan struct{})}
	m.places.enter(d)
	d.verdicts <- helper.Verdict{Outcome: helper.Ask}
	d.End()
	ended := make(chan struct{})
	go func() { defer close(ended); d.run() }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for somebody to read its last verdict")
	}
	m.emptied(t)
}

// TestAccounts: a session is opened and closed.
func TestAccounts(t *testing.T) {
	for _, tt := range []struct {
		session, account string
		event            helper.Event
		fails            bool
	}{
		{"pam_permit.so", "pam_permit.so", helper.Start, false},
		{"pam_permit.so", "pam_permit.so", helper.Stop, false},
		{"pam_debug.so open_session=authinfo_unavail", "pam_permit.so", helper.Start, true},
		{"pam_debug.so open_session=authinfo_unavail", "pam_permit.so", helper.Stop, false},
		{"pam_debug.so close_session=authinfo_unavail", "pam_permit.so", helper.Stop, true},
		{"pam_debug.so open_session=authinfo_unavail", "pam_permit.so", helper.Interim, false},
		{"pam_permit.so", "pam_debug.so acct=authinfo_unavail", helper.Start, true},
		{"pam_permit.so", "pam_debug.so acct=acct_expired", helper.Start, false}, // is logged
	} {
		m, _ := playing(t, "session required "+tt.session, "account required "+tt.account)
		err := m.Tell(t.Context(), helper.Accounting{Event: tt.event, User: "anna", Peer: netip.MustParseAddr("192.0.2.7")})
		if (err != nil) != tt.fails {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}
