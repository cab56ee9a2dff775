package main

import (
	"fmt"
	"strings"

	"rocserv/internal/config"
)

const sampleFront = `# A configuration with every option, in ocserv's syntax; doc/config.md has them in
# a table. What stands without a # is what a server needs, or nearly everybody
# wants; the other lines show the default, or an example where there is none.
# "rocserv -t -c FILE" checks a file.
#
# Made from the table in internal/config by make gen.
`

const sampleVhost = `
#
# ---- Virtual hosts ----
#
# A section is a virtual host: what clients get that ask for that name by TLS.
# It starts as a copy of everything above, and a list is emptied by an empty
# value. Options that are marked as global cannot stand in one.
#
#[vhost:www.example.com]
#auth = "certificate"
#ca-cert = /etc/rocserv/ca.pem
#cert-user-oid = 2.5.4.3
#ipv4-network = 10.21.0.0/16
#route =
`

// sample is doc/sample.config.
func sample(parts []config.Part) string {
	var b strings.Builder
	b.WriteString(sampleFront)
	for _, part := range parts {
		title := false
		for _, o := range part.Options {
			if o.Status == config.Gone {
				continue
			}
			if !title {
				fmt.Fprintf(&b, "\n#\n# ---- %s ----\n#\n", part.Title)
				title = true
			}
			b.WriteString("\n" + comment(about(&o)))
			for _, line := range lines(&o) {
				b.WriteString(line + "\n")
			}
		}
	}
	b.WriteString(sampleVhost)
	return b.String()
}

// about is what stands above an option.
func about(o *config.Option) string {
	s := upper(strings.ReplaceAll(meaning(o), "**", "")) + "."
	var more []string
	switch o.Scope {
	case config.ScopeGlobal, config.ScopeAnywhere:
		more = append(more, "global")
	case config.ScopeUserOnly:
		more = append(more, "only in files of groups and users")
	case config.ScopeUser:
		more = append(more, "also in files of groups and users")
	}
	if o.List {
		more = append(more, "may be repeated")
	}
	if o.Reload != config.OnReload {
		more = append(more, "changes with a "+o.Reload.String())
	}
	if o.Ours {
		more = append(more, "not in ocserv")
	}
	if len(more) > 0 {
		s += " (" + strings.Join(more, "; ") + ")"
	}
	return s
}

// comment breaks text into lines of a comment.
func comment(text string) string {
	const width = 80
	var b strings.Builder
	line := "#"
	for _, word := range strings.Fields(text) {
		if len(line)+1+len(word) > width && line != "#" {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	return b.String() + line + "\n"
}

// lines are an option's lines in the sample.
func lines(o *config.Option) (all []string) {
	values, active := needed[o.Name]
	if !active {
		values = examples[o.Name]
	}
	if len(values) == 0 {
		values = []string{o.Default}
	}
	for _, v := range values {
		line := o.Name + " = " + v
		if !active {
			line = "#" + line
		}
		all = append(all, line)
	}
	return all
}
