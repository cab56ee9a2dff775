package occtl

import (
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// shortID is how much of a session's id people are shown.
const shortID = 6

func short(id string) string { return id[:min(shortID, len(id))] }

// clean makes foreign text harmless for a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// none is what stands for an empty user or group.
func none(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

func vhostName(s string) string {
	if s == "" {
		return "default"
	}
	return s
}

func date(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format("2006-01-02 15:04")
}

// interval is a time span in the few characters of a column.
func interval(d time.Duration) string {
	n := int64(d / time.Second)
	switch {
	case d < 0:
		return "   ?   "
	case n <= 60:
		return fmt.Sprintf("%5ds", n)
	case n < 3600:
		return fmt.Sprintf("%2dm:%02ds", n/60, n%60)
	case n < 48*3600:
		return fmt.Sprintf("%2dh:%02dm", n/3600, n%3600/60)
	}
	return fmt.Sprintf("%2ddays", n/(24*3600))
}

func seconds(f float64) time.Duration { return time.Duration(f * float64(time.Second)) }

// human is a number of bytes.
func human(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%d bytes", n)
	}
	return scaled(float64(n))
}

// scaled is at least a kB.
func scaled(f float64) string {
	for _, unit := range []string{"kB", "MB", "GB"} {
		f /= 1000
		if f < 1000 || unit == "GB" {
			return fmt.Sprintf("%.1f %s", f, unit)
		}
	}
	panic("occtl: internal error: no unit")
}

// rate is bytes in a time, per second.
func rate(n uint64, d time.Duration) string {
	if d < time.Second {
		d = time.Second
	}
	return human(uint64(float64(n)/d.Seconds())) + "/sec"
}

// limit is a bandwidth that a user may have.
func limit(n uint64) string {
	if n == 0 {
		return ""
	}
	return scaled(float64(n)) + "/s"
}

func truth(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// cipher is the part of a DTLS suite's description that a column has room for.
func cipher(suite string) string {
	if suite == "" {
		return "(no-dtls)"
	}
	return suite[max(strings.LastIndexByte(suite, '('), 0):]
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
