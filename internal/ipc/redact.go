package ipc

import (
	"fmt"
	"io"
	"log/slog"

	"rocserv/internal/secret"
)

// Messages with secrets, and those that have one of these inside, print
// "[redacted]", whatever prints them. Which they are test/house knows from the
// names of fields. The generated String is not covered: it is for tests.

func (*AuthCont) Format(f fmt.State, _ rune)        { io.WriteString(f, secret.Redacted) }
func (*AuthCookieReq) Format(f fmt.State, _ rune)   { io.WriteString(f, secret.Redacted) }
func (*AuthInit) Format(f fmt.State, _ rune)        { io.WriteString(f, secret.Redacted) }
func (*AuthReply) Format(f fmt.State, _ rune)       { io.WriteString(f, secret.Redacted) }
func (*Browse) Format(f fmt.State, _ rune)          { io.WriteString(f, secret.Redacted) }
func (*Browsed) Format(f fmt.State, _ rune)         { io.WriteString(f, secret.Redacted) }
func (*Browser) Format(f fmt.State, _ rune)         { io.WriteString(f, secret.Redacted) }
func (*EgressPolicy) Format(f fmt.State, _ rune)    { io.WriteString(f, secret.Redacted) }
func (*HelperAnswer) Format(f fmt.State, _ rune)    { io.WriteString(f, secret.Redacted) }
func (*HelperBegin) Format(f fmt.State, _ rune)     { io.WriteString(f, secret.Redacted) }
func (*HelperBrowse) Format(f fmt.State, _ rune)    { io.WriteString(f, secret.Redacted) }
func (*ProfileReq) Format(f fmt.State, _ rune)      { io.WriteString(f, secret.Redacted) }
func (*ResumeRep) Format(f fmt.State, _ rune)       { io.WriteString(f, secret.Redacted) }
func (*ResumeReq) Format(f fmt.State, _ rune)       { io.WriteString(f, secret.Redacted) }
func (*SecmSessionOpen) Format(f fmt.State, _ rune) { io.WriteString(f, secret.Redacted) }
func (*SessionConfig) Format(f fmt.State, _ rune)   { io.WriteString(f, secret.Redacted) }
func (*WayOut) Format(f fmt.State, _ rune)          { io.WriteString(f, secret.Redacted) }

func (*AuthCont) LogValue() slog.Value        { return redacted }
func (*AuthCookieReq) LogValue() slog.Value   { return redacted }
func (*AuthInit) LogValue() slog.Value        { return redacted }
func (*AuthReply) LogValue() slog.Value       { return redacted }
func (*Browse) LogValue() slog.Value          { return redacted }
func (*Browsed) LogValue() slog.Value         { return redacted }
func (*Browser) LogValue() slog.Value         { return redacted }
func (*EgressPolicy) LogValue() slog.Value    { return redacted }
func (*HelperAnswer) LogValue() slog.Value    { return redacted }
func (*HelperBegin) LogValue() slog.Value     { return redacted }
func (*HelperBrowse) LogValue() slog.Value    { return redacted }
func (*ProfileReq) LogValue() slog.Value      { return redacted }
func (*ResumeRep) LogValue() slog.Value       { return redacted }
func (*ResumeReq) LogValue() slog.Value       { return redacted }
func (*SecmSessionOpen) LogValue() slog.Value { return redacted }
func (*SessionConfig) LogValue() slog.Value   { return redacted }
func (*WayOut) LogValue() slog.Value          { return redacted }

func (*AuthCont) MarshalJSON() ([]byte, error)        { return redactedJSON, nil }
func (*AuthCookieReq) MarshalJSON() ([]byte, error)   { return redactedJSON, nil }
func (*AuthInit) MarshalJSON() ([]byte, error)        { return redactedJSON, nil }
func (*AuthReply) MarshalJSON() ([]byte, error)       { return redactedJSON, nil }
func (*Browse) MarshalJSON() ([]byte, error)          { return redactedJSON, nil }
func (*Browsed) MarshalJSON() ([]byte, error)         { return redactedJSON, nil }
func (*Browser) MarshalJSON() ([]byte, error)         { return redactedJSON, nil }
func (*EgressPolicy) MarshalJSON() ([]byte, error)    { return redactedJSON, nil }
func (*HelperAnswer) MarshalJSON() ([]byte, error)    { return redactedJSON, nil }
func (*HelperBegin) MarshalJSON() ([]byte, error)     { return redactedJSON, nil }
func (*HelperBrowse) MarshalJSON() ([]byte, error)    { return redactedJSON, nil }
func (*ProfileReq) MarshalJSON() ([]byte, error)      { return redactedJSON, nil }
func (*ResumeRep) MarshalJSON() ([]byte, error)       { return redactedJSON, nil }
func (*ResumeReq) MarshalJSON() ([]byte, error)       { return redactedJSON, nil }
func (*SecmSessionOpen) MarshalJSON() ([]byte, error) { return redactedJSON, nil }
func (*SessionConfig) MarshalJSON() ([]byte, error)   { return redactedJSON, nil }
func (*WayOut) MarshalJSON() ([]byte, error)          { return redactedJSON, nil }

var (
	redacted     = slog.StringValue(secret.Redacted)
	redactedJSON = []byte(`"` + secret.Redacted + `"`)
)
