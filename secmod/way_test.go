package secmod

import (
	"fmt"
	"strings"
	"testing"

	"rocserv/internal/ipc"
)

// TestWaysWithCodes: every pair of a method with one-time passwords and
// certificates, as something that must succeed together (auth) or alone
// (enable-auth), with wrong input at each step. TestWays has those with
// passwords only.
func TestWaysWithCodes(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	anna, bert := ders(ca.client("anna", nil)), ders(ca.client("bert", nil))
	strange := ders(newAuthority(t, "CA", nil).client("anna", nil))
	const (
		two   = `"plain[passwd=USERS,otp=OTP]"`
		code  = `"plain[otp=OTP]"`
		cert  = "certificate"
		wrong = "000000"
	)
	and := func(a, b string) []string { return []string{"auth = " + a, "auth = " + b} }
	or := func(a, b string) []string { return []string{"auth = " + a, "enable-auth = " + b} }
	type row struct {
		name    string
		chain   [][]byte
		answers []string // nil: nothing but the certificate
		want    string   // with the number of the password that is asked for
	}
	good := hotpCodes[0]
	alone := []row{ // what is asked of who needs no certificate
		{"certificate alone", anna, nil, "OK anna"},
		{"no certificate", nil, nil, "FAILED"},
		{"certificate of strangers", strange, nil, "FAILED"},
	}
	twoAlone := append([]row{
		{"right", nil, []string{"secret", good}, "MSG0 MSG1 OK anna"},
		{"right, another's certificate", bert, []string{"secret", good}, "MSG0 MSG1 OK anna"},
		{"right, certificate of strangers", strange, []string{"secret", good}, "MSG0 MSG1 OK anna"},
		{"wrong password", anna, []string{"guess", "guess", "guess"}, "MSG0 MSG0 MSG0 FAILED"},
		{"wrong code", anna, []string{"secret", wrong, wrong, wrong}, "MSG0 MSG1 MSG1 MSG1 FAILED"},
	}, alone...)
	codeAlone := append([]row{
		{"right", nil, []string{good}, "MSG0 OK anna"},
		{"right, another's certificate", bert, []string{good}, "MSG0 OK anna"},
		{"the password for a code", anna, []string{"secret", "secret", "secret"}, "MSG0 MSG0 MSG0 FAILED"},
	}, alone...)
	twoTogether := []row{
		{"right", anna, []string{"secret", good}, "MSG0 MSG1 OK anna"},
		{"right the second time", anna, []string{"guess", "secret", good}, "MSG0 MSG0 MSG1 OK anna"},
		{"wrong password", anna, []string{"guess", "guess", "guess"}, "MSG0 MSG0 MSG0 FAILED"},
		{"wrong code", anna, []string{"secret", wrong, wrong, wrong}, "MSG0 MSG1 MSG1 MSG1 FAILED"},
		{"code without password", anna, []string{good, good, good}, "MSG0 MSG0 MSG0 FAILED"},
		{"another's certificate", bert, []string{"secret", good}, "FAILED"},
		{"certificate of strangers", strange, []string{"secret", good}, "FAILED"},
		{"no certificate", nil, []string{"secret", good}, "FAILED"},
		{"certificate alone", anna, nil, "FAILED"},
	}
	codeTogether := []row{
		{"right", anna, []string{good}, "MSG0 OK anna"},
		{"wrong code", anna, []string{wrong, "secret", ""}, "MSG0 MSG0 MSG0 FAILED"},
		{"another's certificate", bert, []string{good}, "FAILED"},
		{"certificate of strangers", strange, []string{good}, "FAILED"},
		{"no certificate", nil, []string{good}, "FAILED"},
		{"certificate alone", anna, nil, "FAILED"},
	}
	for _, pair := range []struct {
		auth []string
		rows []row
	}{
		{and(two, cert), twoTogether},
		{and(cert, two), twoTogether},
		{and(code, cert), codeTogether},
		{and(cert, code), codeTogether},
		{or(two, cert), twoAlone},
		{or(cert, two), twoAlone},
		{or(code, cert), codeAlone},
		{or(cert, code), codeAlone},
	} {
		for _, tt := range pair.rows {
			t.Run(strings.Join(pair.auth, ", ")+"/"+tt.name, func(t *testing.T) {
				st := certSite(t, ca)
				st.write("otp", hotpLine)
				for _, line := range pair.auth {
					st.add(strings.NewReplacer("USERS", st.path("users"), "OTP", st.path("otp")).Replace(line))
				}
				if got, log := stepsOf(t, st, tt.chain, tt.answers); got != tt.want {
					t.Errorf("%s, want %s\n%s", got, tt.want, log)
				}
			})
		}
	}
}

// stepsOf logs in as anna and returns what each step came to.
func stepsOf(t *testing.T, st *site, chain [][]byte, answers []string) (steps string, log fmt.Stringer) {
	r := boot(t, st)
	c, _ := r.handshaken(home)
	q := &ipc.AuthInit{User: "anna", ClientChain: chain}
	if answers == nil {
		q.User, q.Method = "", ipc.AuthMethod_AUTH_CERTIFICATE
	}
	var got []string
	rep := authInit(t, c, q)
	for ; rep.Status == ipc.AuthStatus_AUTH_MSG; answers = answers[1:] {
		got = append(got, fmt.Sprint("MSG", rep.PasswordCounter))
		if len(answers) == 0 {
			return strings.Join(got, " ") + " and no answer left", r.log
		}
		rep = authCont(t, c, rep.Sid, answers[0])
	}
	return strings.TrimSpace(strings.Join(append(got, status(rep), rep.User), " ")), r.log
}
