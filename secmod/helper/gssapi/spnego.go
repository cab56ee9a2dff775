package gssapi

import (
	"bytes"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/gssapi"
	"github.com/jcmturner/gokrb5/v8/spnego"
	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// offer is what a client says first: its mechanisms, the best first, and a token of
// that one.
type offer struct {
	bare  bool // without SPNEGO around it: Kerberos alone, as some clients send it
	mechs []asn1.ObjectIdentifier
	inner []byte
}

// kerberos are the names of the mechanism; the second is one that Windows once had.
var kerberos = []asn1.ObjectIdentifier{gssapi.OIDKRB5.OID(), gssapi.OIDMSLegacyKRB5.OID()}

func isKerberos(mech asn1.ObjectIdentifier) bool {
	return mech.Equal(kerberos[0]) || mech.Equal(kerberos[1])
}

// parseOffer reads the first token of a client.
func parseOffer(token []byte) (o offer, err error) {
	var outer spnego.SPNEGOToken
	switch err := outer.Unmarshal(token); {
	case err != nil:
		return offer{bare: true, inner: token}, nil
	case !outer.Init || len(outer.NegTokenInit.MechTypes) == 0:
		return o, errToken
	}
	return offer{mechs: outer.NegTokenInit.MechTypes, inner: outer.NegTokenInit.MechTokenBytes}, nil
}

// choice is the client's name of Kerberos; first: it is what the client likes best.
func (o *offer) choice() (mech asn1.ObjectIdentifier, first bool) {
	for i, m := range o.mechs {
		if isKerberos(m) {
			return m, i == 0
		}
	}
	return nil, false
}

// list is what each side proves to the other that it was not changed on the way (RFC
// 4178, section 5).
func (o *offer) list() ([]byte, error) { return asn1.Marshal(o.mechs) }

// leg is a token of SPNEGO after the client's first.
type leg struct {
	inner []byte // of the mechanism
	mic   []byte // over the list of mechanisms
}

// parseLeg reads a NegTokenResp (RFC 4178, section 4.2.2). All of its fields may be
// missing, which the library does not know.
func parseLeg(b []byte) (l leg, err error) {
	in := cryptobyte.String(b)
	var choice, body cryptobyte.String
	field := func(n casn1.Tag) casn1.Tag { return n.ContextSpecific().Constructed() }
	octets := func(to *[]byte, n casn1.Tag) bool {
		var wrapped, text cryptobyte.String
		var there bool
		if !body.ReadOptionalASN1(&wrapped, &there, field(n)) || there && (!wrapped.ReadASN1(&text, casn1.OCTET_STRING) || !wrapped.Empty()) {
			return false
		}
		*to = text
		return true
	}
	if !in.ReadASN1(&choice, field(1)) || !in.Empty() || !choice.ReadASN1(&body, casn1.SEQUENCE) || !choice.Empty() ||
		!body.SkipOptionalASN1(field(0)) || !body.SkipOptionalASN1(field(1)) || !octets(&l.inner, 2) || !octets(&l.mic, 3) || !body.Empty() {
		return leg{}, errToken
	}
	return l, nil
}

// reply makes the server's part of SPNEGO. mech is named in the first only.
func reply(state spnego.NegState, mech asn1.ObjectIdentifier, l leg) ([]byte, error) {
	resp := spnego.NegTokenResp{NegState: asn1.Enumerated(state), SupportedMech: mech, ResponseToken: l.inner, MechListMIC: l.mic}
	return resp.Marshal()
}

// The names of token types (RFC 4121, section 4.1).
var replyID = []byte{2, 0}

// mechToken is a token of the mechanism with that name, and what is in it.
func mechToken(id, content []byte) ([]byte, error) {
	oid, err := asn1.Marshal(kerberos[0])
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(asn1.RawValue{Class: asn1.ClassApplication, Tag: 0, IsCompound: true, Bytes: bytes.Join([][]byte{oid, id, content}, nil)})
}
