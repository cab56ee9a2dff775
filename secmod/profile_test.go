package secmod

import (
	"bytes"
	"crypto/sha1"
	"os"
	"strings"
	"testing"

	"rocserv/internal/ipc"
)

func profileOf(t *testing.T, c *ipc.Conn, sid []byte) string {
	t.Helper()
	b, err := c.CallSealed(ipc.ProfileT, &ipc.ProfileReq{Sid: bytes.Clone(sid)}, ipc.ProfileRepT)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Each user has the profile that the configuration says at the moment, and a
// profile that cannot be read keeps nobody out.
func TestProfiles(t *testing.T) {
	st := newSite(t, hashOf(t, "alice", "*", "pw"), hashOf(t, "bob", "*", "pw"), hashOf(t, "carol", "*", "pw"))
	st.add("user-profile = "+st.write("all.xml", "<all/>"), "config-per-user = "+st.path("users.d"))
	if err := os.Mkdir(st.path("users.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	st.write("users.d/bob", "user-profile = "+st.write("bob.xml", "<bob/>")+"\n")
	st.write("users.d/carol", "user-profile = "+st.path("nothing")+"\n")
	r := boot(t, st)
	for user, want := range map[string]string{"alice": "all.xml <all/>", "bob": "bob.xml <bob/>", "carol": " "} {
		c, _ := r.handshaken(home)
		rep := authInit(t, c, &ipc.AuthInit{User: user})
		rep = authCont(t, c, rep.Sid, "pw")
		if rep.Status != ipc.AuthStatus_AUTH_OK {
			t.Fatalf("%s: %v", user, rep)
		}
		got := profileOf(t, c, rep.Sid)
		sum := sha1.Sum([]byte(got))
		if rep.ProfileName+" "+got != want || got != "" && !bytes.Equal(rep.ProfileSha1, sum[:]) || got == "" && rep.ProfileSha1 != nil {
			t.Errorf("%s: %q %x, file %q", user, rep.ProfileName, rep.ProfileSha1, got)
		}
	}
	c, _ := r.handshaken(home)
	sid := r.login(c, "alice", "pw")
	st.write("all.xml", "<new/>")
	other, _ := r.handshaken(home)
	if got := profileOf(t, other, sid); got != "<new/>" {
		t.Errorf("changed: %q", got)
	}
	for _, tt := range []struct {
		what string
		sid  []byte
		want bool
	}{{"a cookie that is none", make([]byte, 32), false}, {"a user without a profile", r.login(other, "carol", "pw"), true}} {
		b, err := other.CallSealed(ipc.ProfileT, &ipc.ProfileReq{Sid: tt.sid}, ipc.ProfileRepT)
		if err != nil || (b != nil) != tt.want || len(b) > 0 {
			t.Errorf("%s: %q, %v", tt.what, b, err)
		}
	}
	st.add("user-profile = " + st.path("nothing"))
	if rep := r.configure(2, st.text()); !strings.Contains(rep.Error, "user-profile") {
		t.Errorf("a profile that is not there: %q", rep.Error)
	}
}
