package mainproc

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/config"
	"rocserv/internal/ipc"
)

// serverName is what X-CSTP-Server-Name says: no version for strangers.
const serverName = "rocserv"

// generation is one reading of the configuration. It never changes; a reload
// makes another one, and workers keep the one they started with.
type generation struct {
	number uint64
	cfg    *config.Config
	worker *os.File // sealed memfd with the WorkerConfig; closed with the last reference
	text   *os.File // sealed memfd with the file's bytes, for a sec-mod to come
	keys   *ipc.SecmConfigRep
}

// newGeneration puts the worker's slice of cfg, with the chains sec-mod has
// opened, into a sealed memfd. text is a descriptor of the file's bytes, which
// it takes over.
func newGeneration(number uint64, cfg *config.Config, keys *ipc.SecmConfigRep, text, logLevel int) (*generation, error) {
	fd, err := ipc.SealMessage("worker-config", workerConfig(cfg, keys, logLevel))
	if err != nil {
		unix.Close(text)
		return nil, fmt.Errorf("mainproc: configuration for workers: %w", err)
	}
	return &generation{
		number: number, cfg: cfg, keys: keys,
		worker: os.NewFile(uintptr(fd), "worker-config"), text: os.NewFile(uintptr(text), "config"),
	}, nil
}

// configText returns a descriptor of the file's bytes to give away.
func (g *generation) configText() (int, error) { return dupFile(g.text) }

// chains are those that workers of this generation know.
func (g *generation) chains() (all []*ipc.Chain) {
	for _, v := range g.keys.GetVhosts() {
		for _, c := range v.Chains {
			all = append(all, &ipc.Chain{Der: c.Der[:min(1, len(c.Der))], KeyIndex: c.KeyIndex})
		}
	}
	return all
}

// workerConfig returns a descriptor of the WorkerConfig to give away.
func (g *generation) workerConfig() (int, error) { return dupFile(g.worker) }

func seconds(d time.Duration) uint32 { return uint32(max(d, 0) / time.Second) }

// workerConfig is what a worker needs before a login. It holds no secret.
func workerConfig(cfg *config.Config, keys *ipc.SecmConfigRep, logLevel int) *ipc.WorkerConfig {
	byName := make(map[string]*ipc.VhostKeys)
	for _, k := range keys.GetVhosts() {
		byName[k.Name] = k
	}
	m := &ipc.WorkerConfig{
		AuthTimeoutS: seconds(cfg.Global.AuthTimeout),
		LogLevel:     uint32(max(logLevel, 0)),
		UdpPort:      uint32(cfg.Global.UDPPort),
		ServerName:   serverName,
	}
	for _, v := range cfg.Vhosts {
		one := vhostMessage(v, byName[v.Name])
		if v.Compression {
			one.Compression = cfg.Global.CompressionOrder
		}
		m.Vhosts = append(m.Vhosts, one)
	}
	return m
}

func vhostMessage(v *config.Vhost, k *ipc.VhostKeys) *ipc.Vhost {
	m := &ipc.Vhost{
		Name:               v.Name,
		Chains:             k.GetChains(),
		Tls:                tlsMessage(v.TLS),
		PreLoginBanner:     v.PreLoginBanner,
		Banner:             v.Banner,
		HttpHeaders:        v.HTTPHeaders,
		CookieTimeoutS:     seconds(v.CookieTimeout),
		DefaultSelectGroup: v.DefaultSelectGroup,
		SelectGroupByUrl:   v.SelectGroupByURL,
		CiscoClientCompat:  v.CiscoClientCompat,
		Phones:             v.CiscoSVCCompat,
		Auth:               authOffer(v),
		DtlsPsk:            v.DTLSPSK,
		DtlsLegacy:         v.DTLSLegacy,
		MatchCiphers:       v.MatchCiphers,
		NoCompressLimit:    uint32(v.NoCompressLimit),
		ClientCas:          k.GetClientCas(),
		Camouflage:         k.GetCamouflage(),
		CamouflageRealm:    v.CamouflageRealm,
	}
	m.KdcPaths = slices.Sorted(maps.Keys(v.KDCPaths()))
	for _, g := range v.SelectGroups {
		m.Groups = append(m.Groups, &ipc.Group{Name: g.Name, Label: g.Label})
	}
	if v.AutoSelectGroup {
		m.Groups = append(m.Groups, k.GetGroups()...)
	}
	return m
}

func tlsMessage(t config.TLS) *ipc.TLSSettings {
	m := &ipc.TLSSettings{MinVersion: uint32(t.MinVersion), MaxVersion: uint32(t.MaxVersion)}
	for _, s := range t.Suites {
		m.Suites = append(m.Suites, uint32(s))
	}
	for _, c := range t.Curves {
		m.Curves = append(m.Curves, uint32(c))
	}
	return m
}

// authOffer says which ways to log in there are. All of auth must succeed, or
// one of enable-auth alone.
func authOffer(v *config.Vhost) *ipc.AuthOffer {
	o := new(ipc.AuthOffer)
	for _, m := range slices.Concat(v.Auth, v.EnableAuth) {
		switch m.Name {
		case "certificate":
			o.Certificate = true
		case "gssapi":
			o.Gssapi = true
		case "oidc":
			o.Sso, o.Bearer = o.Sso || m.SSO(), o.Bearer || !m.SSO()
		default: // plain, pam, radius, ldap
			o.Password = true
		}
	}
	isCert := func(m config.Method) bool { return m.Name == "certificate" }
	notCert := func(m config.Method) bool { return !isCert(m) }
	o.CertificateAlone = slices.ContainsFunc(v.EnableAuth, isCert) || !slices.ContainsFunc(v.Auth, notCert)
	o.CertificateRequired = slices.ContainsFunc(v.Auth, isCert) && !slices.ContainsFunc(v.EnableAuth, notCert)
	return o
}

// dupFile returns another descriptor of a file or connection, close-on-exec,
// without a change to how the original is read.
func dupFile(f syscall.Conn) (int, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("mainproc: %w", err)
	}
	fd := -1
	cerr := rc.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 3) })
	if cerr != nil {
		err = cerr
	}
	if err != nil {
		return -1, fmt.Errorf("mainproc: descriptor: %w", err)
	}
	return fd, nil
}
