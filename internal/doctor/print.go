package doctor

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
)

// JSON writes the report for programs.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// Text writes the report for people.
func (r *Report) Text(w io.Writer) {
	where := "this host"
	if r.Container != "" {
		where = "this container (" + r.Container + ")"
	}
	fmt.Fprintf(w, "What %s gives to uid %d\n", where, r.UID)
	section(w, r.Host)
	if len(r.Config) > 0 {
		fmt.Fprintf(w, "\nThe configuration\n")
		section(w, r.Config)
	}
	fmt.Fprintf(w, "\nRoom for clients: %d\n", r.Clients)
	for _, l := range r.Room {
		if l.Have == 0 {
			fmt.Fprintf(w, "       %-20s no limit\n", l.Kind)
			continue
		}
		have := fmt.Sprint(l.Have)
		if l.Kind == "memory" {
			have = size(l.Have)
		}
		mark := ""
		if l.Decides {
			mark = "  <- decides"
		}
		fmt.Fprintf(w, "       %-20s %7d  by %s, %s%s\n", l.Kind, l.Clients, l.Limit, have, mark)
		detail(w, "close", l.Close)
	}
	fmt.Fprintf(w, "\nLogin methods\n")
	section(w, r.Methods)
}

func section(w io.Writer, list []Finding) {
	for _, f := range list {
		fmt.Fprintf(w, "  %-4s %-20s %s\n", f.State, f.Name, cmp.Or(f.Have, "-"))
		detail(w, "costs", f.Costs)
		detail(w, "close", f.Close)
	}
}

func detail(w io.Writer, what, text string) {
	if text != "" {
		fmt.Fprintf(w, "         %s: %s\n", what, text)
	}
}
