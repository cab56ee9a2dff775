package radius

import (
	"crypto/hmac"
	"crypto/md5"

	"layeh.com/radius"
	"layeh.com/radius/rfc2869"
)

// Message-Authenticator (RFC 2869 section 5.14): HMAC-MD5 over the packet, with
// the request's authenticator in the header and itself as zeros. Without it an
// attacker on the way can make an Access-Accept of a reject (CVE-2024-3596), so
// requests begin with it and answers need it, as
// draft-ietf-radext-deprecating-radius says.

// reserve makes room for it at the beginning of a request.
func reserve(p *radius.Packet) { p.Add(rfc2869.MessageAuthenticator_Type, make([]byte, md5.Size)) }

// sign fills it in, once the request is complete.
func sign(p *radius.Packet) error {
	sum, err := authenticator(p, p.Authenticator)
	if err != nil {
		return err
	}
	p.Set(rfc2869.MessageAuthenticator_Type, sum)
	return nil
}

// signed reports whether an answer has a valid one, and only one.
func signed(answer, request *radius.Packet) bool {
	var all []radius.Attribute
	for _, a := range answer.Attributes {
		if a.Type == rfc2869.MessageAuthenticator_Type {
			all = append(all, a.Attribute)
		}
	}
	if len(all) != 1 {
		return false
	}
	sum, err := authenticator(answer, request.Authenticator)
	return err == nil && hmac.Equal(sum, all[0])
}

// authenticator computes it for a packet.
func authenticator(p *radius.Packet, request [16]byte) ([]byte, error) {
	blank := *p
	blank.Authenticator = request
	blank.Attributes = nil
	for _, a := range p.Attributes {
		if a.Type == rfc2869.MessageAuthenticator_Type {
			blank.Add(a.Type, make([]byte, md5.Size))
		} else {
			blank.Add(a.Type, a.Attribute)
		}
	}
	b, err := blank.MarshalBinary()
	if err != nil {
		return nil, err
	}
	mac := hmac.New(md5.New, p.Secret)
	mac.Write(b)
	return mac.Sum(nil), nil
}
