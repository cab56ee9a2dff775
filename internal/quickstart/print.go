package quickstart

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"rocserv/internal/ocpasswd"
)

// print tells a person who has never seen the project what there is now and
// what to type.
func (s *state) print(out io.Writer) error {
	cert, err := s.certificate()
	if err != nil {
		return err
	}
	users := passwordFile(s.config)
	if s.user == "" {
		s.user = firstUser(users)
	}
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("This is a VPN server for OpenConnect and AnyConnect clients. It needs no root and no tun device:")
	p("what clients send leaves this host as the traffic of an ordinary program.")
	p("")
	if s.made {
		p("Its state was made in %s", s.files.Dir)
	} else {
		p("Its state is in %s", s.files.Dir)
	}
	p("(to change how it works, edit %s)", s.files.Config)
	p("")
	p("To connect, type on another machine:")
	p("")
	p("  sudo openconnect %s--servercert=%s %s", userOption(s.user), pin(cert), quoted(s.address()))
	p("")
	s.printLogin(p, users)
	if left := cert.NotAfter.Sub(s.host.now()); left < nearlyEnd && cert.Issuer.String() == cert.Subject.String() {
		p("")
		p("The certificate ends on %s. Remove %s and %s to have new ones made.", cert.NotAfter.Format("2006-01-02"), s.files.Cert, s.files.Key)
		p("Clients then need the new pin.")
	}
	p("")
	p("The address is the first this host knows of itself: take the one by which others reach it.")
	p("Clients with a window of their own (Cisco Secure Client, OpenConnect-GUI, the apps for phones)")
	p("want the same address, user and password; they ask whether to trust the certificate. Ctrl-C ends the server.")
	_, err = io.WriteString(out, b.String())
	if err != nil {
		return fmt.Errorf("print the login line: %w", err)
	}
	return nil
}

// printLogin says who can log in, and how to set a password.
func (s *state) printLogin(p func(format string, args ...any), users string) {
	user := s.user
	switch {
	case users == "": // the configuration has another way to log in
		return
	case s.password != "":
		p("  user      %s", user)
		p("  password  %s", s.password)
		p("")
		p("The password is shown only now: the server keeps its hash. To set another one:")
	case user != "":
		p("The user is %s; the password was shown when it was made. To set another one:", user)
	default:
		p("Nobody can log in yet. To make a user:")
		user = userName(s.host.env)
	}
	p("")
	p("  rocserv passwd -c %s %s", quoted(users), quoted(user))
}

// address is where a client is likely to reach the server.
func (s *state) address() string {
	host := "localhost"
	if s.host.name != "" {
		host = s.host.name
	}
	for i, a := range s.host.addresses() {
		if i == 0 || a.Is4() { // the first, but rather an IPv4 address
			host = a.String()
		}
		if a.Is4() {
			break
		}
	}
	l := s.configured()
	if a, err := netip.ParseAddr(l.host); l.host != "" && (err != nil || !a.IsUnspecified()) {
		host = l.host
	}
	return net.JoinHostPort(host, strconv.Itoa(l.port))
}

func userOption(user string) string {
	if user == "" {
		return ""
	}
	return "--user=" + quoted(user) + " "
}

// firstUser is the first name in a users file, or "" if that cannot be told.
func firstUser(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	f, err := ocpasswd.Parse(b)
	if err != nil || len(f.Users()) == 0 {
		return ""
	}
	return f.Users()[0]
}

// quoted is a word for a shell.
func quoted(s string) string {
	plain := !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("-._/@%+=:,", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
	if plain && s != "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
