package gssapi

import (
	"crypto/rand"
	"encoding/binary"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/gssapi"
	"github.com/jcmturner/gokrb5/v8/iana"
	"github.com/jcmturner/gokrb5/v8/iana/asnAppTag"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/msgtype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// accepted is the context with a client whose ticket is good.
type accepted struct {
	user  string
	reply []byte              // the token with the AP-REP; empty: the client wants none
	key   types.EncryptionKey // what both sign with
	seq   uint64              // of what is signed here first
}

// accept makes the context of a request that was verified.
func accept(req *messages.APReq) (*accepted, error) {
	session, auth := req.Ticket.DecryptedEncPart.Key, &req.Authenticator
	a := &accepted{key: session, seq: uint64(auth.SeqNumber)}
	if auth.SubKey.KeyType != 0 { // RFC 4121, section 2: there is none of ours
		a.key = auth.SubKey
	}
	if !types.IsFlagSet(&req.APOptions, flags.APOptionMutualRequired) {
		return a, nil
	}
	var n [4]byte
	rand.Read(n[:])
	a.seq = uint64(binary.BigEndian.Uint32(n[:])>>2 | 1) // 30 bits, and never 0, which would be left out
	part := messages.EncAPRepPart{CTime: auth.CTime, Cusec: auth.Cusec, SequenceNumber: int64(a.seq)}
	plain, err := asn1.Marshal(part)
	if err != nil {
		return nil, err
	}
	sealed, err := crypto.GetEncryptedData(asn1tools.AddASNAppTag(plain, asnAppTag.EncAPRepPart), session, keyusage.AP_REP_ENCPART, 0)
	if err != nil {
		return nil, err
	}
	rep, err := asn1.Marshal(messages.APRep{PVNO: iana.PVNO, MsgType: msgtype.KRB_AP_REP, EncPart: sealed})
	if err != nil {
		return nil, err
	}
	a.reply, err = mechToken(replyID, asn1tools.AddASNAppTag(rep, asnAppTag.APREP))
	return a, err
}

// sign is our MIC over the client's list of mechanisms.
func (a *accepted) sign(list []byte) ([]byte, error) {
	mic := gssapi.MICToken{Flags: gssapi.MICTokenFlagSentByAcceptor, SndSeqNum: a.seq, Payload: list}
	if err := mic.SetChecksum(a.key, keyusage.GSSAPI_ACCEPTOR_SIGN); err != nil {
		return nil, err
	}
	return mic.Marshal()
}

// signed says whether a MIC over the list is the client's.
func (a *accepted) signed(mic, list []byte) bool {
	var m gssapi.MICToken
	if m.Unmarshal(mic, false) != nil {
		return false
	}
	m.Payload = list
	ok, err := m.Verify(a.key, keyusage.GSSAPI_INITIATOR_SIGN)
	return ok && err == nil
}
