package wire

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
)

// parseXML parses a config-auth document. Elements are known by their local
// name, in any order; what is not known is skipped.
func (m *AuthRequest) parseXML(body []byte) error {
	p := authParser{d: xml.NewDecoder(&spaced{spaces: len(body), body: bytes.NewReader(body)}), body: body, m: m}
	root, err := p.root()
	if err != nil {
		return err
	}
	kind := attr(root, "type")
	for {
		t, err := p.token()
		if err != nil {
			return err
		}
		switch t := t.(type) {
		case xml.StartElement:
			if err := p.child(t); err != nil {
				return err
			}
		case xml.EndElement:
			m.Kind = m.kindOf(kind)
			return p.trailer()
		}
	}
}

func (m *AuthRequest) kindOf(kind string) AuthKind {
	switch kind {
	case "init":
		return AuthInit
	case "auth-reply":
		return AuthReply
	case "logout":
		return AuthLogout
	case "":
		if len(m.Inputs) > 0 {
			return AuthReply
		}
		return AuthInit
	}
	return AuthOther
}

// spaced is a document behind as many spaces as it is long. The decoder has one
// buffer for the text it reads, and leaves a copy of what was in it behind each
// time it grows: so it grows to its full length with nothing in it. What is in it
// later, text clears.
type spaced struct {
	spaces int
	body   *bytes.Reader
}

// ReadByte is how the decoder reads: it needs no buffer of its own then.
func (s *spaced) ReadByte() (byte, error) {
	if s.spaces > 0 {
		s.spaces--
		return ' ', nil
	}
	return s.body.ReadByte()
}

func (s *spaced) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	c, err := s.ReadByte()
	if err != nil {
		return 0, err
	}
	b[0] = c
	return 1, nil
}

// authParser walks through one document and counts what it meets.
type authParser struct {
	d        *xml.Decoder
	body     []byte
	m        *AuthRequest
	depth    int
	elements int
}

// token returns the next token. The decoder's own errors are not passed on:
// they quote the document. It knows the five entities of XML and no others.
func (p *authParser) token() (xml.Token, error) {
	t, err := p.d.Token()
	if err == io.EOF {
		return nil, err
	}
	if err != nil {
		line, column := p.d.InputPos()
		if line == 1 {
			column -= len(p.body) // see spaced
		}
		return nil, fmt.Errorf("%w: line %d, column %d", ErrAuthSyntax, line, column)
	}
	switch t := t.(type) {
	case xml.StartElement:
		p.depth++
		p.elements++
		if p.depth > maxAuthDepth || p.elements > maxAuthElements || len(t.Attr) > maxAuthAttrs {
			return nil, ErrAuthTooLarge
		}
	case xml.EndElement:
		p.depth--
	case xml.Directive: // <!DOCTYPE>, <!ENTITY>
		return nil, fmt.Errorf("%w: document type declaration", ErrAuthSyntax)
	}
	return t, nil
}

func (p *authParser) root() (xml.StartElement, error) {
	for {
		t, err := p.token()
		if err == io.EOF {
			return xml.StartElement{}, ErrAuthRoot
		}
		if err != nil {
			return xml.StartElement{}, err
		}
		if s, ok := t.(xml.StartElement); ok {
			if s.Name.Local != "config-auth" {
				return s, ErrAuthRoot
			}
			return s, nil
		}
	}
}

// trailer wants nothing but blanks and comments after the root.
func (p *authParser) trailer() error {
	for {
		t, err := p.token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch t := t.(type) {
		case xml.StartElement:
			return fmt.Errorf("%w: two documents", ErrAuthSyntax)
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return fmt.Errorf("%w: text after the document", ErrAuthSyntax)
			}
		}
	}
}

// child reads one element below the root, to its end.
func (p *authParser) child(s xml.StartElement) error {
	m := p.m
	switch s.Name.Local {
	case "device-id":
		m.Device.describe(s)
		return p.fact(&m.Device.ID)
	case "version":
		return p.fact(&m.Version)
	case "group-access":
		return p.fact(&m.GroupAccess)
	case "session-id":
		return p.fact(&m.SessionID)
	case "mac-address-list":
		return p.list("mac-address", &m.Device.MACs)
	case "capabilities":
		return p.list("auth-method", &m.Capabilities)
	case "client-cert-fail":
		m.ClientCertFail = true
	case "group-select":
		text, _, err := p.text(maxInput)
		if err != nil {
			return err
		}
		return once(&m.GroupSelect, string(bytes.TrimSpace(text)))
	case "session-token":
		text, _, err := p.text(maxInput)
		if err != nil {
			return err
		}
		if m.SessionToken != nil {
			clear(text)
			return ErrAuthDuplicate
		}
		m.SessionToken = bytes.TrimSpace(text)
		return nil
	case "opaque":
		return p.opaque()
	case "auth":
		return p.auth()
	}
	_, _, err := p.text(-1)
	return err
}

// describe takes the attributes of device-id.
func (d *Device) describe(s xml.StartElement) {
	d.ComputerName = fact(attr(s, "computer-name"))
	d.Type = fact(attr(s, "device-type"))
	d.PlatformVersion = fact(attr(s, "platform-version"))
	d.UniqueID = fact(attr(s, "unique-id"))
}

func attr(s xml.StartElement, name string) string {
	i := slices.IndexFunc(s.Attr, func(a xml.Attr) bool { return a.Name.Local == name })
	if i < 0 {
		return ""
	}
	return s.Attr[i].Value
}

// text reads the rest of an element that has started: its own text, up to limit
// bytes (negative: none is kept), and whether it is a leaf. Elements inside are
// skipped.
func (p *authParser) text(limit int) (text []byte, leaf bool, err error) {
	text, leaf = []byte{}, true
	for outer := p.depth - 1; p.depth > outer; {
		t, err := p.token()
		if err != nil {
			clear(text)
			return nil, false, err
		}
		switch t := t.(type) {
		case xml.StartElement:
			leaf = false
		case xml.CharData:
			if limit < 0 || p.depth != outer+1 {
				break
			}
			if len(text)+len(t) > limit {
				clear(text)
				return nil, false, ErrAuthTooLarge
			}
			text = appendSecret(text, t)
			clear(t) // the decoder's own copy
		}
	}
	return text, leaf, nil
}

// appendSecret appends without leaving a copy behind.
func appendSecret(dst, src []byte) []byte {
	b := make([]byte, 0, len(dst)+len(src))
	b = append(append(b, dst...), src...)
	clear(dst)
	return b
}

func (p *authParser) fact(dst *string) error {
	text, _, err := p.text(maxInput)
	*dst = fact(string(text))
	return err
}

// list reads the texts of the elements of that name inside the current one.
func (p *authParser) list(name string, dst *[]string) error {
	return p.children(func(s xml.StartElement) error {
		text, _, err := p.text(maxInput)
		if err == nil && s.Name.Local == name && len(*dst) < maxList {
			*dst = append(*dst, fact(string(text)))
		}
		return err
	})
}

// auth reads the answers. Elements with others inside are no answers
// (client-cert-chain).
func (p *authParser) auth() error {
	return p.children(func(s xml.StartElement) error {
		text, leaf, err := p.text(MaxAuth)
		if err != nil || !leaf {
			return err
		}
		if err := p.m.input(s.Name.Local, text); err != nil {
			clear(text)
			return err
		}
		return nil
	})
}

// children calls f for each element right below the current one; f reads it to
// its end.
func (p *authParser) children(f func(xml.StartElement) error) error {
	for outer := p.depth - 1; p.depth > outer; {
		t, err := p.token()
		if err != nil {
			return err
		}
		if s, ok := t.(xml.StartElement); ok {
			if err := f(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// opaque keeps the bytes between the tags.
func (p *authParser) opaque() error {
	from := p.offset()
	to := from
	for outer := p.depth - 1; p.depth > outer; {
		to = p.offset()
		if _, err := p.token(); err != nil {
			return err
		}
	}
	if to-from > maxOpaque {
		return ErrAuthTooLarge
	}
	if p.m.Opaque != nil {
		return ErrAuthDuplicate
	}
	p.m.Opaque = slices.Clone(p.body[from:to])
	return nil
}

// offset is where in the body the decoder is.
func (p *authParser) offset() int64 { return p.d.InputOffset() - int64(len(p.body)) }
