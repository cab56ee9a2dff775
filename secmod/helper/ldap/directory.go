package ldap

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	goldap "github.com/go-ldap/ldap/v3"
)

// person is who logged in.
type person struct {
	user   string
	groups []string
}

// refusal is a server's word that it is not the user: why, for the log.
type refusal string

func (r refusal) Error() string { return string(r) }

const (
	maxName   = 63   // bytes of a user's or group's name
	maxGroups = 1000 // that are looked at; the directory's own limit may be lower
)

// check logs a user in on a connection.
func (c *config) check(conn *goldap.Conn, user, password string) (person, error) {
	entry, err := c.bind(conn, user, password)
	if err != nil {
		return person{}, err
	}
	who := person{}
	if who.user, err = c.nameOf(entry, user); err != nil {
		return person{}, err
	}
	if c.memberOf != "" {
		for _, dn := range entry.GetEqualFoldAttributeValues(c.memberOf) {
			who.groups = append(who.groups, firstValue(dn))
		}
	}
	if c.groups.filter != "" {
		found, err := c.searchGroups(conn, user, entry.DN)
		if err != nil {
			return person{}, err
		}
		who.groups = append(who.groups, found...)
	}
	who.groups = slices.DeleteFunc(who.groups, func(g string) bool { return !possible(g) })
	slices.Sort(who.groups)
	who.groups = slices.Compact(who.groups)
	return who, nil
}

// bind proves the password and returns the user's entry.
func (c *config) bind(conn *goldap.Conn, user, password string) (*goldap.Entry, error) {
	if c.template != "" {
		dn := c.template.expand(map[byte]string{'u': goldap.EscapeDN(user)})
		if err := c.prove(conn, dn, password); err != nil {
			return nil, err
		}
		return c.entry(conn, dn, goldap.ScopeBaseObject, "(objectClass=*)")
	}
	if err := c.serve(conn); err != nil {
		return nil, err
	}
	entry, err := c.entry(conn, c.search.base, goldap.ScopeWholeSubtree, c.search.filter.expand(map[byte]string{'u': goldap.EscapeFilter(user)}))
	if r := refusal(""); errors.As(err, &r) {
		c.prove(conn, "cn="+rand.Text()+","+c.search.base, password) // takes as long as with a user
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	return entry, c.prove(conn, entry.DN, password)
}

// serve binds as who may search; without bind-dn nobody in particular does.
func (c *config) serve(conn *goldap.Conn) error {
	if c.bindDN == "" {
		return nil
	}
	if err := conn.Bind(c.bindDN, c.bindPassword.Reveal()); err != nil {
		return fmt.Errorf("as bind-dn: %w", err) // nothing about the user
	}
	return nil
}

// prove binds as the user.
func (c *config) prove(conn *goldap.Conn, dn, password string) error {
	if dn == "" || password == "" { // would be let in as anonymous (RFC 4513, section 5.1)
		return refusal("empty name or password")
	}
	res, err := conn.SimpleBind(goldap.NewSimpleBindRequest(dn, password, []goldap.Control{goldap.NewControlBeheraPasswordPolicy()}))
	policy := ""
	if res != nil {
		policy = policyError(res.Controls)
	}
	switch {
	case err == nil && policy == "":
		return nil
	case err == nil: // the password is right, and good for nothing but changing it
		return refusal(policy)
	case policy != "":
		return refusal(policy)
	}
	return wrongness(err)
}

// policyError is what is wrong by the password policy (draft-behera-ldap-password-policy-10,
// section 6.2), or nothing.
func policyError(controls []goldap.Control) string {
	p, ok := goldap.FindControl(controls, goldap.ControlTypeBeheraPasswordPolicy).(*goldap.ControlBeheraPasswordPolicy)
	if !ok {
		return ""
	}
	switch p.Error {
	case 0:
		return "password expired"
	case 1:
		return "account locked"
	case 2:
		return "password must be changed first"
	}
	return ""
}

// reason is what the result of a bind says of who binds, in words; ok: it does.
// All other results say something of the server.
func reason(code uint16) (why string, ok bool) {
	switch code {
	case goldap.LDAPResultInvalidCredentials, goldap.LDAPResultNoSuchObject:
		return wrongName, true
	case goldap.LDAPResultInappropriateAuthentication:
		return "no password in the directory", true
	case goldap.LDAPResultInvalidDNSyntax:
		return "a name that makes no DN", true
	case goldap.LDAPResultUnwillingToPerform, goldap.LDAPResultConstraintViolation:
		return "the directory refuses: locked, perhaps", true
	}
	return "", false
}

const wrongName = "wrong user name or password"

// adReason is the meaning of the code in Active Directory's text of a failed
// bind, or nothing.
func adReason(text string) string {
	_, code, _ := strings.Cut(text, "AcceptSecurityContext error, data ")
	code, _, _ = strings.Cut(code, ",")
	switch code {
	case "530":
		return "not permitted at this time"
	case "531":
		return "not permitted from here"
	case "532":
		return "password expired"
	case "533":
		return "account disabled"
	case "701":
		return "account expired"
	case "773":
		return "password must be changed first"
	case "775":
		return "account locked"
	}
	return ""
}

// wrongness makes a refusal of a bind's error, if it is one.
func wrongness(err error) error {
	var e *goldap.Error
	if !errors.As(err, &e) {
		return err
	}
	why, ok := reason(e.ResultCode)
	if !ok {
		return err
	}
	return refusal(cmp.Or(adReason(e.Error()), why))
}

// entry finds the one entry that a filter is for.
func (c *config) entry(conn *goldap.Conn, base string, scope int, filter string) (*goldap.Entry, error) {
	attributes := []string{c.user}
	if c.memberOf != "" {
		attributes = append(attributes, c.memberOf)
	}
	const enough = 2 // to know that there are several
	res, err := conn.Search(goldap.NewSearchRequest(base, scope, goldap.NeverDerefAliases, enough, c.seconds(), false, filter, attributes, nil))
	switch {
	case goldap.IsErrorWithCode(err, goldap.LDAPResultSizeLimitExceeded):
		return nil, refusal("more than one entry in the directory")
	case err != nil:
		return nil, fmt.Errorf("search: %w", err)
	case len(res.Entries) == 0:
		return nil, refusal(wrongName)
	case len(res.Entries) > 1:
		return nil, refusal("more than one entry in the directory")
	case res.Entries[0].DN == "":
		return nil, refusal("an entry without a name")
	}
	return res.Entries[0], nil
}

func (c *config) seconds() int { return int(c.timeout.Seconds()) }

// nameOf is what the directory calls the user: the value that was typed, in the
// directory's spelling, or the only one.
func (c *config) nameOf(e *goldap.Entry, typed string) (string, error) {
	values := e.GetEqualFoldAttributeValues(c.user)
	for _, v := range values {
		if strings.EqualFold(v, typed) && possible(v) {
			return v, nil
		}
	}
	if len(values) != 1 || !possible(values[0]) {
		return "", refusal("the entry has no, an impossible or more than one " + c.user + " (user-attribute)")
	}
	return values[0], nil
}

// searchGroups finds the names of the groups a user is in.
func (c *config) searchGroups(conn *goldap.Conn, user, dn string) (names []string, err error) {
	if err := c.serve(conn); err != nil { // without bind-dn the user himself searches
		return nil, err
	}
	filter := c.groups.filter.expand(map[byte]string{'u': goldap.EscapeFilter(user), 'd': goldap.EscapeFilter(dn)})
	res, err := conn.Search(goldap.NewSearchRequest(c.groups.base, goldap.ScopeWholeSubtree, goldap.NeverDerefAliases, maxGroups, c.seconds(), false,
		filter, []string{c.name}, nil))
	if err != nil && !goldap.IsErrorWithCode(err, goldap.LDAPResultSizeLimitExceeded) { // what has come is good (RFC 4511, section 4.5.2)
		return nil, fmt.Errorf("search of groups: %w", err)
	}
	for _, e := range res.Entries {
		names = append(names, e.GetEqualFoldAttributeValues(c.name)...)
	}
	return names, nil
}

// firstValue is the name of the entry itself in a DN: staff of
// cn=staff,ou=groups,dc=example.
func firstValue(dn string) string {
	parsed, err := goldap.ParseDN(dn)
	if err != nil || len(parsed.RDNs) == 0 || len(parsed.RDNs[0].Attributes) != 1 {
		return ""
	}
	return parsed.RDNs[0].Attributes[0].Value
}

// possible reports whether a name can be a user's or a group's.
func possible(name string) bool {
	return name != "" && len(name) <= maxName && utf8.ValidString(name) && !strings.ContainsFunc(name, unicode.IsControl)
}
