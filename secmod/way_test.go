package secmod

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"rocserv/internal/ipc"
	"rocserv/secmod/helper"
)

// factor is a method as a line of the configuration names it, and what its
// users are asked for.
type factor struct {
	name, line string
	steps      []step
}

// step is one of a method's questions: its right answer, and wrong ones.
type step struct {
	right string
	wrong []string
}

// factors are the methods there are. Codes are those of the file that every row
// begins with.
var factors = []factor{
	{"certificate", "certificate", nil},
	{"password", `"plain[passwd=USERS]"`, []step{{"secret", []string{"guess", "", hotpCodes[0], "secret "}}}},
	{"code", `"plain[otp=OTP]"`, []step{{hotpCodes[0], []string{"000000", "", "secret", "-1"}}}},
	{"password and code", `"plain[passwd=USERS,otp=OTP]"`, []step{
		{"secret", []string{"guess", "", hotpCodes[0], "secret" + hotpCodes[0]}},
		{hotpCodes[0], []string{"000000", "", "secret"}},
	}},
	{"password, at a helper", `"ldap[config=USERS]"`, []step{{"secret", []string{"guess", "", "secret "}}}},
}

// asking is what that helper plays: a password, and three tries.
type asking struct{}

func (asking) Begin(_ context.Context, a helper.Applicant) (helper.Dialogue, helper.Verdict) {
	return &askingLogin{user: a.User}, helper.Verdict{Outcome: helper.Ask, Prompt: askPassword}
}

type askingLogin struct {
	user   string
	failed int
}

func (d *askingLogin) Answer(_ context.Context, answer []byte) helper.Verdict {
	if string(answer) == "secret" {
		return helper.Verdict{Outcome: helper.Admit, User: d.user}
	}
	v := helper.Verdict{Wrong: true, Why: "wrong password"}
	if d.failed++; d.failed < tries {
		v.Outcome, v.Prompt = helper.Ask, askPasswordAgain
	}
	return v
}

func (*askingLogin) End() {}

// startAsking is how main starts that helper.
func startAsking(*ipc.SecmHelperReq) (int, error) {
	near, far, err := ipc.Pair()
	if err != nil {
		return -1, err
	}
	go helper.Run(helper.Options{SecMod: near, Log: slog.New(slog.DiscardHandler), Kind: helper.Kind{Make: func(map[string]string, helper.Logger) (helper.Made, error) {
		return helper.Made{Method: asking{}}, nil
	}}})
	return far, nil
}

func (f factor) isCertificate() bool { return f.steps == nil }

// brought is what a client has beside its answers.
type brought struct {
	name  string
	chain [][]byte
	own   bool // it is a good certificate, and the user's
	good  bool // it is a good certificate, hers or bert's
}

// wayRow is one login and what its steps come to.
type wayRow struct {
	name    string
	with    brought
	user    string   // as named; empty: nobody
	answers []string // nil: nothing but the certificate
	want    string   // with the number of the password that is asked for
}

// TestWays: every method alone, every pair of methods that must succeed together
// (auth twice) and of such that are enough alone (auth, enable-auth), in both
// orders, with wrong input at each step. Pairs that no form could ask for are
// refused by the configuration.
func TestWays(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	anna := ders(ca.client("anna", nil))
	strange := ders(newAuthority(t, "CA", nil).client("anna", nil))
	all := []brought{
		{"her certificate", anna, true, true},
		{"no certificate", nil, false, false},
		{"bert's certificate", ders(ca.client("bert", nil)), false, true},
		{"a certificate of strangers", strange, false, false},
		{"that one with our authority beside it", append(slices.Clone(strange), ca.cert.Raw), false, false},
		{"garbage for a certificate", [][]byte{{0x30, 3, 1, 2, 3}}, false, false},
	}
	for _, a := range factors {
		testWays(t, ca, all, []string{"auth = " + a.line}, []factor{a}, nil)
		for _, b := range factors {
			testWays(t, ca, all, []string{"auth = " + a.line, "auth = " + b.line}, []factor{a, b}, nil)
			testWays(t, ca, all, []string{"auth = " + a.line, "enable-auth = " + b.line}, []factor{a}, []factor{b})
		}
	}
	// Three lines: both together, or the certificate alone.
	for _, f := range factors[1:] {
		testWays(t, ca, all, []string{"auth = " + f.line, "auth = certificate", "enable-auth = certificate"}, []factor{f, factors[0]}, factors[:1])
	}
}

// testWays tries what users of two ways, of which there may be one, do.
func testWays(t *testing.T, ca *authority, all []brought, lines []string, one, two []factor) {
	t.Run(strings.Join(lines, ", "), func(t *testing.T) {
		st := certSite(t, ca)
		for _, line := range append(lines, "attempts-pair = 0", "attempts-source = 0", "attempts-user = 0") {
			st.add(strings.NewReplacer("USERS", st.path("users"), "OTP", st.path("otp")).Replace(line))
		}
		st.write("otp", hotpLine)
		asked := slices.DeleteFunc(slices.Concat(one, two), factor.isCertificate)
		if len(asked) > 1 {
			if rep := newRig(t).configure(1, st.text()); !strings.Contains(rep.Error, "cannot mix multiple authentication methods") {
				t.Errorf("two that ask in the form: %q", rep.Error)
			}
			return
		}
		r := newRig(t)
		r.helper = startAsking
		if rep := r.configure(1, st.text()); rep.Error != "" {
			t.Fatal(rep.Error)
		}
		for _, row := range rowsOf(all, one, two, asked) {
			st.write("otp", hotpLine) // no code is used yet
			if got := r.stepsOf(row); got != row.want {
				t.Errorf("%s, %s: %s, want %s", row.with.name, row.name, got, row.want)
			}
		}
	})
}

// rowsOf are the logins at a virtual host of these ways; asked is the one
// factor that asks for something, if there is one.
func rowsOf(all []brought, one, two, asked []factor) (rows []wayRow) {
	alone := func(way []factor) bool { // nothing but the certificate
		return len(way) > 0 && !slices.ContainsFunc(way, func(f factor) bool { return !f.isCertificate() })
	}
	both := func(way []factor) bool { // the form and the certificate
		return slices.ContainsFunc(way, factor.isCertificate) && !alone(way)
	}
	for _, with := range all {
		enough := alone(one) || alone(two)
		nobody, anna := "FAILED", "FAILED"
		switch {
		case enough && with.own:
			nobody, anna = "OK anna", "OK anna"
		case enough && with.good:
			nobody = "OK bert"
		}
		rows = append(rows, wayRow{"nothing else", with, "", nil, nobody}, wayRow{"nothing else, as anna", with, "anna", nil, anna})
		var steps []step
		if len(asked) > 0 {
			steps = asked[0].steps
		}
		refused := len(asked) == 0 || (both(one) || both(two)) && !with.own
		for _, l := range loginsOf(steps) {
			if refused {
				l.want = "FAILED"
			}
			l.with, l.user = with, "anna"
			rows = append(rows, l)
		}
	}
	return rows
}

// loginsOf are the right answers, and wrong ones at each step: one and then the
// right one, and as many as there may be.
func loginsOf(steps []step) (rows []wayRow) {
	var right, asks []string
	for i, s := range steps {
		right, asks = append(right, s.right), append(asks, fmt.Sprint("MSG", i))
	}
	row := func(name string, answers []string, want ...string) {
		rows = append(rows, wayRow{name: name, answers: answers, want: strings.Join(want, " ")})
	}
	row("right", append([]string{}, right...), append(slices.Clone(asks), "OK anna")...)
	for i, s := range steps {
		before, after := right[:i:i], right[i:]
		for _, w := range s.wrong {
			row(fmt.Sprintf("%q at step %d, then right", w, i),
				slices.Concat(before, []string{w}, after), slices.Concat(asks[:i+1], asks[i:], []string{"OK anna"})...)
		}
		w := s.wrong
		row(fmt.Sprintf("wrong at step %d", i),
			slices.Concat(before, []string{w[0], w[1], w[2]}), slices.Concat(asks[:i+1], []string{asks[i], asks[i], "FAILED"})...)
	}
	return rows
}

// stepsOf logs in and returns what each step came to.
func (r *rig) stepsOf(row wayRow) string {
	c, _ := r.handshaken(home)
	defer c.Close()
	q := &ipc.AuthInit{User: row.user, ClientChain: row.with.chain}
	if row.answers == nil {
		q.Method = ipc.AuthMethod_AUTH_CERTIFICATE
	}
	answers := row.answers
	var got []string
	rep := authInit(r.t, c, q)
	for ; rep.Status == ipc.AuthStatus_AUTH_MSG; answers = answers[1:] {
		got = append(got, fmt.Sprint("MSG", rep.PasswordCounter))
		if len(answers) == 0 {
			return strings.Join(got, " ") + " and no answer left"
		}
		rep = authCont(r.t, c, rep.Sid, answers[0])
	}
	return strings.TrimSpace(strings.Join(append(got, status(rep), rep.User), " "))
}
