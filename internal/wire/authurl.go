package wire

import (
	"bytes"
	"fmt"
)

// parseForm parses application/x-www-form-urlencoded into inputs. Secrets are
// decoded into slices of their own, never into strings.
func (m *AuthRequest) parseForm(body []byte) error {
	body = bytes.TrimRight(body, "\r\n")
	for pair := range bytes.SplitSeq(body, []byte("&")) {
		if len(pair) == 0 {
			continue
		}
		k, v, _ := bytes.Cut(pair, []byte("="))
		if len(k) > 3*maxInputName {
			return ErrAuthTooLarge
		}
		name, ok1 := unescape(k)
		value, ok2 := unescape(v)
		if !ok1 || !ok2 {
			clear(value)
			return fmt.Errorf("%w: percent-encoding", ErrAuthSyntax)
		}
		if err := m.input(string(name), value); err != nil {
			clear(value)
			return err
		}
	}
	m.Kind = AuthInit
	if len(m.Inputs) > 0 || m.GroupSelect != "" {
		m.Kind = AuthReply
	}
	return nil
}

// unescape decodes percent-encoding and "+" (HTML 4.01 section 17.13.4.1).
func unescape(s []byte) ([]byte, bool) {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '+':
			b = append(b, ' ')
		case '%':
			if i+2 >= len(s) {
				return b, false
			}
			hi, ok1 := unhex(s[i+1])
			lo, ok2 := unhex(s[i+2])
			if !ok1 || !ok2 {
				return b, false
			}
			b = append(b, hi<<4|lo)
			i += 2
		default:
			b = append(b, s[i])
		}
	}
	return b, true
}

func unhex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
