package passwd

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"io"
	"net/url"

	"rsc.io/qr"

	"rocserv/internal/oath"
	"rocserv/internal/ocpasswd"
)

// Enrol gives a user a token for one-time passwords by time, in the file of
// `plain[otp=FILE]`, and prints what an authenticator application needs: a QR
// code, and the same as text. The secret is shown this once.
func Enrol(file, user, issuer string, out io.Writer) error {
	if err := ocpasswd.CheckNames(user, ""); err != nil {
		return err
	}
	secret := make([]byte, oath.SecretSize)
	if _, err := rand.Read(secret); err != nil {
		return err
	}
	defer clear(secret)
	if err := oath.Edit(file, true, func(f *oath.File) (bool, error) { return true, f.Set(user, secret) }); err != nil {
		return err
	}
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)
	// https://github.com/google/google-authenticator/wiki/Key-Uri-Format
	link := fmt.Sprintf("otpauth://totp/%s:%s?secret=%s&issuer=%s", url.PathEscape(issuer), url.PathEscape(user), text, url.QueryEscape(issuer))
	code, err := qr.Encode(link, qr.L)
	if err != nil {
		return fmt.Errorf("QR code: %w", err)
	}
	fmt.Fprintf(out, "Scan this with an authenticator application, or type the secret into it. It is shown only now.\n\n%s\n  user    %s\n  secret  %s\n  type    by time, 30 seconds, 6 digits\n  link    %s\n",
		drawCode(code), user, text, link)
	return nil
}

// Disenrol removes a user's tokens.
func Disenrol(file, user string, out io.Writer) error {
	found := false
	err := oath.Edit(file, false, func(f *oath.File) (bool, error) {
		found = f.Delete(user)
		return found, nil
	})
	if err == nil && !found {
		fmt.Fprintf(out, "note: user '%s' has no token in '%s'\n", user, file)
	}
	return err
}

// drawCode draws a QR code for a terminal, two rows of it in one line of text.
// The quiet zone around it is part of what readers need (ISO/IEC 18004, 6.3.8:
// four modules; two are enough on a dark terminal).
func drawCode(c *qr.Code) []byte {
	const quiet = 2
	var b []byte
	for y := -quiet; y < c.Size+quiet; y += 2 {
		for x := -quiet; x < c.Size+quiet; x++ {
			// Light modules are drawn, for most terminals are dark.
			switch upper, lower := !c.Black(x, y), !c.Black(x, y+1); {
			case upper && lower:
				b = append(b, "█"...)
			case upper:
				b = append(b, "▀"...)
			case lower:
				b = append(b, "▄"...)
			default:
				b = append(b, ' ')
			}
		}
		b = append(b, '\n')
	}
	return b
}
