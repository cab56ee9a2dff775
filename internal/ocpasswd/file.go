package ocpasswd

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a password file. A longer line is kept but is nobody's.
const (
	MaxFile = 32 << 20 // bytes of a file
	MaxLine = 4096     // bytes of a line that is read
	MaxName = 63       // bytes of a user or group name: ocserv's buffers are of 64
)

// Causes of a refusal.
var (
	ErrTooLarge = errors.New("password file too large")
	ErrBadName  = errors.New("not a valid name")
	ErrBadHash  = errors.New("not a valid password hash")
)

// Entry is one user of a password file.
type Entry struct {
	User   string
	Groups []string // names of one byte, such as the placeholder *, are left out as ocserv does
	Hash   string   // without the ! of a locked user; empty: no password
	Locked bool
}

// File is a password file in memory. The zero value is an empty file.
type File struct {
	lines []string // each with its line end, if it has one
}

// Parse cuts a file into lines. It keeps all of them; its only error is ErrTooLarge.
func Parse(b []byte) (*File, error) {
	if len(b) > MaxFile {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(b), MaxFile)
	}
	f := &File{lines: make([]string, 0, bytes.Count(b, []byte("\n"))+1)}
	for line := range bytes.Lines(b) {
		f.lines = append(f.lines, string(line))
	}
	return f, nil
}

// Bytes returns the file as it is to be written.
func (f *File) Bytes() []byte {
	var b bytes.Buffer
	for _, l := range f.lines {
		b.WriteString(l)
	}
	return b.Bytes()
}

// Lookup returns the user's entry: the first complete line with that name.
func (f *File) Lookup(user string) (Entry, bool) {
	for _, l := range f.lines {
		if name, groups, hash, ok := fields(l); ok && name == user {
			return entry(name, groups, hash), true
		}
	}
	return Entry{}, false
}

// Groups returns the names of all groups in the file, in order of appearance:
// what auto-select-group offers.
func (f *File) Groups() []string {
	var all []string
	seen := map[string]bool{}
	for _, l := range f.lines {
		_, groups, _, ok := fields(l)
		if !ok {
			continue
		}
		for _, g := range groupNames(groups) {
			if !seen[g] {
				seen[g] = true
				all = append(all, g)
			}
		}
	}
	return all
}

// Users returns the names that have a complete line, in order of appearance.
func (f *File) Users() []string {
	var all []string
	seen := map[string]bool{}
	for _, l := range f.lines {
		if name, _, _, ok := fields(l); ok && !seen[name] {
			seen[name] = true
			all = append(all, name)
		}
	}
	return all
}

// Set gives a user a hash, and groups unless groups is empty (then the user
// keeps those of before; a new user has none). The user's line stays in its
// place, a new one goes to the end. A locked user is unlocked by it, as by
// ocpasswd.
func (f *File) Set(user, groups, hash string) error {
	if err := CheckNames(user, groups); err != nil {
		return err
	}
	if _, err := parseHash(hash); err != nil {
		return err
	}
	kept := f.lines[:0:0]
	done := false
	for _, l := range f.lines {
		name, old, _, ok := fields(l)
		if !ok || name != user {
			kept = append(kept, l)
			continue
		}
		if done {
			continue
		}
		if groups == "" {
			groups = old
		}
		kept = append(kept, line(user, groups, hash))
		done = true
	}
	f.lines = kept
	if !done {
		f.append(line(user, groups, hash))
	}
	return nil
}

// Lock puts a ! before the user's hash, unless there is one. It reports
// whether the user exists.
func (f *File) Lock(user string) bool {
	return f.rewrite(user, func(hash string) string {
		if strings.HasPrefix(hash, "!") {
			return hash
		}
		return "!" + hash
	})
}

// Unlock removes the ! before the user's hash. It reports whether the user exists.
// Only one is removed: `!!` says in other files that no password was ever set.
func (f *File) Unlock(user string) bool {
	return f.rewrite(user, func(hash string) string { return strings.TrimPrefix(hash, "!") })
}

// Delete removes the user's lines. It reports whether there were any.
func (f *File) Delete(user string) bool {
	kept := f.lines[:0:0]
	for _, l := range f.lines {
		if name, _, _, ok := fields(l); !ok || name != user {
			kept = append(kept, l)
		}
	}
	found := len(kept) < len(f.lines)
	f.lines = kept
	return found
}

// rewrite changes the hash in every line of a user and nothing else of it.
func (f *File) rewrite(user string, change func(hash string) string) bool {
	found := false
	for i, l := range f.lines {
		name, groups, hash, ok := fields(l)
		if !ok || name != user {
			continue
		}
		found = true
		start := len(name) + 1 + len(groups) + 1
		f.lines[i] = l[:start] + change(hash) + l[start+len(hash):]
	}
	return found
}

// append adds a line after the last one, which may lack its line end.
func (f *File) append(l string) {
	if n := len(f.lines); n > 0 && !strings.HasSuffix(f.lines[n-1], "\n") {
		f.lines[n-1] += "\n"
	}
	f.lines = append(f.lines, l)
}

// fields takes a line apart. ok is false for comments, blanks and lines that
// have no three fields. A fourth field and what follows is not looked at.
func fields(l string) (user, groups, hash string, ok bool) {
	if len(l) > MaxLine || strings.HasPrefix(l, "#") {
		return "", "", "", false
	}
	l = strings.TrimRight(l, " \t\r\n")
	user, l, _ = strings.Cut(l, ":")
	groups, hash, ok = strings.Cut(l, ":")
	hash, _, _ = strings.Cut(hash, ":")
	return user, groups, hash, ok && user != ""
}

func line(user, groups, hash string) string {
	if groups == "" {
		groups = "*"
	}
	return user + ":" + groups + ":" + hash + "\n"
}

func entry(user, groups, hash string) Entry {
	e := Entry{User: user, Groups: groupNames(groups)}
	e.Hash, e.Locked = strings.CutPrefix(hash, "!")
	return e
}

func groupNames(list string) []string {
	var names []string
	for g := range strings.SplitSeq(list, ",") {
		if g = strings.TrimSpace(g); len(g) > 1 && len(g) <= MaxName {
			names = append(names, g)
		}
	}
	return names
}

// CheckNames tells whether Set takes this user and these comma-separated
// groups (empty: none named). Its error wraps ErrBadName.
func CheckNames(user, groups string) error {
	if err := checkName(user); err != nil {
		return fmt.Errorf("user: %w", err)
	}
	if groups == "" {
		return nil
	}
	for g := range strings.SplitSeq(groups, ",") {
		if err := checkName(g); err != nil {
			return fmt.Errorf("group: %w", err)
		}
	}
	return nil
}

// checkName refuses what would not be read back as the same name, or not be
// usable at a login.
func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: empty", ErrBadName)
	case len(name) > MaxName:
		return fmt.Errorf("%w: longer than %d bytes", ErrBadName, MaxName)
	case name[0] == '#' || name[0] == '!':
		return fmt.Errorf("%w: begins with %c", ErrBadName, name[0])
	case strings.Contains(name, ":"):
		return fmt.Errorf("%w: holds a colon", ErrBadName)
	case strings.TrimSpace(name) != name:
		return fmt.Errorf("%w: begins or ends with a blank", ErrBadName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("%w: holds a control character or is not UTF-8", ErrBadName)
	}
	return nil
}
