package getopt

import (
	"fmt"
	"strings"
)

// Flag is an option that a program has.
type Flag struct {
	Short byte // 0: none
	Long  string
	Value bool // takes one
	Last  bool // the program acts on it at once: what follows is not read
}

// Option is one that was given.
type Option struct {
	Long  string
	Value string // "" for one that takes none
	flag  *Flag
}

// Line is a command line taken apart.
type Line struct {
	Options []Option
	Args    []string // that are no options
	Wrong   []string // what is wrong, in the C library's words
}

// Parse reads args, without the program's name, which is in the messages.
func Parse(program string, flags []Flag, args []string) Line {
	p := parser{program: program, flags: flags, args: args}
	for len(p.args) > 0 && !p.over {
		arg := p.next()
		switch {
		case arg == "--":
			p.line.Args = append(p.line.Args, p.args...)
			return p.line
		case strings.HasPrefix(arg, "--"):
			p.long(arg[2:])
		case strings.HasPrefix(arg, "-") && arg != "-":
			p.short(arg[1:])
		default:
			p.line.Args = append(p.line.Args, arg)
		}
	}
	return p.line
}

// Canonical returns the line as urfave/cli/v2 reads it.
func (l Line) Canonical() []string {
	var args []string
	for _, o := range l.Options {
		if o.flag.Value {
			args = append(args, "--"+o.Long+"="+o.Value)
		} else {
			args = append(args, "--"+o.Long)
		}
	}
	return append(append(args, "--"), l.Args...)
}

// Count says how often an option was given.
func (l Line) Count(long string) (n int) {
	for _, o := range l.Options {
		if o.Long == long {
			n++
		}
	}
	return n
}

type parser struct {
	program string
	flags   []Flag
	args    []string // not read yet
	line    Line
	over    bool // a last one was given
}

func (p *parser) next() string {
	arg := p.args[0]
	p.args = p.args[1:]
	return arg
}

func (p *parser) wrong(format string, args ...any) {
	p.line.Wrong = append(p.line.Wrong, p.program+": "+fmt.Sprintf(format, args...))
}

func (p *parser) add(f *Flag, value string) {
	p.line.Options = append(p.line.Options, Option{Long: f.Long, Value: value, flag: f})
	p.over = p.over || f.Last
}

// short reads what stands behind one dash: options, and the last one's value.
func (p *parser) short(s string) {
	for i := 0; i < len(s) && !p.over; i++ {
		f := p.byShort(s[i])
		switch {
		case f == nil:
			p.wrong("invalid option -- '%c'", s[i])
		case !f.Value:
			p.add(f, "")
		case i+1 < len(s):
			p.add(f, s[i+1:])
			return
		case len(p.args) > 0:
			p.add(f, p.next())
		default:
			p.wrong("option requires an argument -- '%c'", s[i])
		}
	}
}

func (p *parser) byShort(c byte) *Flag {
	for i := range p.flags {
		if p.flags[i].Short == c && c != 0 {
			return &p.flags[i]
		}
	}
	return nil
}

// long reads what stands behind two dashes: name, or name=value.
func (p *parser) long(s string) {
	name, value, given := strings.Cut(s, "=")
	f, similar := p.byLong(name)
	switch {
	case len(similar) > 1:
		p.wrong("option '--%s' is ambiguous; possibilities: '--%s'", name, strings.Join(similar, "' '--"))
	case f == nil:
		p.wrong("unrecognized option '--%s'", name)
	case !f.Value && given:
		p.wrong("option '--%s' doesn't allow an argument", f.Long)
	case !f.Value || given:
		p.add(f, value)
	case len(p.args) > 0:
		p.add(f, p.next())
	default:
		p.wrong("option '--%s' requires an argument", f.Long)
	}
}

// byLong finds the option of that name, or the one whose name begins so; the
// names of all that do where it is not clear.
func (p *parser) byLong(name string) (found *Flag, similar []string) {
	for i := range p.flags {
		f := &p.flags[i]
		if f.Long == name {
			return f, nil
		}
		if strings.HasPrefix(f.Long, name) {
			found = f
			similar = append(similar, f.Long)
		}
	}
	return found, similar
}
