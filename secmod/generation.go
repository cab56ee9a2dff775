package secmod

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"rocserv/internal/config"
	"rocserv/internal/ipc"
	"rocserv/secmod/attempts"
	"rocserv/secmod/keys"
)

// generation is one configuration with what its files held when it was loaded.
// It does not change; the users file is read again when it does (plain.go).
type generation struct {
	number uint64
	config *config.Config
	vhosts map[string]*vhost // by name, "" the default one
	keys   map[uint32]*keys.Key

	helpers map[string]*helperLink // by method
}

// vhost is a virtual host as sec-mod needs it.
type vhost struct {
	*config.Vhost
	keys    []uint32 // of generation.keys, in order
	ways    []way    // to log in; the first that fits is taken
	clients *clients // who client certificates may be of; nil: there are none
	public  *ipc.VhostKeys
	exposed []netip.Prefix     // networks behind users
	account *remote            // who is told of sessions; nil: nobody
	relays  map[string]*remote // kkdcp, by path
}

// generations are the configuration in effect and the one before. A worker
// that was named while main took over a new one may have the chains of either.
type generations struct {
	current, previous *generation // previous is nil at first
	nextKey           uint32
}

// key returns the key of that index if the virtual host has it; else nil.
func (g *generations) key(vhost string, index uint32) *keys.Key {
	if g == nil {
		return nil
	}
	for _, gen := range [...]*generation{g.current, g.previous} {
		if gen == nil || gen.vhosts[vhost] == nil {
			continue
		}
		for _, i := range gen.vhosts[vhost].keys {
			if i == index {
				return gen.keys[i]
			}
		}
	}
	return nil
}

// have reports whether there is a virtual host of that name.
func (g *generations) have(vhost string) bool {
	if g == nil {
		return false
	}
	return g.current.vhosts[vhost] != nil || g.previous != nil && g.previous.vhosts[vhost] != nil
}

// configure loads a configuration, beside what goes on: main's word is heard
// meanwhile, for a login helper may be asked for.
func (s *server) configure(rec *ipc.Record) error {
	m := new(ipc.SecmConfig)
	if err := rec.Decode(m); err != nil {
		return err
	}
	b, err := ipc.ReadSealed(rec.FDs[0])
	if err != nil {
		return err
	}
	id := rec.ID
	go func() { s.reply(ipc.SecmConfigRepT, id, s.load(m, b)) }()
	return nil
}

// load puts a configuration into effect, or says why not and leaves the one in
// effect alone.
func (s *server) load(m *ipc.SecmConfig, b []byte) (rep *ipc.SecmConfigRep) {
	s.loading.Lock()
	defer s.loading.Unlock()
	defer clear(b) // holds key-pin and other secrets
	defer func() {
		if p := recover(); p != nil {
			rep = &ipc.SecmConfigRep{Error: s.panicked(p)}
		}
	}()
	old := s.gens.Load()
	l := s.newLoader()
	if old != nil {
		if m.Generation <= old.current.number {
			return &ipc.SecmConfigRep{Error: fmt.Sprintf("generation %d is in effect, %d comes too late", old.current.number, m.Generation)}
		}
		l.next.nextKey, l.next.previous = old.nextKey, old.current
	}
	l.knew(m.Known)
	gen, err := l.load(m, b)
	if err == nil {
		err = l.startHelpers()
	}
	if err != nil {
		elsewhere := errors.Is(err, errElsewhere)
		if !elsewhere { // main says what it does about that
			s.Log.Error("configuration not loaded", "generation", m.Generation, "file", m.Name, "err", err)
		}
		return &ipc.SecmConfigRep{Error: shortened(err.Error()), Elsewhere: elsewhere}
	}
	rep = gen.answer(l.warnings)
	rep.Watch = l.watch
	if rep.Keyring, err = s.records.unlock(m.Keyring, gen.keys, s.Log); err != nil {
		gen.stopHelpers()
		return &ipc.SecmConfigRep{Error: shortened(err.Error())}
	}
	if n := proto.Size(rep); n > ipc.MaxRecord-1024 {
		gen.stopHelpers()
		return &ipc.SecmConfigRep{Error: fmt.Sprintf("the certificate chains, OCSP responses and groups of all virtual hosts make a message of %d bytes, more than a record holds", n)}
	}
	l.next.current = gen
	s.gens.Store(l.next)
	if old != nil {
		old.current.retireHelpers()
	}
	s.tickets.outlive(gen.longestCookie())
	s.attempts.SetPolicy(attempts.Policy(gen.config.Global.Attempts))
	return rep
}

// answer is what main is told of a generation: public things only. What the
// parser warned of main knows itself.
func (g *generation) answer(warnings []string) *ipc.SecmConfigRep {
	rep := new(ipc.SecmConfigRep)
	for _, v := range g.config.Vhosts {
		rep.Vhosts = append(rep.Vhosts, g.vhosts[v.Name].public)
	}
	const most, room = 100, 16 << 10
	size := 0
	for i, w := range warnings {
		w = shortened(w)
		if size += len(w); i == most || size > room {
			rep.Warnings = append(rep.Warnings, fmt.Sprintf("and %d warnings more", len(warnings)-i))
			break
		}
		rep.Warnings = append(rep.Warnings, w)
	}
	return rep
}

func shortened(s string) string {
	const most = 4 << 10
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + " ..."
	}
	return strings.ToValidUTF8(s, "?")
}

// loader makes a generation.
type loader struct {
	server   *server
	next     *generations
	gen      *generation
	pairs    map[config.KeyPair]uint32 // files that several virtual hosts name
	known    map[string]uint32         // indexes that workers know keys by, by their public keys
	methods  map[string]method         // the same of methods
	accounts map[string]*remote        // and of those for accounting
	kdcs     map[string]*remote        // and of kkdcp, by what a path's KDCs are
	warnings []string
	watch    []string // files that login helpers read
	errs     []error
}

// newLoader returns what makes a generation; load opens what a configuration
// names, and starts nothing.
func (s *server) newLoader() *loader {
	return &loader{server: s, next: &generations{}, pairs: map[config.KeyPair]uint32{}, methods: map[string]method{}, accounts: map[string]*remote{}, kdcs: map[string]*remote{}}
}

func (l *loader) load(m *ipc.SecmConfig, b []byte) (*generation, error) {
	c, err := config.Parse(m.Name, b, config.SecMod)
	if err != nil {
		return nil, err
	}
	if err := l.server.confine(c); err != nil {
		return nil, err
	}
	l.gen = &generation{number: m.Generation, config: c, vhosts: map[string]*vhost{}, keys: map[uint32]*keys.Key{}, helpers: map[string]*helperLink{}}
	for _, v := range c.Vhosts {
		l.gen.vhosts[v.Name] = l.vhost(v)
	}
	if err := errors.Join(l.errs...); err != nil {
		return nil, err
	}
	return l.gen, nil
}

func vhostPrefix(name string) string {
	if name == "" {
		return ""
	}
	return "vhost:" + name + ": "
}

// warn notes what is odd about the i-th value of an option, fail what is wrong with it.
func (l *loader) warn(c *config.Vhost, option string, i int, what string) {
	l.warnings = append(l.warnings, l.at(c, option, i)+what)
}

func (l *loader) fail(c *config.Vhost, option string, i int, err error) {
	if err != nil {
		l.errs = append(l.errs, fmt.Errorf("%s%w", l.at(c, option, i), err))
	}
}

// at begins what is said about the i-th value of an option.
func (l *loader) at(c *config.Vhost, option string, i int) string {
	return l.gen.config.Place(c.Name, option, i) + ": " + vhostPrefix(c.Name)
}

// vhost opens what a virtual host's settings name.
func (l *loader) vhost(c *config.Vhost) *vhost {
	v := &vhost{Vhost: c, public: &ipc.VhostKeys{Name: c.Name}, exposed: l.exposed(c)}
	for n, pair := range c.Keys {
		i, ok := l.key(pair, c, n)
		if !ok {
			continue
		}
		v.keys = append(v.keys, i)
		k := l.gen.keys[i]
		v.public.Chains = append(v.public.Chains, &ipc.Chain{Der: k.Chain(), KeyIndex: i, Kind: kinds[k.Kind()]})
	}
	v.ways, v.relays = l.ways(c), l.relays(c)
	for _, m := range c.Acct {
		v.account = l.account(m)
	}
	if slices.ContainsFunc(v.ways, func(w way) bool { return w.certificate }) {
		var option string
		var err error
		if v.clients, option, err = newClients(l.server, c); err == nil {
			v.public.ClientCas = v.clients.announced()
		}
		l.fail(c, option, 0, err)
	}
	if c.AutoSelectGroup {
		const most = 256
		v.public.Groups = v.groups()
		if n := len(v.public.Groups); n > most {
			v.public.Groups = v.public.Groups[:most]
			l.warn(c, "auto-select-group", 0, fmt.Sprintf("auto-select-group: only %d of %d groups are offered", most, n))
		}
	}
	l.egress(c)
	l.warnRoutes(c, "", c.User)
	_, err := readProfile(&c.User)
	l.fail(c, "user-profile", 0, err)
	if c.Camouflage {
		v.public.Camouflage = camouflage(c.CamouflageSecret)
	}
	l.staple(c, v.public.Chains)
	return v
}

// egress reads what the ways out need: rather now than when a client comes.
func (l *loader) egress(c *config.Vhost) {
	files, err := l.server.egressFiles(&c.User)
	if err != nil {
		l.fail(c, "egress", 0, fmt.Errorf("egress: %w", err))
		return
	}
	for _, w := range files.warnings {
		l.warn(c, "egress", 0, "egress: "+w)
	}
}

// camouflage is what a worker knows a secret by without having it.
func camouflage(s config.Secret) []byte {
	salt := make([]byte, 16)
	rand.Read(salt)
	sum := sha256.Sum256(append(slices.Clone(salt), s.Reveal()...))
	return append(salt, sum[:]...)
}

// carried is what clients bring along for a method that asks nothing; zero: it asks.
func carried(m config.Method) ipc.AuthMethod {
	switch {
	case m.Name == "gssapi":
		return ipc.AuthMethod_AUTH_GSSAPI
	case m.Name == "oidc" && m.SSO():
		return ipc.AuthMethod_AUTH_SSO
	case m.Name == "oidc":
		return ipc.AuthMethod_AUTH_BEARER
	}
	return 0
}

// ways makes the ways to log in: all auth lines together are one, each
// enable-auth line is another (ocserv).
func (l *loader) ways(c *config.Vhost) (list []way) {
	sets := [][]config.Method{c.Auth}
	for _, m := range c.EnableAuth {
		sets = append(sets, []config.Method{m})
	}
	for _, set := range sets {
		var w way
		for _, m := range set {
			if m.Name == "certificate" {
				w.certificate = true
				continue
			}
			var err error
			if w.method, err = l.method(m, c); err != nil {
				l.errs = append(l.errs, fmt.Errorf("%s: %sauth = %s: %w", l.gen.config.Line(m.Line), vhostPrefix(c.Name), m.Name, err))
			}
			w.ticket = max(w.ticket, carried(m))
		}
		list = append(list, w)
	}
	return list
}

// method returns the method of a line, which virtual hosts with the same line share.
func (l *loader) method(m config.Method, c *config.Vhost) (method, error) {
	if made, ok := l.methods[m.String()]; ok {
		return made, nil
	}
	if m.Remote() {
		made := &remote{h: l.helper(m.Name)}
		made.method = made.h.add(m, false)
		l.methods[m.String()] = made
		return made, nil
	}
	made, warnings, err := newMethod(l.server, m)
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		l.warnings = append(l.warnings, l.gen.config.Line(m.Line)+": "+vhostPrefix(c.Name)+w)
	}
	l.methods[m.String()] = made
	return made, nil
}

// account returns who is told of sessions by a line of acct.
func (l *loader) account(m config.Method) *remote {
	made := l.accounts[m.String()]
	if made == nil {
		made = &remote{h: l.helper(m.Name)}
		made.method = made.h.add(m, true)
		l.accounts[m.String()] = made
	}
	return made
}

// kinds are the names that keys have in messages.
var kinds = map[keys.Kind]ipc.KeyKind{
	keys.RSA: ipc.KeyKind_KEY_RSA, keys.P256: ipc.KeyKind_KEY_ECDSA_P256, keys.P384: ipc.KeyKind_KEY_ECDSA_P384,
	keys.P521: ipc.KeyKind_KEY_ECDSA_P521, keys.Ed25519: ipc.KeyKind_KEY_ED25519,
}

// key loads a pair of files and returns the key's index. A key that the
// generation before had keeps its index there, so that a worker with an older
// chain of the same key is served; any other gets a fresh one.
func (l *loader) key(pair config.KeyPair, c *config.Vhost, n int) (index uint32, ok bool) {
	if i, ok := l.pairs[pair]; ok {
		return i, true
	}
	k, warnings, err := keys.Load(pair.Cert, pair.Key, func() ([]byte, error) { return pin(c) }, l.server.Now())
	if err != nil {
		option := "server-key"
		if errors.Is(err, keys.ErrCertificate) {
			option = "server-cert"
		}
		l.fail(c, option, n, err)
		return 0, false
	}
	for _, w := range warnings {
		l.warn(c, "server-cert", n, w)
	}
	i := l.next.nextKey
	if old := l.next.previous; old != nil {
		for was, o := range old.keys {
			if _, used := l.gen.keys[was]; !used && o.Same(k) {
				i = was
				break
			}
		}
	}
	if was, ok := l.known[string(k.Leaf().RawSubjectPublicKeyInfo)]; ok && l.gen.keys[was] == nil {
		i = was
	}
	if i == l.next.nextKey {
		l.next.nextKey++
	}
	l.gen.keys[i], l.pairs[pair] = k, i
	return i, true
}

// knew keeps the indexes that the sec-mod before this one gave to keys: there
// are workers that have them.
func (l *loader) knew(chains []*ipc.Chain) {
	l.known = make(map[string]uint32)
	for _, c := range chains {
		l.next.nextKey = max(l.next.nextKey, c.KeyIndex+1)
		if len(c.Der) == 0 {
			continue
		}
		if leaf, err := x509.ParseCertificate(c.Der[0]); err == nil {
			l.known[string(leaf.RawSubjectPublicKeyInfo)] = c.KeyIndex
		}
	}
}

// pin is what encrypted keys are opened with: key-pin, or the first line of pin-file.
func pin(c *config.Vhost) ([]byte, error) {
	if !c.KeyPin.IsZero() || c.PinFile == "" {
		return []byte(c.KeyPin.Reveal()), nil
	}
	b, err := readBounded(c.PinFile, 4<<10)
	if err != nil {
		return nil, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	clear(b)
	return []byte(strings.TrimRight(line, "\r")), nil
}

// readBounded reads a file that must not be longer than most bytes.
func readBounded(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, most)
}

// readAll reads an open regular file that must not be longer than most bytes.
func readAll(f *os.File, most int64) ([]byte, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", f.Name())
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%s: more than %d bytes", f.Name(), most)
	}
	return b, nil
}
