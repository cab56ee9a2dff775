package occtl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// field is one line of an answer, in both forms.
type field struct {
	name string
	text string   // empty: not in the text
	json any      // nil: not in JSON
	list []string // several lines; in JSON, if json is nil, always there
	many bool     // list counts
	pair bool     // in the text on the line of the one before
	head string   // a line before it, in the text
}

// str is a field that is the same in both forms. Empty ones are left out.
func str(name, value string) field {
	if value == "" {
		return field{}
	}
	value = clean(value)
	return field{name: name, text: value, json: value}
}

// beside puts a field on the line of the one before.
func beside(f field) field {
	f.pair = true
	return f
}

// after puts a line before the field.
func after(line string, f field) field {
	f.head = line
	return f
}

// num is a number; in JSON it is one, too.
func num[N int | uint64](name string, n N) field {
	return field{name: name, text: fmt.Sprint(n), json: n}
}

// only is a field that text does not have.
func only(name string, value any) field { return field{name: name, json: value} }

// both is a field that differs.
func both(name, text string, value any) field { return field{name: name, text: text, json: value} }

// many is a list, a line for each.
func many(name string, list []string) field {
	f := field{name: name, many: true}
	for _, v := range list {
		f.list = append(f.list, clean(v))
	}
	return f
}

// writeText prints fields in ocserv's layout.
func writeText(w io.Writer, fields []field) {
	open := false // a line that has no end yet
	end := func() {
		if open {
			fmt.Fprintln(w)
		}
		open = false
	}
	for _, f := range fields {
		if f.head != "" {
			end()
			fmt.Fprint(w, f.head)
		}
		switch {
		case f.many:
			for i, v := range f.list {
				end()
				if i == 0 {
					fmt.Fprintf(w, "\t%s: %s", f.name, v)
				} else {
					fmt.Fprintf(w, "\t\t%s", v)
				}
				open = true
			}
		case f.text == "":
		case f.pair && open:
			fmt.Fprintf(w, "   %s: %s", f.name, f.text)
		default:
			end()
			fmt.Fprintf(w, "\t%s: %s", f.name, f.text)
			open = true
		}
	}
	end()
}

// writeJSON prints fields as an object in ocserv's layout.
func writeJSON(w io.Writer, fields []field) {
	var lines []string
	for _, f := range fields {
		switch {
		case f.many && f.json == nil:
			items := make([]string, len(f.list))
			for i, v := range f.list {
				items[i] = encode(v)
			}
			lines = append(lines, fmt.Sprintf("    %s:\t[%s]", encode(f.name), strings.Join(items, ", ")))
		case f.json != nil:
			lines = append(lines, fmt.Sprintf("    %s:  %s", encode(f.name), encode(f.json)))
		}
	}
	fmt.Fprintf(w, "  {\n%s\n  }", strings.Join(lines, ",\n"))
}

// writeObjects prints a list of objects.
func writeObjects(w io.Writer, objects [][]field) {
	fmt.Fprint(w, "[\n")
	for i, o := range objects {
		if i > 0 {
			fmt.Fprint(w, ",\n\n")
		}
		writeJSON(w, o)
	}
	if len(objects) > 0 {
		fmt.Fprintln(w)
	}
	fmt.Fprint(w, "]\n")
}

// encode is a JSON value on one line.
func encode(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("occtl: internal error: " + err.Error()) // strings, numbers and lists of them
	}
	return strings.TrimSuffix(b.String(), "\n")
}
