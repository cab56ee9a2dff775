package wire

import "strings"

// kerberosType is the type of what a client and a proxy of KDCs say to each other
// (MS-KKDCP, section 2.1).
const kerberosType = "application/kerberos"

// MaxKDCMessage is the longest message of that type from a client in bytes: it goes
// on in one record.
const MaxKDCMessage = 61 << 10

// KDCMessage returns what a client wants a KDC to be asked; the reply is why there is
// none.
func (r *Request) KDCMessage() ([]byte, *Response) {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	switch {
	case !strings.EqualFold(strings.TrimSpace(kind), kerberosType):
		return nil, &Response{Status: 415, Close: true}
	case len(r.Body) == 0:
		return nil, &Response{Status: 400, Close: true}
	case len(r.Body) > MaxKDCMessage:
		return nil, &Response{Status: 413, Close: true}
	}
	return r.Body, nil
}

// KDCAnswer is the reply with a KDC's answer; without one there is none to be had
// (ocserv worker-kkdcp.c).
func KDCAnswer(answer []byte) *Response {
	if len(answer) == 0 {
		return &Response{Status: 502, Reason: "No answer of a KDC", Close: true}
	}
	return &Response{Status: 200, Header: Header{{"Content-Type", kerberosType}}, Body: answer}
}
