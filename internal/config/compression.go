package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// algorithms are the names of compressions in the file and on the wire, in ocserv's
// order, with the priorities that they have there.
var algorithms = []struct {
	name, wire string
	priority   int
}{{"lz4", "oc-lz4", 90}, {"lzs", "lzs", 80}}

// setCompressionOrder reads names, best first, as ocserv's sample has it, or
// name:number pairs, as its code does.
func setCompressionOrder(p *parser, t *target, it item) {
	numbers := map[string]int{}
	rest := strings.FieldsFunc(it.text, func(r rune) bool { return r == ':' || r == ',' || r == ' ' })
	for next := len(rest); len(rest) > 0; next-- {
		i := slices.IndexFunc(algorithms, func(a struct {
			name, wire string
			priority   int
		}) bool {
			return strings.EqualFold(rest[0], a.name) || strings.EqualFold(rest[0], a.wire)
		})
		if i < 0 {
			p.warnf(it.line, "'compression-algo-priority' knows lz4 and lzs, '%s' is left out", rest[0])
			rest = rest[1:]
			continue
		}
		wire, number := algorithms[i].wire, 1000+next
		rest = rest[1:]
		if len(rest) > 0 {
			if n, err := strconv.Atoi(rest[0]); err == nil {
				number, rest = n, rest[1:]
			}
		}
		numbers[wire] = number
	}
	order := make([]string, 0, len(algorithms))
	for _, a := range algorithms {
		if _, ok := numbers[a.wire]; !ok {
			numbers[a.wire] = a.priority
		}
		order = append(order, a.wire)
	}
	slices.SortStableFunc(order, func(a, b string) int { return cmp.Compare(numbers[b], numbers[a]) })
	t.global.CompressionOrder = order
}

func getCompressionOrder(t *target) []string {
	var names []string
	for _, wire := range t.global.CompressionOrder {
		for _, a := range algorithms {
			if a.wire == wire {
				names = append(names, a.name)
			}
		}
	}
	return []string{strings.Join(names, ":")}
}
