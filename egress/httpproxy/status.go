package httpproxy

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"rocserv/internal/secret"
)

// Login is who we are to the proxy; the zero value is nobody.
type Login struct {
	User             string      // Basic
	Password, Bearer secret.Text // with the user, or instead of both
}

// header is the value of Proxy-Authorization; empty: none.
func (l Login) header() string {
	switch {
	case !l.Bearer.IsZero():
		return "Bearer " + l.Bearer.Reveal()
	case l.User != "" || !l.Password.IsZero():
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(l.User+":"+l.Password.Reveal()))
	}
	return ""
}

// Status is a proxy's answer that is no connection.
type Status struct {
	Code        int
	ProxyStatus string // header Proxy-Status
	Squid       string // header X-Squid-Error
}

func (s *Status) Error() string {
	text := fmt.Sprintf("the HTTP proxy says: %d", s.Code)
	if e := s.reason(); e != "" {
		text += " (" + e + ")"
	}
	return text
}

// Own says whether it is the proxy that fails, whatever the destination.
func (s *Status) Own() bool {
	switch s.Code {
	case 400, 401, 405, 407, 426, 429, 501, 505:
		return true
	}
	return false
}

// reason is the proxy's word for what went wrong, if it has one.
func (s *Status) reason() string {
	if _, rest, ok := strings.Cut(s.ProxyStatus, "error="); ok {
		return word(rest)
	}
	return word(s.Squid)
}

// word is the token at the start of a header that the proxy wrote.
func word(s string) string {
	end := 0
	for end < len(s) && end < 40 && (s[end] == '_' || s[end] >= 'a' && s[end] <= 'z' || s[end] >= 'A' && s[end] <= 'Z') {
		end++
	}
	return s[:end]
}

// Unwrap is the error that the host's own socket would have had.
func (s *Status) Unwrap() error {
	if errno, ok := proxyErrors[s.reason()]; ok {
		return errno
	}
	if s.reason() == "ERR_CONNECT_FAIL" {
		// Squid adds the errno. Only those that a connect has are believed.
		_, number, _ := strings.Cut(s.Squid, " ")
		n, _ := strconv.Atoi(strings.TrimSpace(number))
		switch errno := syscall.Errno(n); errno {
		case syscall.ECONNREFUSED, syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ETIMEDOUT:
			return errno
		}
	}
	switch s.Code {
	case 403, 451, 511:
		return syscall.EACCES
	case 504, 408:
		return syscall.ETIMEDOUT
	}
	return syscall.EHOSTUNREACH
}

// proxyErrors are the types of RFC 9209 section 2.3 that speak of connecting,
// and squid's.
var proxyErrors = map[string]syscall.Errno{
	"connection_refused":        syscall.ECONNREFUSED,
	"connection_timeout":        syscall.ETIMEDOUT,
	"connection_terminated":     syscall.ECONNREFUSED,
	"destination_ip_unroutable": syscall.ENETUNREACH,
	"destination_unavailable":   syscall.EHOSTUNREACH,
	"destination_not_found":     syscall.EHOSTUNREACH,
	"destination_ip_prohibited": syscall.EACCES,
	"http_request_denied":       syscall.EACCES,
	"dns_error":                 syscall.EHOSTUNREACH,
	"dns_timeout":               syscall.EHOSTUNREACH,
	"ERR_ACCESS_DENIED":         syscall.EACCES,
	"ERR_DNS_FAIL":              syscall.EHOSTUNREACH,
	"ERR_CACHE_ACCESS_DENIED":   syscall.EACCES,
	"ERR_GATEWAY_FAILURE":       syscall.EHOSTUNREACH,
	"ERR_SECURE_CONNECT_FAIL":   syscall.ECONNREFUSED,
	"ERR_CANNOT_FORWARD":        syscall.EHOSTUNREACH,
	"ERR_FORWARDING_DENIED":     syscall.EACCES,
	"ERR_SOCKET_FAILURE":        syscall.EHOSTUNREACH,
	"ERR_TOO_BIG":               syscall.EACCES,
	"ERR_UNSUP_REQ":             syscall.EACCES,
	"ERR_READ_TIMEOUT":          syscall.ETIMEDOUT,
	"ERR_LIFETIME_EXP":          syscall.ETIMEDOUT,
}
