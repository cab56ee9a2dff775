package occtl

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"rocserv/internal/control"
)

// writeCounters prints what the processes count, for show status --debug.
func writeCounters(w io.Writer, st *control.Status) {
	for _, role := range slices.Sorted(maps.Keys(st.Counters)) {
		fmt.Fprintf(w, "\nCounters of %s:\n", clean(role))
		for _, name := range slices.Sorted(maps.Keys(st.Counters[role])) {
			fmt.Fprintf(w, "\t%s: %d\n", clean(name), st.Counters[role][name])
		}
	}
	fmt.Fprint(w, "\nAt this moment:\n")
	for _, name := range slices.Sorted(maps.Keys(st.Gauges)) {
		fmt.Fprintf(w, "\t%s: %d\n", clean(name), st.Gauges[name])
	}
}
