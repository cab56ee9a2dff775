package kkdcp

import (
	"encoding/binary"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// maxMessage is the longest Kerberos message in bytes, either way: with what is
// around it a record between two processes holds it.
const maxMessage = 60 << 10

// length is the size of what stands before a message on a stream (RFC 4120,
// section 7.2.2).
const length = 4

// The tags of KDC-PROXY-MESSAGE (MS-KKDCP, section 2.2.2).
var (
	tagMessage = asn1.Tag(0).ContextSpecific().Constructed()
	tagRealm   = asn1.Tag(1).ContextSpecific().Constructed()
	tagHint    = asn1.Tag(2).ContextSpecific().Constructed()
)

// The tags of Kerberos messages (RFC 4120, section 5.10).
var (
	asReq    = application(10)
	asRep    = application(11)
	tgsReq   = application(12)
	tgsRep   = application(13)
	krbError = application(30)
)

func application(n asn1.Tag) asn1.Tag { return n.Constructed() | 0x40 }

var (
	errProxyMessage = errors.New("not a KDC-PROXY-MESSAGE")
	errRequest      = errors.New("neither an AS-REQ nor a TGS-REQ")
	errAnswer       = errors.New("not an answer of a KDC")
)

// parseRequest reads a KDC-PROXY-MESSAGE: a KDC's request, and the realm whose KDC it
// is for, empty if it names none.
func parseRequest(b []byte) (request []byte, realm string, err error) {
	in := cryptobyte.String(b)
	var body, wrapped, text cryptobyte.String
	var hasRealm bool
	if !in.ReadASN1(&body, asn1.SEQUENCE) || !in.Empty() ||
		!body.ReadASN1(&wrapped, tagMessage) || !wrapped.ReadASN1(&text, asn1.OCTET_STRING) || !wrapped.Empty() {
		return nil, "", errProxyMessage
	}
	var named, name cryptobyte.String
	if !body.ReadOptionalASN1(&named, &hasRealm, tagRealm) || hasRealm && (!named.ReadASN1(&name, asn1.GeneralString) || !named.Empty()) ||
		!body.SkipOptionalASN1(tagHint) || !body.Empty() {
		return nil, "", errProxyMessage
	}
	if len(text) < length || len(text) > length+maxMessage || binary.BigEndian.Uint32(text) != uint32(len(text)-length) {
		return nil, "", errProxyMessage
	}
	if request = text[length:]; !is(request, asReq, tgsReq) {
		return nil, "", errRequest
	}
	return request, string(name), nil
}

// proxyMessage is a KDC-PROXY-MESSAGE with a KDC's answer.
func proxyMessage(answer []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(tagMessage, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.OCTET_STRING, func(b *cryptobyte.Builder) {
				b.AddUint32LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(answer) })
			})
		})
	})
	return b.Bytes()
}

// is reports whether b is one value of one of the tags, and nothing else.
func is(b []byte, tags ...asn1.Tag) bool {
	in := cryptobyte.String(b)
	var body cryptobyte.String
	var tag asn1.Tag
	if !in.ReadAnyASN1(&body, &tag) || !in.Empty() {
		return false
	}
	for _, t := range tags {
		if t == tag {
			return true
		}
	}
	return false
}

func isAnswer(b []byte) bool { return is(b, asRep, tgsRep, krbError) }

// tooLong is KRB_ERR_RESPONSE_TOO_BIG (RFC 4120, section 7.5.9).
const tooLong = 52

// saysTooLong reports whether an answer says that the right one is too long for UDP.
func saysTooLong(b []byte) bool {
	in := cryptobyte.String(b)
	var outer, body, field cryptobyte.String
	if !in.ReadASN1(&outer, krbError) || !outer.ReadASN1(&body, asn1.SEQUENCE) {
		return false
	}
	code := int64(0)
	for n := range asn1.Tag(6) { // pvno, msg-type, ctime, cusec, stime, susec
		if !body.SkipOptionalASN1(n.ContextSpecific().Constructed()) {
			return false
		}
	}
	return body.ReadASN1(&field, asn1.Tag(6).ContextSpecific().Constructed()) && field.ReadASN1Integer(&code) && code == tooLong
}
