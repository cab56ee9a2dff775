package gssapi

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/gssapi"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/spnego"
	"github.com/jcmturner/gokrb5/v8/types"

	"rocserv/secmod/helper"
)

// ntlm is a mechanism that is not here.
var ntlm = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 2, 10}

// first is a client's first token of SPNEGO.
func first(t testing.TB, token []byte, mechs ...asn1.ObjectIdentifier) []byte {
	t.Helper()
	b, err := (&spnego.SPNEGOToken{Init: true, NegTokenInit: spnego.NegTokenInit{MechTypes: mechs, MechTokenBytes: token}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// next is a further one.
func next(t testing.TB, l leg) []byte {
	t.Helper()
	b, err := reply(spnego.NegStateAcceptIncomplete, nil, l)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// heard reads a token of the server's as the library's clients do.
func heard(t *testing.T, b []byte) *spnego.NegTokenResp {
	t.Helper()
	var s spnego.SPNEGOToken
	if err := s.Unmarshal(b); err != nil || !s.Resp {
		t.Fatalf("%x is no reply: %v", b, err)
	}
	return &s.NegTokenResp
}

// proves checks the server's AP-REP as a client does, and returns its number.
func (a asked) proves(t *testing.T, token []byte) uint64 {
	t.Helper()
	var krb spnego.KRB5Token
	if err := krb.Unmarshal(token); err != nil || !krb.IsAPRep() {
		t.Fatalf("%x is no AP-REP: %v", token, err)
	}
	plain, err := crypto.DecryptEncPart(krb.APRep.EncPart, a.session, keyusage.AP_REP_ENCPART)
	if err != nil {
		t.Fatal(err)
	}
	var part messages.EncAPRepPart
	if err := part.Unmarshal(plain); err != nil || !part.CTime.Equal(a.auth.CTime.Truncate(time.Second)) || part.Cusec != a.auth.Cusec || part.SequenceNumber == 0 {
		t.Fatalf("%+v, %v: not an answer to %v %d", part, err, a.auth.CTime, a.auth.Cusec)
	}
	return uint64(part.SequenceNumber)
}

// signature is the client's over its list.
func (a asked) signature(t *testing.T, mechs []asn1.ObjectIdentifier) []byte {
	t.Helper()
	mic, err := gssapi.NewInitiatorMICToken(a.list(t, mechs), a.key())
	if err != nil {
		t.Fatal(err)
	}
	b, err := mic.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (a asked) list(t *testing.T, mechs []asn1.ObjectIdentifier) []byte {
	t.Helper()
	b, err := asn1.Marshal(mechs)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (a asked) key() types.EncryptionKey {
	if a.auth.SubKey.KeyType != 0 {
		return a.auth.SubKey
	}
	return a.session
}

// dialogue begins a login and returns how it takes tokens.
func dialogue(m *method) func([]byte) helper.Verdict {
	d, _ := m.Begin(context.Background(), helper.Applicant{})
	return func(token []byte) helper.Verdict { return d.Answer(context.Background(), token) }
}

// TestMutual: a client that wants it gets a proof that the server has the key, with
// SPNEGO around it and without; who does not gets none.
func TestMutual(t *testing.T) {
	m := made(t, keytabOf(t, "service"), nil)
	for _, mutual := range []bool{false, true} {
		for _, mech := range []asn1.ObjectIdentifier{nil, kerberos[0], kerberos[1]} {
			k := good()
			k.mutual = mutual
			token, client := k.ask(t)
			if mech != nil {
				token = first(t, token, mech, ntlm)
			}
			v := dialogue(m)(token)
			if v.Outcome != helper.Admit || v.User != "anna" {
				t.Fatalf("%v, mutual %v: %+v", mech, mutual, v)
			}
			said := v.Leg
			if mech != nil {
				resp := heard(t, v.Leg)
				if resp.State() != spnego.NegStateAcceptCompleted || !resp.SupportedMech.Equal(mech) || len(resp.MechListMIC) > 0 {
					t.Errorf("%v: %+v", mech, resp)
				}
				said = resp.ResponseToken
			}
			if mutual {
				client.proves(t, said)
			} else if len(said) > 0 {
				t.Errorf("%v: %x to a client that wants nothing", mech, said)
			}
		}
	}
}

// TestLegs: a client that likes another mechanism better is asked for Kerberos, and
// both sign the list of mechanisms.
func TestLegs(t *testing.T) {
	mechs := []asn1.ObjectIdentifier{ntlm, kerberos[0]}
	for _, tt := range []struct {
		name   string
		change func(*ticket)
		signs  []asn1.ObjectIdentifier
		early  bool   // with the ticket already
		want   string // empty: in; else why not
	}{
		{name: "mutual", change: func(k *ticket) { k.mutual = true }, signs: mechs},
		{name: "mutual, with a key of its own", change: func(k *ticket) { k.mutual, k.subkey = true, true }, signs: mechs},
		{name: "not mutual", change: func(*ticket) {}, signs: mechs},
		{name: "not mutual, signed with the ticket", change: func(k *ticket) { k.subkey = true }, signs: mechs, early: true},
		{name: "another list", change: func(k *ticket) { k.mutual = true }, signs: mechs[1:], want: errList.Error()},
		{name: "another list, early", change: func(*ticket) {}, signs: mechs[1:], early: true, want: errList.Error()},
		{name: "unsigned", change: func(k *ticket) { k.mutual = true }, want: errList.Error()},
		{name: "a ticket that is not good", change: func(k *ticket) { k.key = "guess" }, want: errTicket.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := good()
			tt.change(&k)
			token, client := k.ask(t)
			say := dialogue(made(t, keytabOf(t, "service"), nil))
			v := say(first(t, []byte("NTLMSSP\x00"), mechs...))
			if v.Outcome != helper.Ask {
				t.Fatalf("%+v", v)
			}
			if resp := heard(t, v.Leg); resp.State() != spnego.NegStateRequestMIC || !resp.SupportedMech.Equal(kerberos[0]) {
				t.Errorf("asked for: %+v", resp)
			}
			l := leg{inner: token}
			if tt.early {
				l.mic = client.signature(t, tt.signs)
			}
			v = say(next(t, l))
			if v.Outcome == helper.Refused {
				if tt.want == "" || !strings.Contains(v.Why, tt.want) || !v.Wrong {
					t.Errorf("%+v, want %q", v, tt.want)
				}
				return
			}
			resp := heard(t, v.Leg)
			ours := gssapi.MICToken{Payload: client.list(t, mechs)}
			if err := ours.Unmarshal(resp.MechListMIC, true); err != nil {
				t.Fatalf("the server's signature: %v", err)
			}
			if ok, err := ours.Verify(client.key(), keyusage.GSSAPI_ACCEPTOR_SIGN); !ok {
				t.Errorf("the server's signature: %v", err)
			}
			if k.mutual {
				if n := client.proves(t, resp.ResponseToken); n != ours.SndSeqNum {
					t.Errorf("signed as number %d, after %d", ours.SndSeqNum, n)
				}
			}
			if !tt.early {
				var mic []byte
				if tt.signs != nil {
					mic = client.signature(t, tt.signs)
				}
				if v.Outcome != helper.Ask || resp.State() != spnego.NegStateAcceptIncomplete {
					t.Fatalf("before the client's signature: %+v", v)
				}
				v = say(next(t, leg{mic: mic}))
			}
			if in := v.Outcome == helper.Admit; in != (tt.want == "") || in && (v.User != "anna" || heard(t, v.Leg).State() != spnego.NegStateAcceptCompleted) || !in && v.Why != tt.want {
				t.Errorf("%+v, want %q", v, tt.want)
			}
		})
	}
}

// TestOffers: first tokens that bring no ticket.
func TestOffers(t *testing.T) {
	m := made(t, keytabOf(t, "service"), nil)
	for _, tt := range []struct {
		name  string
		token []byte
		want  string // what is asked for, or why not
	}{
		{"Kerberos, with nothing", first(t, nil, kerberos[0]), "incomplete"},
		{"no Kerberos", first(t, []byte("NTLMSSP\x00"), ntlm), errMech.Error()},
		{"no mechanism", first(t, good().token(t)), errToken.Error()},
		{"not the first token", next(t, leg{inner: good().token(t)}), errToken.Error()},
		{"NTLM", []byte("NTLMSSP\x00"), errToken.Error()},
		{"nothing", nil, errToken.Error()},
	} {
		v := dialogue(m)(tt.token)
		got := v.Why
		if v.Outcome == helper.Ask && heard(t, v.Leg).State() == spnego.NegStateAcceptIncomplete {
			got = "incomplete"
		}
		if got != tt.want || v.Wrong == (v.Outcome == helper.Ask) {
			t.Errorf("%s: %+v, want %s", tt.name, v, tt.want)
		}
	}
	say := dialogue(m)
	say(first(t, nil, kerberos[0]))
	if v := say(next(t, leg{inner: good().token(t)})); v.Outcome != helper.Admit {
		t.Errorf("the ticket in the second leg: %+v", v)
	}
	for _, garbage := range [][]byte{nil, []byte("x"), next(t, leg{}), slices.Concat(next(t, leg{}), []byte{0}), bytes.Repeat([]byte{0xa1}, 100)} {
		say := dialogue(m)
		say(first(t, nil, kerberos[0]))
		if v := say(garbage); v.Outcome != helper.Refused || !v.Wrong {
			t.Errorf("%x in the second leg: %+v", garbage, v)
		}
	}
}
