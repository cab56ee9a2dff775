package quickstart

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"rocserv/internal/config"
	"rocserv/internal/ocpasswd"
)

// MakeState makes what is missing of the state, and prints to out how to log
// in. It is for a process that ends afterwards: this one has held the key and
// the password.
func MakeState(o Options, out io.Writer) error { return makeState(o, thisHost(), out) }

// state is the state while it is looked at and made.
type state struct {
	files  Files
	host   *host
	listen *listen // that was asked for; nil: none
	config *config.Config

	made     bool   // all of it, by this start
	user     string // to log in as; empty: nobody is known
	password string // of user, if this start made it
}

func makeState(o Options, h *host, out io.Writer) error {
	files, err := paths(o, h.env)
	if err != nil {
		return err
	}
	s := &state{files: files, host: h}
	if o.Listen != "" {
		l, err := parseListen(o.Listen)
		if err != nil {
			return err
		}
		if err := checkPort(l.port, h); err != nil {
			return err
		}
		s.listen = &l
	}
	complete, err := s.look()
	if err != nil {
		return err
	}
	if !complete {
		if err := s.make(); err != nil {
			return err
		}
	}
	if err := checkPort(s.config.Global.TCPPort, h); err != nil {
		return err
	}
	return s.print(out)
}

// look reads the configuration, if there is one, and tells whether all that it
// names in the directory is there and it listens where it should.
func (s *state) look() (complete bool, err error) {
	b, err := os.ReadFile(s.files.Config)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, place(s.files, err)
	}
	if s.config, err = understood(s.files, b); err != nil {
		return false, err
	}
	if s.listen != nil && !s.listens() {
		return false, nil
	}
	for _, path := range s.needed() {
		there, err := exists(path)
		if err != nil {
			return false, place(s.files, err)
		}
		if !there {
			return false, nil
		}
	}
	return true, nil
}

// listens tells whether the configuration is what --listen asks for.
func (s *state) listens() bool {
	g := &s.config.Global
	want := []string{s.listen.host}
	if s.listen.host == "" {
		want = nil
	}
	return g.TCPPort == s.listen.port && (g.UDPPort == 0 || g.UDPPort == s.listen.port) &&
		strings.Join(g.Listen, ",") == strings.Join(want, ",")
}

// configured is where the configuration has the server listen, the first address of several.
func (s *state) configured() listen {
	l := listen{port: s.config.Global.TCPPort}
	if hosts := s.config.Global.Listen; len(hosts) > 0 {
		l.host = hosts[0]
	}
	return l
}

// needed are the files of the directory that the configuration names.
func (s *state) needed() []string {
	named := []string{s.files.Run}
	for _, pair := range s.config.Vhosts[0].Keys {
		if pair.Key == s.files.Key {
			named = append(named, s.files.Key)
		}
		if pair.Cert == s.files.Cert {
			named = append(named, s.files.Cert)
		}
	}
	if passwordFile(s.config) == s.files.Users {
		named = append(named, s.files.Users)
	}
	return named
}

// make makes what is missing, while other starts wait.
func (s *state) make() error {
	p, err := s.plan() // before there is anything
	if err != nil {
		return err
	}
	unlock, err := lock(s.files)
	if err != nil {
		return err
	}
	defer unlock()
	// Another start may have made it meanwhile.
	if complete, err := s.look(); complete || err != nil {
		return err
	}
	if s.config == nil {
		return s.makeAll(p)
	}
	return s.makeMissing()
}

// plan is a configuration that is not yet in place.
type plan struct {
	listen listen
	text   []byte
	config *config.Config
}

func (s *state) plan() (plan, error) {
	p := plan{listen: listen{port: defaultPort}}
	if s.listen != nil {
		p.listen = *s.listen
	}
	p.text = newConf(s.files, p.listen, s.host.pool4(), pool6())
	var err error
	p.config, err = checkMade(s.files, p.text)
	return p, err
}

// makeAll is for a directory without a configuration.
func (s *state) makeAll(p plan) error {
	if err := s.makeKeys(p.listen); err != nil {
		return err
	}
	if err := s.makeRun(); err != nil {
		return err
	}
	if err := write(s.files.Config, p.text, false); err != nil {
		return place(s.files, err)
	}
	s.config, s.made = p.config, true
	return s.makeUser()
}

// makeMissing is for one whose configuration is there.
func (s *state) makeMissing() error {
	if s.listen != nil && !s.listens() {
		if err := s.relisten(); err != nil {
			return err
		}
	}
	for _, path := range s.needed() {
		var err error
		switch path {
		case s.files.Key, s.files.Cert:
			err = s.makeKeys(s.configured())
		case s.files.Run:
			err = s.makeRun()
		case s.files.Users:
			err = s.makeUser()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// relisten changes the configuration for --listen.
func (s *state) relisten() error {
	b, err := os.ReadFile(s.files.Config)
	if err != nil {
		return place(s.files, err)
	}
	b = relisten(b, *s.listen)
	c, err := understood(s.files, b)
	if err != nil {
		return err
	}
	s.config = c
	if !s.listens() {
		return fmt.Errorf("%w: %s does not say where to listen in a way that --listen can change; change it yourself",
			ErrListen, s.files.Config)
	}
	if err := write(s.files.Config, b, true); err != nil {
		return place(s.files, err)
	}
	return nil
}

// makeKeys makes the key and the certificate. A key without a certificate is
// what a crash leaves; a certificate without its key is somebody's doing.
func (s *state) makeKeys(l listen) error {
	key, err := os.ReadFile(s.files.Key)
	if errors.Is(err, fs.ErrNotExist) {
		if there, _ := exists(s.files.Cert); there {
			return fmt.Errorf("%w: %s is there but its key %s is not; remove it to have both made anew",
				ErrState, s.files.Cert, s.files.Key)
		}
		if key, err = newKey(); err != nil {
			return err
		}
		err = write(s.files.Key, key, false)
	}
	if err != nil {
		return place(s.files, err)
	}
	defer clear(key)
	if there, err := exists(s.files.Cert); there || err != nil {
		return err
	}
	k, err := parseKey(key)
	if err != nil {
		return fmt.Errorf("%w: %s: %w; remove it to have one made anew", ErrState, s.files.Key, err)
	}
	cert, err := newCert(k, s.host, l)
	if err != nil {
		return err
	}
	if err := write(s.files.Cert, cert, false); err != nil {
		return place(s.files, err)
	}
	return nil
}

func (s *state) makeRun() error {
	if err := os.MkdirAll(s.files.Run, 0o700); err != nil {
		return place(s.files, err)
	}
	return nil
}

// makeUser makes the users file with one user.
func (s *state) makeUser() error {
	if there, err := exists(s.files.Users); err != nil {
		return place(s.files, err)
	} else if there {
		return nil
	}
	user, password := userName(s.host.env), newPassword()
	hash, err := ocpasswd.Hash(ocpasswd.SHA256, []byte(password))
	if err != nil {
		return fmt.Errorf("hash the password: %w", err)
	}
	var f ocpasswd.File
	if err := f.Set(user, "", hash); err != nil {
		return fmt.Errorf("make the users file: %w", err)
	}
	if err := write(s.files.Users, f.Bytes(), false); err != nil {
		return place(s.files, err)
	}
	s.user, s.password = user, password
	return nil
}

// userName is the person's name on this host, if it can be one here.
func userName(env func(string) string) string {
	for _, name := range []string{env("USER"), env("LOGNAME")} {
		plain := !strings.ContainsFunc(name, func(r rune) bool {
			return r != '-' && r != '.' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
		})
		if plain && name != "" && name[0] != '-' && name[0] != '.' && len(name) <= 32 {
			return name
		}
	}
	return "vpn"
}

// newPassword returns 80 random bits as 16 characters that people do not
// mistake for each other (Crockford's base 32: no i, l, o, u), in fours.
func newPassword() string {
	const digits = "0123456789abcdefghjkmnpqrstvwxyz"
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	var s strings.Builder
	for i, c := range b {
		if i > 0 && i%4 == 0 {
			s.WriteByte('-')
		}
		s.WriteByte(digits[c&31])
	}
	return s.String()
}

// certificate returns the server's, from where the configuration says.
func (s *state) certificate() (*x509.Certificate, error) {
	path := s.config.Vhosts[0].Keys[0].Cert
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, place(s.files, err)
	}
	c, err := readCert(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrState, path, err)
	}
	return c, nil
}
