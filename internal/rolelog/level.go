package rolelog

import (
	"log/slog"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxLine is the longest line in bytes, with its newline: PIPE_BUF of Linux.
const MaxLine = 4096

// Level translates ocserv's log-level (0-9) into the least level shown.
func Level(ocserv int) slog.Level {
	if ocserv >= 3 {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// priority is syslog's number (RFC 5424 section 6.2.1) for a level.
func priority(l slog.Level) byte {
	switch {
	case l >= slog.LevelError:
		return '3'
	case l >= slog.LevelWarn:
		return '4'
	case l >= slog.LevelInfo:
		return '6'
	}
	return '7'
}

func word(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "error"
	case l >= slog.LevelWarn:
		return "warning"
	case l >= slog.LevelInfo:
		return "info"
	}
	return "debug"
}

// Split takes a child's line apart. ok says whether it began with a priority;
// a line without one is an error and returned whole.
func Split(line string) (level slog.Level, text string, ok bool) {
	if len(line) < 3 || line[0] != '<' || line[2] != '>' || line[1] < '0' || line[1] > '7' {
		return slog.LevelError, line, false
	}
	switch line[1] {
	case '7':
		level = slog.LevelDebug
	case '5', '6':
		level = slog.LevelInfo
	case '4':
		level = slog.LevelWarn
	default:
		level = slog.LevelError
	}
	return level, line[3:], true
}

// Clean makes foreign text fit for a terminal and a log: a tab becomes a space;
// what does not print otherwise, and what is no UTF-8, a question mark.
func Clean(s string) string {
	if !strings.ContainsFunc(s, unprintable) {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case unprintable(r):
			return '?'
		}
		return r
	}, s)
}

func unprintable(r rune) bool { return r == utf8.RuneError || r != ' ' && !unicode.IsPrint(r) }
