package gssapi

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"rocserv/secmod/helper"
)

const realm = "EXAMPLE.TEST"

// keytabOf is a keytab with the key of HTTP/vpn.test, made of a password.
func keytabOf(t testing.TB, password string) *keytab.Keytab {
	t.Helper()
	k := keytab.New()
	if err := k.AddEntry("HTTP/vpn.test", realm, password, time.Unix(1_700_000_000, 0), 1, etypeID.AES256_CTS_HMAC_SHA1_96); err != nil {
		t.Fatal(err)
	}
	return k
}

// made makes the method of a keytab and options.
func made(t testing.TB, k *keytab.Keytab, options map[string]string) *method {
	t.Helper()
	b, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "keytab")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{"keytab": "FILE:" + name}
	for o, v := range options {
		all[o] = v
	}
	m, err := Make(all, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return m.Method.(*method)
}

// ticket is what a KDC and a client make.
type ticket struct {
	user, realm string
	key         string        // the service's, as the KDC knows it
	auth        time.Duration // ago: the log-in
	end         time.Duration // from now
	clock       time.Duration // that the client's is off
	says        string        // who the client says it is; empty: user
	mutual      bool          // the client wants an AP-REP
	subkey      bool          // and signs with a key of its own
}

// asked is what a client remembers of its request.
type asked struct {
	session types.EncryptionKey
	auth    types.Authenticator
}

// token makes the AP-REQ, without SPNEGO around it.
func (k ticket) token(t testing.TB) []byte {
	b, _ := k.ask(t)
	return b
}

func (k ticket) ask(t testing.TB) ([]byte, asked) {
	t.Helper()
	now := time.Now().UTC()
	who := types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, k.user)
	tkt, session, err := messages.NewTicket(who, k.realm, types.NewPrincipalName(nametype.KRB_NT_SRV_INST, "HTTP/vpn.test"), realm,
		types.NewKrbFlags(), keytabOf(t, k.key), etypeID.AES256_CTS_HMAC_SHA1_96, 1, now.Add(-k.auth), now.Add(-k.auth), now.Add(k.end), now.Add(k.end))
	if err != nil {
		t.Fatal(err)
	}
	if k.says != "" {
		who = types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, k.says)
	}
	a, err := types.NewAuthenticator(k.realm, who)
	if err != nil {
		t.Fatal(err)
	}
	a.CTime = a.CTime.Add(k.clock)
	if k.subkey {
		if err := a.GenerateSeqNumberAndSubKey(etypeID.AES256_CTS_HMAC_SHA1_96, 32); err != nil {
			t.Fatal(err)
		}
	}
	req, err := messages.NewAPReq(tkt, session, a)
	if err != nil {
		t.Fatal(err)
	}
	if k.mutual {
		types.SetFlag(&req.APOptions, flags.APOptionMutualRequired)
	}
	b, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	oid := []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2} // RFC 4121, section 4.1
	return wrapped(t, append(append(oid, 1, 0), b...)), asked{session, a}
}

// wrapped puts the tag of a first token around (RFC 2743, section 3.1).
func wrapped(t testing.TB, b []byte) []byte {
	t.Helper()
	b, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassApplication, Tag: 0, IsCompound: true, Bytes: b})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func good() ticket {
	return ticket{user: "anna", realm: realm, key: "service", auth: time.Minute, end: time.Hour}
}

func answer(m *method, token []byte) helper.Verdict {
	d, _ := m.Begin(context.Background(), helper.Applicant{})
	defer d.End()
	return d.Answer(context.Background(), token)
}

func TestTickets(t *testing.T) {
	with := func(change func(*ticket)) ticket { k := good(); change(&k); return k }
	anyone := map[string]string{"require-local-user-map": "false"}
	for _, tt := range []struct {
		name    string
		ticket  ticket
		options map[string]string
		want    string // the user, or why not
	}{
		{"good", good(), nil, "anna"},
		{"with the realm", good(), anyone, "anna@" + realm},
		{"another key", with(func(k *ticket) { k.key = "guess" }), nil, "the ticket is not good"},
		{"expired", with(func(k *ticket) { k.auth, k.end = time.Hour, -10*time.Minute }), nil, "the ticket is not good"},
		{"a clock that is off", with(func(k *ticket) { k.clock = 6 * time.Minute }), nil, "the ticket is not good"},
		{"a clock that is a little off", with(func(k *ticket) { k.clock = -4 * time.Minute }), nil, "anna"},
		{"says it is another", with(func(k *ticket) { k.says = "bert" }), nil, "the ticket is not good"},
		{"another realm", with(func(k *ticket) { k.realm = "OTHER.TEST" }), nil, "a user of another realm"},
		{"another realm, as such", with(func(k *ticket) { k.realm = "OTHER.TEST" }), anyone, "anna@OTHER.TEST"},
		{"of parts", with(func(k *ticket) { k.user = "anna/admin" }), nil, "a name of several parts"},
		{"of parts, as such", with(func(k *ticket) { k.user = "anna/admin" }), anyone, "anna/admin@" + realm},
		{"fresh", good(), map[string]string{"tgt-freshness-time": "90"}, "anna"},
		{"not fresh", with(func(k *ticket) { k.auth = 2 * time.Minute }), map[string]string{"tgt-freshness-time": "90"}, "too long ago"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := answer(made(t, keytabOf(t, "service"), tt.options), tt.ticket.token(t))
			if got := v.User + v.Why; !strings.HasPrefix(got, tt.want) && !strings.Contains(v.Why, tt.want) || (v.Outcome == helper.Admit) == v.Wrong || v.Outcome == helper.Admit && got != tt.want {
				t.Errorf("%+v, want %s", v, tt.want)
			}
		})
	}
}

// TestGoodOnce: a request that was seen lets nobody in, and memory has a bound.
func TestGoodOnce(t *testing.T) {
	m := made(t, keytabOf(t, "service"), nil)
	token := good().token(t)
	if v := answer(m, token); v.Outcome != helper.Admit {
		t.Fatalf("%+v", v)
	}
	if v := answer(m, token); v.Outcome != helper.Refused || !v.Wrong || v.Why != errUsed.Error() {
		t.Errorf("once more: %+v", v)
	}
	later := time.Now()
	for i := range maxUsed {
		m.used[sha256.Sum256(fmt.Append(nil, i))] = later.Add(2 * skew)
	}
	if v := answer(m, good().token(t)); v.Outcome != helper.Unavailable || v.Wrong {
		t.Errorf("with no room: %+v", v)
	}
	m.now = func() time.Time { return later.Add(2*skew + time.Second) }
	if err := m.remember([]byte("x")); err != nil || len(m.used) > 2 {
		t.Errorf("afterwards: %v, %d are remembered", err, len(m.used))
	}
}

func TestMake(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	b, err := keytabOf(t, "x").Marshal()
	if err != nil {
		t.Fatal(err)
	}
	right := write("right", b)
	for _, tt := range []struct {
		options map[string]string
		want    string // empty: good
	}{
		{map[string]string{"keytab": right}, ""},
		{map[string]string{"keytab": right, "require-local-user-map": "maybe"}, "true or false"},
		{map[string]string{"keytab": right, "tgt-freshness-time": "soon"}, "number of seconds"},
		{map[string]string{"keytab": right, "gid-min": "1000"}, ""},
		{map[string]string{"keytab": right, "gid-min": "many"}, "gid-min is a number"},
		{map[string]string{"keytab": dir + "/none"}, "no such file"},
		{map[string]string{"keytab": dir}, "not a regular file"},
		{map[string]string{"keytab": write("empty", nil)}, "keytab"},
		{map[string]string{"keytab": write("garbage", []byte("garbage, and more of it"))}, "keytab"},
		{map[string]string{"keytab": write("cut", b[:len(b)/2])}, "keytab"},
		{map[string]string{"keytab": write("without", []byte{5, 2, 0xff, 0xff, 0xff, 0xfc, 0, 0, 0, 0})}, "no key in it"},
	} {
		if _, err := Make(tt.options, nil); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.options, err, tt.want)
		}
	}
}

// FuzzToken: what strangers send is a ticket or none, and never the end.
func FuzzToken(f *testing.F) {
	m := made(f, keytabOf(f, "service"), nil)
	token := good().token(f)
	f.Add(token)
	f.Add(token[:len(token)/2])
	f.Add([]byte{})
	f.Add([]byte{0x60, 0x84, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte("NTLMSSP\x00"))
	f.Add(wrapped(f, []byte{6, 6, 0x2b, 6, 1, 5, 5, 2, 0xa0, 2, 0x30, 0})) // SPNEGO with nothing in it
	f.Fuzz(func(t *testing.T, b []byte) {
		if v := answer(m, b); v.Outcome == helper.Admit && v.User != "anna" {
			t.Errorf("%x lets in %+v", b, v)
		}
	})
}
