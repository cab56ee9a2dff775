package config

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"rocserv/internal/secret"
)

// Setting is the value of one option in one virtual host.
type Setting struct {
	Option Option
	Vhost  string   // "" is the default virtual host
	Values []string // as one would write them; a secret is [redacted]
	Line   int      // where it was set last; 0: default or inherited
}

// Effective lists what the configuration is: for the default virtual host
// every option with a value, for the others what differs from it, values or
// none. Older names are left out.
func (c *Config) Effective() []Setting {
	var all []Setting
	base := map[string][]string{}
	table := Options()
	for i, v := range c.Vhosts {
		t := target{global: &c.Global, vhost: v, user: &v.User, draft: &draft{}}
		for _, o := range table {
			if o.Status == Gone || o.Scope == ScopeUserOnly || o.Into != "" || i > 0 && o.Scope < ScopeVhost {
				continue
			}
			line := 0
			if list := c.lines[place{v.Name, o.Name}]; len(list) > 0 {
				line = list[len(list)-1]
			}
			values := o.values(&t, line)
			if slices.Equal(values, base[o.Name]) {
				continue
			}
			if i == 0 {
				base[o.Name] = values
			}
			all = append(all, Setting{Option: o, Vhost: v.Name, Values: values, Line: line})
		}
	}
	return all
}

// WriteEffective writes the listing in the form of a configuration file, which
// but for secrets is the same configuration again, with a remark on every line
// that is a default or not in effect.
func (c *Config) WriteEffective(w io.Writer) error {
	var b bytes.Buffer
	all := c.Effective()
	for i, v := range c.Vhosts {
		if i > 0 { // also one that is as the default one
			fmt.Fprintf(&b, "\n[vhost:%s]\n", v.Name)
		}
		for ; len(all) > 0 && all[0].Vhost == v.Name; all = all[1:] {
			all[0].write(&b)
		}
	}
	_, err := b.WriteTo(w)
	return err
}

// write writes the lines of a setting.
func (s Setting) write(b *bytes.Buffer) {
	if s.Vhost != "" && (s.Option.List || len(s.Values) == 0) {
		fmt.Fprintf(b, "%s =\n", s.Option.Name) // empties what is inherited
	}
	for _, v := range s.Values {
		line := s.Option.Name + " = " + v
		if strings.HasPrefix(v, "#") {
			line = s.Option.Name + "=" + v // after a blank it would be a comment
		}
		if remark := s.remark(); len(line)+len(remark) <= maxLine {
			line += remark
		}
		b.WriteString(line + "\n")
	}
}

func (s Setting) remark() string {
	switch {
	case s.Option.Status != InEffect:
		return "  # " + s.Option.Status.String()
	case s.Line == 0 && s.Vhost == "":
		return "  # default"
	}
	return ""
}

// values reads an option back.
func (o *Option) values(t *target, line int) []string {
	switch {
	case o.Secret:
		if line == 0 {
			return nil
		}
		return []string{secret.Redacted}
	case o.get != nil:
		return o.get(t)
	case o.at != nil:
		return texts(o, o.at(t))
	}
	return t.vhost.Unused[o.Name]
}

// texts is the reverse of store.
func texts(o *Option, field any) []string {
	switch f := field.(type) {
	case *bool:
		return []string{strconv.FormatBool(*f)}
	case *int:
		return []string{strconv.Itoa(*f)}
	case *uint64:
		return text(strconv.FormatUint(*f, 10), *f == 0)
	case *time.Duration:
		unit := time.Second
		if o.Type == Milliseconds {
			unit = time.Millisecond
		}
		return []string{strconv.FormatInt(int64(*f/unit), 10)}
	case *string:
		return text(*f, *f == "")
	case *netip.Addr:
		return text(f.String(), !f.IsValid())
	case *[]string:
		return *f
	case *[]netip.Addr:
		return stringsOf(*f)
	case *[]netip.Prefix:
		if o.Type == Route {
			return RouteStrings(*f)
		}
		return stringsOf(*f)
	case *[]Method:
		return stringsOf(*f)
	case *[]Group:
		return stringsOf(*f)
	}
	panic(fmt.Sprintf("config: internal error: option %s: no way to show a %T", o.Name, field))
}

func text(s string, none bool) []string {
	if none {
		return nil
	}
	return []string{s}
}

func stringsOf[T fmt.Stringer](list []T) []string {
	s := make([]string, len(list))
	for i, v := range list {
		s[i] = v.String()
	}
	return s
}

// String is the group as one would write it.
func (g Group) String() string {
	if g.Label == "" {
		return g.Name
	}
	return g.Name + "[" + g.Label + "]"
}
