package blocklist

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
)

// MaxNames bounds a Set: 4 MB in every worker whose user has it.
const MaxNames = 500_000

// ErrTooLong is a list of more than MaxNames.
var ErrTooLong = errors.New("more than 500000 names")

// Set is hashes of names, sorted, eight bytes each.
type Set []byte

const hashLen = 8

// Len is how many names there are.
func (s Set) Len() int { return len(s) / hashLen }

// Has says whether a name, in lower case and without a dot at the end, or a
// domain it is in, is in the set.
func (s Set) Has(name string) bool {
	if len(s) == 0 {
		return false
	}
	for h := range hashes(name) {
		if s.find(h) {
			return true
		}
	}
	return false
}

func (s Set) find(h uint64) bool {
	low, high := 0, s.Len()
	for low < high {
		middle := (low + high) / 2
		switch at := binary.BigEndian.Uint64(s[middle*hashLen:]); {
		case at == h:
			return true
		case at < h:
			low = middle + 1
		default:
			high = middle
		}
	}
	return false
}

// FNV-1a, 64 bits.
const (
	offset = 14695981039346656037
	prime  = 1099511628211
)

// hashes gives a hash for each domain the name is in, the shortest first.
func hashes(name string) func(yield func(uint64) bool) {
	return func(yield func(uint64) bool) {
		h := uint64(offset)
		for end := len(name); end > 0; {
			start := strings.LastIndexByte(name[:end], '.') + 1
			for _, c := range []byte(name[start:end]) {
				h = (h ^ uint64(c)) * prime
			}
			h = (h ^ '.') * prime
			if !yield(h) {
				return
			}
			end = start - 1
		}
	}
}

// Builder collects names.
type Builder struct {
	list  []uint64
	Bad   int // lines that are no names
	First int // of them the first, from 1
}

// Add takes a domain.
func (b *Builder) Add(domain string) bool {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	if !isDomain(domain) {
		return false
	}
	var whole uint64
	for h := range hashes(domain) {
		whole = h
	}
	b.list = append(b.list, whole)
	return true
}

// isDomain is generous: lists have names with underscores.
func isDomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	_, err := netip.ParseAddr(s)
	return err != nil
}

// Parse takes the lines of a file.
func (b *Builder) Parse(text []byte) error {
	number := 0
	for line := range bytes.Lines(text) {
		number++
		if i := bytes.IndexByte(line, '#'); i >= 0 {
			line = line[:i]
		}
		words := strings.Fields(string(line))
		if len(words) == 0 || strings.HasPrefix(words[0], "!") {
			continue
		}
		if !b.line(words) {
			if b.Bad++; b.First == 0 {
				b.First = number
			}
		}
		if len(b.list) > MaxNames {
			return ErrTooLong
		}
	}
	return nil
}

func (b *Builder) line(words []string) bool {
	if _, err := netip.ParseAddr(words[0]); err == nil { // hosts(5)
		good := len(words) > 1
		for _, name := range words[1:] {
			if strings.Contains(name, ".") {
				good = b.Add(name) && good
			}
		}
		return good
	}
	name := words[0]
	if inner, ok := strings.CutPrefix(name, "||"); ok {
		name = strings.TrimSuffix(inner, "^")
	}
	return len(words) == 1 && b.Add(strings.TrimPrefix(name, "*."))
}

// Set is what was collected.
func (b *Builder) Set() Set {
	slices.Sort(b.list)
	b.list = slices.Compact(b.list)
	s := make(Set, 0, len(b.list)*hashLen)
	for _, h := range b.list {
		s = binary.BigEndian.AppendUint64(s, h)
	}
	return s
}
