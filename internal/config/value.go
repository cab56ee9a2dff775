package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"rocserv/internal/secret"
)

// parseBool reads true and yes, in any case, as true and everything else as
// false (ocserv CHECK_TRUE). known tells whether false was meant.
func parseBool(s string) (v, known bool) {
	switch strings.ToLower(s) {
	case "true", "yes":
		return true, true
	case "false", "no", "":
		return false, true
	}
	return false, false
}

// parseNumber reads leading digits as strtol does, and 0 without any. exact is
// false if s is anything but a number from 0 to most.
func parseNumber(s string, most int64) (n int64, exact bool) {
	end := 0
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	n, err := strconv.ParseInt(s[:end], 10, 64)
	if errors.Is(err, strconv.ErrRange) || n > most {
		return most, false
	}
	return n, err == nil && end == len(s)
}

// store puts a value into the field of an option.
func (p *parser) store(o *Option, field any, it item) {
	switch f := field.(type) {
	case *bool:
		*f = p.bool(o, it)
	case *int:
		*f = int(p.number(o, it))
	case *uint64:
		*f = uint64(p.number(o, it))
	case *time.Duration:
		unit := time.Second
		if o.Type == Milliseconds {
			unit = time.Millisecond
		}
		*f = time.Duration(p.number(o, it)) * unit
	case *string:
		*f = it.text
	case *Secret:
		*f = secret.NewText(it.text)
	case *[]string:
		v := it.text
		if o.Type == Raw {
			v = it.raw
		}
		*f = append(*f, v)
	case *netip.Addr:
		if a, err := parseAddr(it.text); err != nil {
			p.errorf(it.line, "%s: %v", o.Name, err)
		} else {
			*f = a
		}
	case *[]netip.Addr:
		if a, err := parseAddr(it.text); err != nil {
			p.errorf(it.line, "%s: %v", o.Name, err)
		} else {
			*f = append(*f, a)
		}
	case *[]netip.Prefix:
		p.prefixes(o, f, it)
	default:
		panic(fmt.Sprintf("config: internal error: option %s: no way to read a %T", o.Name, field))
	}
}

// unused checks and keeps the value of an option that has no field.
func (p *parser) unused(o *Option, t *target, it item) {
	switch o.Type {
	case Bool:
		p.bool(o, it)
	case Number, Seconds, Milliseconds, Bytes:
		p.number(o, it)
	}
	v := t.vhost
	if v == nil {
		return
	}
	if o.Scope < ScopeVhost {
		v = p.config.Vhosts[0]
	}
	if v.Unused == nil {
		v.Unused = map[string][]string{}
	}
	if o.List {
		v.Unused[o.Name] = append(v.Unused[o.Name], it.text)
	} else {
		v.Unused[o.Name] = []string{it.text}
	}
}

// list returns the length of the list that an option adds to, and what empties it.
func list(o *Option, t *target) (n int, empty func()) {
	if o.at == nil {
		if t.vhost == nil {
			return 0, func() {}
		}
		return len(t.vhost.Unused[o.Name]), func() { delete(t.vhost.Unused, o.Name) }
	}
	switch f := o.at(t).(type) {
	case *[]string:
		return len(*f), func() { *f = nil }
	case *[]netip.Addr:
		return len(*f), func() { *f = nil }
	case *[]netip.Prefix:
		return len(*f), func() { *f = nil }
	case *[]Group:
		return len(*f), func() { *f = nil }
	case *[]Method:
		return len(*f), func() { *f = nil }
	case *[]EgressRule:
		return len(*f), func() { *f = nil }
	case *[]Way:
		return len(*f), func() { *f = nil }
	case *[]DNSServer:
		return len(*f), func() { *f = nil }
	case *[]Forward:
		return len(*f), func() { *f = nil }
	case *[]Via:
		return len(*f), func() { *f = nil }
	case *[]KDC:
		return len(*f), func() { *f = nil }
	default:
		panic(fmt.Sprintf("config: internal error: option %s: %T is no list", o.Name, f))
	}
}

func (p *parser) bool(o *Option, it item) bool {
	v, known := parseBool(it.text)
	if !known {
		p.warnf(it.line, "'%s' is true or false: '%s' is taken as false", o.Name, it.text)
	}
	return v
}

func (p *parser) number(o *Option, it item) int64 {
	most := o.most
	if most == 0 {
		most = math.MaxInt32
	}
	n, exact := parseNumber(it.text, most)
	if !exact {
		p.warnf(it.line, "'%s' is a number from 0 to %d: '%s' is taken as %d", o.Name, most, it.text, n)
	}
	return n
}

// prefixes appends networks or addresses separated by blanks or commas.
func (p *parser) prefixes(o *Option, list *[]netip.Prefix, it item) {
	for _, s := range split(it.text) {
		prefix, err := parsePrefix(s)
		if err != nil {
			p.errorf(it.line, "%s: %v", o.Name, err)
			continue
		}
		*list = append(*list, prefix)
	}
}

// split cuts a value at blanks and commas.
func split(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' || r == ',' })
}

func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("'%s' is not an IP address", s)
	}
	return a.Unmap(), nil
}

// parsePrefix reads a network, or an address as the network of itself.
func parsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := parseAddr(s)
		if err != nil {
			return netip.Prefix{}, err
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("'%s' is neither a network nor an address", s)
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}
