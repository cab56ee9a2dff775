package ldap

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"rocserv/internal/secret"
	"rocserv/secmod/helper"
)

// config is what the file of ldap[config=FILE] says: lines `key = value`, and
// comments after #.
type config struct {
	servers  []*server
	names    *helper.Names
	timeout  time.Duration
	startTLS bool
	tls      *tls.Config

	template template // bind-template; empty: the entry is searched
	search   search
	user     string // user-attribute
	memberOf string // group-attribute; empty: not looked at
	groups   search // group-filter
	name     string // group-name: the attribute with the name of a group that was searched

	// As whom entries and groups are searched.
	bindDN       string
	bindPassword secret.Text

	files []string // that its file names
}

// search is where to look for entries, and which.
type search struct {
	base   string
	filter template
}

// set takes the value of a key; known: there is such a key.
func (d *draft) set(key, v string) (known bool, err error) {
	switch key {
	case "uri":
		err = d.uri(v)
	case "start-tls":
		err = d.boolean(&d.startTLS, v)
	case "ca-file":
		d.caFile, d.files = v, append(d.files, v)
	case "timeout":
		err = d.seconds(v)
	case "bind-template":
		d.template = template(v)
		err = d.template.check("u", "u")
	case "base":
		d.search.base, err = v, checkDN(v)
	case "filter":
		d.search.filter = template(v)
		err = d.search.filter.checkFilter("u", "u")
	case "user-attribute":
		d.user = v
	case "group-attribute":
		d.memberOf = v
	case "group-base":
		d.groups.base, err = v, checkDN(v)
	case "group-filter":
		d.groups.filter = template(v)
		err = d.groups.filter.checkFilter("ud", "ud")
	case "group-name":
		d.name = v
	case "bind-dn":
		d.bindDN, err = v, checkDN(v)
	case "bind-password":
		d.bindPassword = secret.NewText(v)
	case "bind-password-file":
		d.files = append(d.files, v)
		err = d.passwordFile(v)
	default:
		return false, nil
	}
	return true, err
}

// draft is a config while its file is read.
type draft struct {
	config
	caFile string
}

// maxFile bounds each file that is read.
const maxFile = 4 << 20

// parse reads the file and what it names. Errors name no value: one may be a password.
func parse(text string) (*config, []string, error) {
	d := &draft{config: config{timeout: 5 * time.Second, startTLS: true, user: "uid", memberOf: "memberOf", name: "cn"}}
	seen := map[string]bool{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch {
		case !ok:
			return nil, nil, fmt.Errorf("line %d: not KEY = VALUE", n)
		case seen[key]:
			return nil, nil, fmt.Errorf("line %d: '%.32s' is set twice", n, key)
		case value == "" && key != "group-attribute":
			return nil, nil, fmt.Errorf("line %d: '%.32s' has no value", n, key)
		}
		seen[key] = true
		switch known, err := d.set(key, value); {
		case !known:
			return nil, nil, fmt.Errorf("line %d: unknown key '%.32s'", n, key)
		case err != nil:
			return nil, nil, fmt.Errorf("line %d: %s: %w", n, key, err)
		}
	}
	if err := d.check(); err != nil {
		return nil, nil, err
	}
	warnings, err := d.finish()
	return &d.config, warnings, err
}

// check looks at what does not go together.
func (d *draft) check() error {
	switch {
	case len(d.servers) == 0:
		return errors.New("'uri' is missing: ldaps://HOST, or several with blanks between")
	case (d.template == "") == (d.search.filter == ""):
		return errors.New("one of 'filter' and 'bind-template' says who a user is")
	case d.search.filter != "" && d.search.base == "", d.groups.filter != "" && d.groups.base == "":
		return errors.New("a filter needs its 'base' or 'group-base'")
	case d.template != "" && d.search.base != "", d.groups.filter == "" && d.groups.base != "":
		return errors.New("a 'base' or 'group-base' without its filter")
	case (d.bindDN == "") != d.bindPassword.IsZero():
		return errors.New("'bind-dn' goes with 'bind-password' or 'bind-password-file'")
	}
	return nil
}

// finish opens what is left to open.
func (d *draft) finish() (warnings []string, err error) {
	d.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	if d.caFile == "" {
		d.tls.RootCAs, err = x509.SystemCertPool() // now: no file can be opened later
	} else {
		d.tls.RootCAs, err = readCAs(d.caFile)
	}
	if err != nil {
		return nil, fmt.Errorf("ca-file: %w", err)
	}
	for _, s := range d.servers {
		if !s.tls && !d.startTLS {
			warnings = append(warnings, fmt.Sprintf("ldap: passwords go to %v without encryption", s))
		}
	}
	return warnings, nil
}

func readCAs(name string) (*x509.CertPool, error) {
	b, err := helper.ReadFile(name, maxFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s: no certificate in it", name)
	}
	return pool, nil
}

// uri takes the servers, in the order they are to be tried in.
func (d *draft) uri(v string) error {
	for word := range strings.FieldsSeq(v) {
		u, err := url.Parse(word)
		if err != nil || u.Hostname() == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" {
			return errors.New("a server is ldaps://HOST[:PORT] or ldap://HOST[:PORT]")
		}
		port, ok := map[string]string{"ldap": "389", "ldaps": "636"}[u.Scheme]
		if !ok {
			return errors.New("a server is ldaps:// or ldap://")
		}
		if u.Port() != "" {
			port = u.Port()
		}
		d.servers = append(d.servers, &server{host: u.Hostname(), port: port, tls: u.Scheme == "ldaps"})
	}
	return nil
}

func (d *draft) boolean(to *bool, v string) error {
	switch strings.ToLower(v) {
	case "true", "yes":
		*to = true
	case "false", "no":
		*to = false
	default:
		return errors.New("true or false")
	}
	return nil
}

func (d *draft) seconds(v string) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > 120 {
		return errors.New("1 to 120 seconds")
	}
	d.timeout = time.Duration(n) * time.Second
	return nil
}

func (d *draft) passwordFile(name string) error {
	b, err := helper.ReadFile(name, maxFile)
	if err != nil {
		return err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	clear(b)
	d.bindPassword = secret.NewText(strings.TrimRight(line, "\r"))
	return nil
}

func checkDN(v string) error {
	if _, err := goldap.ParseDN(v); err != nil {
		return errors.New("not a DN")
	}
	return nil
}

// template is text with places for a user's name (%u) and DN (%d).
type template string

// expand puts escaped values in their places.
func (t template) expand(values map[byte]string) string {
	var b strings.Builder
	for i := 0; i < len(t); i++ {
		if t[i] != '%' || i+1 == len(t) {
			b.WriteByte(t[i])
			continue
		}
		i++
		if t[i] == '%' {
			b.WriteByte('%')
		}
		b.WriteString(values[t[i]])
	}
	return b.String()
}

// check: every % is one of these places or %%, and one of those is there. What
// comes of it is a DN.
func (t template) check(places, one string) error {
	if err := t.checkPlaces(places, one); err != nil {
		return err
	}
	return checkDN(t.expand(map[byte]string{'u': "x", 'd': "cn=x"}))
}

// checkFilter is check for a filter.
func (t template) checkFilter(places, one string) error {
	if err := t.checkPlaces(places, one); err != nil {
		return err
	}
	if _, err := goldap.CompileFilter(t.expand(map[byte]string{'u': "x", 'd': "cn=x"})); err != nil {
		return errors.New("not a filter")
	}
	return nil
}

func (t template) checkPlaces(places, one string) error {
	found := false
	for rest := string(t); ; {
		_, after, ok := strings.Cut(rest, "%")
		if !ok {
			break
		}
		if after == "" || after[0] != '%' && !strings.Contains(places, after[:1]) {
			return fmt.Errorf("after %% comes one of '%s', or %%", places)
		}
		found = found || strings.Contains(one, after[:1])
		rest = after[1:]
	}
	if !found {
		return fmt.Errorf("the user's name is missing: %%%s", strings.Join(strings.Split(one, ""), " or %"))
	}
	return nil
}
