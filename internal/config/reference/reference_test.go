package main

import (
	"strings"
	"testing"

	"rocserv/internal/config"
)

func mustParse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("sample.config", []byte(text), config.SecMod)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSampleLoads: the sample is a configuration, without a word of warning, and
// its comments show the defaults.
func TestSampleLoads(t *testing.T) {
	c := mustParse(t, sample(config.Parts()))
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %v", c.Warnings)
	}
	for _, s := range c.Effective() {
		_, ours := needed[s.Option.Name]
		if set := s.Line > 0; set != ours {
			t.Errorf("%s is set in line %d", s.Option.Name, s.Line)
		}
	}
}

// TestSampleComments: every line that is commented out is right when it is not.
func TestSampleComments(t *testing.T) {
	table := map[string]config.Option{}
	for _, o := range config.Options() {
		table[o.Name] = o
	}
	text := sample(config.Parts())
	shown := map[string]bool{}
	own, _, _ := strings.Cut(text, "---- Virtual hosts ----")
	for line := range strings.Lines(own) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " = ")
		name, commented := strings.CutPrefix(name, "#")
		o, known := table[name]
		if !ok || !known {
			continue
		}
		shown[name] = true
		if value == "" {
			t.Errorf("%s has neither a default nor an example", name)
		}
		if !commented || o.Status == config.Refused {
			continue
		}
		if o.Scope == config.ScopeUserOnly {
			if _, problems, err := config.ParseUserFile("anna", []byte(line[1:]), config.User{IPv6SubnetBits: 128}); err != nil || o.Status == config.InEffect && len(problems) > 0 {
				t.Errorf("%s%v %v", line, problems, err)
			}
			continue
		}
		with := strings.Replace(text, line, line[1:], 1)
		switch name { // these need another one
		case "enable-auth":
			with += "ca-cert = /etc/rocserv/ca.pem\ncert-user-oid = 2.5.4.3\n"
		case "egress-via":
			with = strings.Replace(with, "#egress = ", "egress = ", 1)
		case "proxy-proto-trusted":
			with += "listen-proxy-proto = true\n"
		}
		c, err := config.Parse("sample.config", []byte(with), config.SecMod)
		if err != nil {
			t.Errorf("%s%v", line, err)
			continue
		}
		if o.Status == config.InEffect && len(c.Warnings) > 0 {
			t.Errorf("%s%v", line, c.Warnings)
		}
	}
	for name, o := range table {
		if o.Status != config.Gone && !shown[name] {
			t.Errorf("%s is not in the sample", name)
		}
	}
	for name := range needed {
		if _, both := examples[name]; both {
			t.Errorf("%s is both needed and an example", name)
		}
	}
	for name := range examples {
		if table[name].Name == "" {
			t.Errorf("there is no option %s", name)
		}
	}
}

// TestPage: every option has its row.
func TestPage(t *testing.T) {
	text := page(config.Parts())
	for _, o := range config.Options() {
		if n := strings.Count(text, "\n| `"+o.Name+"`"); n != 1 {
			t.Errorf("%s has %d rows", o.Name, n)
		}
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "| ") && strings.Count(strings.ReplaceAll(line, `\|`, ""), "|") != 7 {
			t.Errorf("cells of %s", line)
		}
	}
}
