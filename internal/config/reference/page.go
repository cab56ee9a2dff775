package main

import (
	"fmt"
	"strconv"
	"strings"

	"rocserv/internal/config"
)

const pageFront = `# Every option

Made from the table in ` + "`internal/config`" + ` by ` + "`make gen`" + `; change it there. [sample.config](sample.config) is a file with all of them.

The syntax is ocserv's: ` + "`name = value`" + `, one on a line; ` + "`#`" + ` begins a comment, also after a blank; quotes around a value are
taken off; an indented line is one more value of the option before it. Booleans are ` + "`true`" + ` or ` + "`yes`" + `, everything else is
false. An option that is marked with * may be repeated, each line adds a value, and an empty value empties the list.
` + "`[vhost:NAME]`" + ` begins the settings of a virtual host, which starts as a copy of what stands before the first section.

*where* says where an option may stand: *global* before all sections only, *vhost* also in a section, *group* and *user* in the
files of ` + "`config-per-group`" + ` and ` + "`config-per-user`" + `. *taken over* says when a change has effect: with a *reload* (SIGHUP, for new
sessions), with a *restart*, or *contents*: the name with a restart, what the file holds with a reload. Options of rocserv's own,
which ocserv skips with a warning, are marked **+**.
`

// page is doc/config.md.
func page(parts []config.Part) string {
	var b strings.Builder
	b.WriteString(pageFront)
	for _, part := range parts {
		fmt.Fprintf(&b, "\n## %s\n\n| option | value | default | where | taken over | what it does |\n|---|---|---|---|---|---|\n", part.Title)
		for _, o := range part.Options {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", name(&o), cell(value(&o)), defaultOf(&o), o.Scope, takenOver(&o), cell(meaning(&o)))
		}
	}
	return b.String()
}

func name(o *config.Option) string {
	s := "`" + o.Name + "`"
	if o.List {
		s += " *"
	}
	if o.Ours {
		s += " **+**"
	}
	return s
}

func value(o *config.Option) string {
	if o.Most() > 0 {
		return string(o.Type) + ", at most " + strconv.FormatInt(o.Most(), 10)
	}
	return string(o.Type)
}

func defaultOf(o *config.Option) string {
	if o.Default == "" {
		return ""
	}
	return "`" + o.Default + "`"
}

func takenOver(o *config.Option) string {
	if o.Reload == config.Contents {
		return "contents"
	}
	return o.Reload.String()
}

// meaning is what an option does, here.
func meaning(o *config.Option) string {
	s := o.Meaning
	if o.Secret {
		s += " (read by sec-mod only)"
	}
	if o.Status == config.InEffect {
		if o.Note != "" {
			s += ". Otherwise than in ocserv: " + o.Note
		}
		return s
	}
	s += ". **" + upper(o.Status.String()) + "**"
	if o.Note != "" {
		s += ": " + o.Note
	}
	return s
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// cell is text in a cell of a table.
func cell(s string) string { return strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(s) }
