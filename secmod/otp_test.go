package secmod

import (
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"rocserv/internal/ipc"
)

// Codes of the secret of RFC 4226, appendix D, from counter 0 on.
var hotpCodes = []string{"755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583"}

const hotpLine = "HOTP\tanna\t-\t3132333435363738393031323334353637383930\n"

// otpSite is a site whose users have passwords, codes or both.
func otpSite(t testing.TB, options string) *site {
	st := newSite(t, hashOf(t, "anna", "staff", "secret"), hashOf(t, "bert", "*", "secret"), "empty:*:")
	st.write("otp", "# tokens\n"+hotpLine+strings.Replace(hotpLine, "anna", "empty", 1))
	st.conf[0] = `auth = "plain[` + strings.NewReplacer("USERS", st.path("users"), "OTP", st.path("otp")).Replace(options) + `]"`
	return st
}

// TestOneTimePasswords: what each kind of user is asked, and what lets him in.
func TestOneTimePasswords(t *testing.T) {
	const (
		both = "passwd=USERS,otp=OTP"
		only = "otp=OTP"
	)
	for _, tt := range []struct {
		name, options, user, group string
		answers                    []string
		want                       string // with the number of the password that is asked for
		points                     uint32
	}{
		{"right", both, "anna", "", []string{"secret", hotpCodes[0]}, "MSG0 MSG1 OK", 0},
		{"its group", both, "anna", "staff", []string{"secret", hotpCodes[0]}, "MSG0 MSG1 OK", 0},
		{"wrong code", both, "anna", "", []string{"secret", "000000", hotpCodes[1]}, "MSG0 MSG1 MSG1 OK", 10},
		{"wrong password", both, "anna", "", []string{"guess", "secret", hotpCodes[0]}, "MSG0 MSG0 MSG1 OK", 10},
		{"three together", both, "anna", "", []string{"guess", "secret", "1", "2"}, "MSG0 MSG0 MSG1 MSG1 FAILED", 30},
		{"the code without the password", both, "anna", "", []string{hotpCodes[0], hotpCodes[1], hotpCodes[2]}, "MSG0 MSG0 MSG0 FAILED", 30},
		{"no token", both, "bert", "", []string{"secret", hotpCodes[0], "", "secret"}, "MSG0 MSG1 MSG1 MSG1 FAILED", 30},
		{"unknown", both, "nobody", "", []string{"secret", hotpCodes[0], ""}, "MSG0 MSG0 MSG0 FAILED", 30},
		{"no password, a code", both, "empty", "", []string{hotpCodes[0]}, "MSG0 OK", 0},
		{"no password, no code", both, "empty", "", []string{"", "", ""}, "MSG0 MSG0 MSG0 FAILED", 30},
		{"code only", only, "anna", "", []string{hotpCodes[0]}, "MSG0 OK", 0},
		{"code only, wrong", only, "anna", "", []string{"secret", "", "000000"}, "MSG0 MSG0 MSG0 FAILED", 30},
		{"code only, unknown", only, "nobody", "", []string{hotpCodes[0], hotpCodes[0], hotpCodes[0]}, "MSG0 MSG0 MSG0 FAILED", 30},
		{"code only, with a group", only, "anna", "staff", []string{hotpCodes[0], hotpCodes[1], hotpCodes[2]}, "MSG0 MSG0 MSG0 FAILED", 30},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := boot(t, otpSite(t, tt.options))
			c, _ := r.handshaken(home)
			rep := authInit(t, c, &ipc.AuthInit{User: tt.user, Group: tt.group})
			var got []string
			say := func() {
				s := status(rep)
				if s == "MSG" {
					s += string('0' + rune(rep.PasswordCounter))
				}
				got = append(got, s)
			}
			say()
			for _, a := range tt.answers {
				if rep.Status != ipc.AuthStatus_AUTH_MSG {
					break
				}
				if asked := strings.HasSuffix(rep.Message, askOTP); (rep.PasswordCounter > 0) != asked && rep.PasswordCounter > 0 {
					t.Errorf("question %q", rep.Message)
				}
				rep = authCont(t, c, rep.Sid, a)
				say()
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("%s, want %s\n%s", s, tt.want, r.log)
			}
			if n := r.bans()[home]; n != tt.points {
				t.Errorf("%d points, want %d", n, tt.points)
			}
		})
	}
}

// TestCodeIsGoodOnce: however many try it at the same time, and after a start.
func TestCodeIsGoodOnce(t *testing.T) {
	st := otpSite(t, "otp=OTP")
	r := boot(t, st)
	var in atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		c, _ := r.handshaken(home)
		rep := authInit(t, c, &ipc.AuthInit{User: "anna"})
		all.Go(func() {
			var got ipc.AuthReply
			if c.Call(ipc.AuthContT, &ipc.AuthCont{Sid: rep.Sid, Password: []byte(hotpCodes[0])}, ipc.AuthReplyT, &got) == nil && got.Status == ipc.AuthStatus_AUTH_OK {
				in.Add(1)
			}
		})
	}
	all.Wait()
	if n := in.Load(); n != 1 {
		t.Errorf("one code let %d in", n)
	}
	again := boot(t, st)
	c, _ := again.handshaken(home)
	rep := authInit(t, c, &ipc.AuthInit{User: "anna"})
	if rep = authCont(t, c, rep.Sid, hotpCodes[0]); status(rep) != "MSG" {
		t.Errorf("after a start the code is %s", status(rep))
	}
	if rep = authCont(t, c, rep.Sid, hotpCodes[1]); status(rep) != "OK" {
		t.Errorf("the next one is %s", status(rep))
	}
	b, err := os.ReadFile(st.path("otp"))
	if err != nil || !strings.HasPrefix(string(b), "# tokens\nHOTP\tanna\t-\t3132333435363738393031323334353637383930\t2\t287082\t") {
		t.Errorf("the file is %q, %v", b, err)
	}
}

// TestCodeThatCannotBeRemembered lets nobody in, and the file is as it was.
func TestCodeThatCannotBeRemembered(t *testing.T) {
	st := otpSite(t, "otp=OTP")
	r := boot(t, st)
	if err := os.Mkdir(st.path("otp.new"), 0o700); err != nil { // in the way of the new file
		t.Fatal(err)
	}
	before, err := os.ReadFile(st.path("otp"))
	if err != nil {
		t.Fatal(err)
	}
	c, _ := r.handshaken(home)
	rep := authInit(t, c, &ipc.AuthInit{User: "anna"})
	if rep = authCont(t, c, rep.Sid, hotpCodes[0]); status(rep) != "FAILED" {
		t.Errorf("%v", rep)
	}
	if after, err := os.ReadFile(st.path("otp")); err != nil || string(after) != string(before) {
		t.Errorf("the file is %q, %v", after, err)
	}
	if log := r.log.String(); strings.Contains(log, hotpCodes[0]) || !strings.Contains(log, "otp.new") {
		t.Errorf("the log says %s", log)
	}
	os.Remove(st.path("otp.new"))
	c2, _ := r.handshaken(home)
	rep = authInit(t, c2, &ipc.AuthInit{User: "anna"})
	if rep = authCont(t, c2, rep.Sid, hotpCodes[0]); status(rep) != "OK" {
		t.Errorf("once it can be: %v", rep)
	}
}
