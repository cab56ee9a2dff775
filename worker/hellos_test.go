package worker

import (
	"bufio"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	utls "github.com/refraction-networking/utls"

	"rocserv/internal/ipc"
)

// vpnHello is a ClientHello by its parameters.
type vpnHello struct {
	name       string
	min, max   uint16
	suites     []uint16
	groups     []utls.CurveID
	signatures []utls.SignatureScheme
	extensions []uint16 // by number, in their order
	shares     []utls.CurveID
}

// OpenSSL's suites as it has had them since 1.1.1, of TLS 1.2 and before.
var (
	modernSuites = []uint16{0xc02c, 0xc030, 0x009f, 0xcca9, 0xcca8, 0xccaa, 0xc02b, 0xc02f, 0x009e, 0xc024, 0xc028, 0x006b, 0xc023, 0xc027, 0x0067,
		0xc00a, 0xc014, 0x0039, 0xc009, 0xc013, 0x0033, 0x009d, 0x009c, 0x003d, 0x003c, 0x0035, 0x002f, 0x00ff}
	modernGroups     = []utls.CurveID{29, 23, 30, 25, 24}
	modernSignatures = []utls.SignatureScheme{0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0809, 0x080a, 0x080b, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601,
		0x0303, 0x0301, 0x0302, 0x0402, 0x0502, 0x0602}
)

// vpnHellos are what VPN clients send. Those of openconnect were recorded.
// Cisco's have OpenSSL below: their parameters are those of its version, without
// what Cisco's documentation does not list.
var vpnHellos = []vpnHello{
	{"openconnect 9, GnuTLS 3.7", utls.VersionTLS10, utls.VersionTLS13,
		[]uint16{0x1302, 0x1303, 0x1301, 0x1304, 0xc02c, 0xcca9, 0xc0ad, 0xc00a, 0xc02b, 0xc0ac, 0xc009, 0xc023, 0xc030, 0xcca8, 0xc014, 0xc02f, 0xc013, 0xc027,
			0x009d, 0xc09d, 0x0035, 0x003d, 0x009c, 0xc09c, 0x002f, 0x003c, 0x009f, 0xccaa, 0xc09f, 0x0039, 0x006b, 0x009e, 0xc09e, 0x0033, 0x0067},
		[]utls.CurveID{23, 24, 25, 29, 30, 256, 257, 258, 259, 260},
		[]utls.SignatureScheme{0x0401, 0x0809, 0x0804, 0x0403, 0x0807, 0x0501, 0x080a, 0x0805, 0x0503, 0x0806, 0x0601, 0x080b, 0x0806, 0x0603, 0x0201, 0x0203},
		[]uint16{5, 10, 11, 13, 35, 51, 43, 65281, 0, 45, 28, 21}, []utls.CurveID{utls.CurveP256}}, // and X25519, of which utls could not go on with either
	{"openconnect, OpenSSL 3", utls.VersionTLS10, utls.VersionTLS13, append([]uint16{0x1302, 0x1303, 0x1301}, modernSuites...),
		append(modernGroups[:5:5], 256, 257, 258, 259, 260), modernSignatures, []uint16{0, 11, 10, 35, 22, 23, 13, 43, 45, 51}, []utls.CurveID{utls.X25519}},
	{"openconnect, OpenSSL 3, TLS 1.2", utls.VersionTLS12, utls.VersionTLS12, modernSuites, modernGroups, modernSignatures, []uint16{0, 11, 10, 35, 22, 23, 13}, nil},
	{"Secure Client 5, TLS 1.3", utls.VersionTLS12, utls.VersionTLS13, append([]uint16{0x1302, 0x1301}, modernSuites...),
		[]utls.CurveID{23, 24, 25}, modernSignatures, []uint16{0, 11, 10, 35, 22, 23, 13, 43, 45, 51}, []utls.CurveID{utls.CurveP256}},
	{"Secure Client 5 for P-384, which takes a second hello", utls.VersionTLS12, utls.VersionTLS13, append([]uint16{0x1302, 0x1301}, modernSuites...),
		[]utls.CurveID{25, 24}, modernSignatures, []uint16{0, 11, 10, 35, 22, 23, 13, 43, 45, 51}, []utls.CurveID{utls.CurveP521}},
	{"AnyConnect 4", utls.VersionTLS10, utls.VersionTLS12,
		[]uint16{0xc030, 0xc02c, 0xc028, 0xc024, 0xc014, 0xc00a, 0x009f, 0x006b, 0x0039, 0x009d, 0x003d, 0x0035, 0xc02f, 0xc02b, 0xc027, 0xc023, 0xc013, 0xc009,
			0x009e, 0x0067, 0x0033, 0x009c, 0x003c, 0x002f, 0x00ff},
		[]utls.CurveID{23, 25, 28, 27, 24, 26, 22, 14, 13, 11, 12, 9, 10},
		[]utls.SignatureScheme{0x0601, 0x0602, 0x0603, 0x0501, 0x0502, 0x0503, 0x0401, 0x0402, 0x0403, 0x0301, 0x0302, 0x0303, 0x0201, 0x0202, 0x0203},
		[]uint16{0, 11, 10, 35, 13}, nil},
	{"AnyConnect 4 to an address", utls.VersionTLS10, utls.VersionTLS12, []uint16{0xc030, 0xc02c, 0xc02f, 0xc02b, 0x009d, 0x009c, 0x0035, 0x002f, 0x00ff},
		[]utls.CurveID{23, 24, 25}, []utls.SignatureScheme{0x0601, 0x0603, 0x0501, 0x0503, 0x0401, 0x0403, 0x0201, 0x0203}, []uint16{11, 10, 35, 13}, nil},
}

// spec makes the hello.
func (h *vpnHello) spec(t *testing.T) *utls.ClientHelloSpec {
	t.Helper()
	s := &utls.ClientHelloSpec{TLSVersMin: h.min, TLSVersMax: h.max, CipherSuites: h.suites, CompressionMethods: []byte{0}}
	for _, n := range h.extensions {
		var e utls.TLSExtension
		switch n {
		case 0:
			e = &utls.SNIExtension{}
		case 5:
			e = &utls.StatusRequestExtension{}
		case 10:
			e = &utls.SupportedCurvesExtension{Curves: h.groups}
		case 11:
			e = &utls.SupportedPointsExtension{SupportedPoints: []byte{0}}
		case 13:
			e = &utls.SignatureAlgorithmsExtension{SupportedSignatureAlgorithms: h.signatures}
		case 21:
			e = &utls.UtlsPaddingExtension{GetPaddingLen: utls.BoringPaddingStyle}
		case 22:
			e = &utls.GenericExtension{Id: n} // encrypt_then_mac, RFC 7366
		case 23:
			e = &utls.ExtendedMasterSecretExtension{}
		case 28:
			e = &utls.FakeRecordSizeLimitExtension{Limit: 0x4001}
		case 35:
			e = &utls.SessionTicketExtension{}
		case 43:
			v := &utls.SupportedVersionsExtension{}
			for n := h.max; n >= h.min; n-- {
				v.Versions = append(v.Versions, n)
			}
			e = v
		case 45:
			e = &utls.PSKKeyExchangeModesExtension{Modes: []byte{utls.PskModeDHE}}
		case 51:
			k := &utls.KeyShareExtension{}
			for _, g := range h.shares {
				k.KeyShares = append(k.KeyShares, utls.KeyShare{Group: g})
			}
			e = k
		case 65281:
			e = &utls.RenegotiationInfoExtension{Renegotiation: utls.RenegotiateNever}
		default:
			t.Fatalf("no extension %d", n)
		}
		s.Extensions = append(s.Extensions, e)
	}
	return s
}

// rsaWorld is a world whose server has an RSA certificate, which is what old
// clients know best.
func rsaWorld(t *testing.T, key *rsa.PrivateKey) *world {
	return newWorld(t, nil, func(wc *ipc.WorkerConfig, _ *ipc.SessionConfig) {
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		wc.Vhosts[0].Chains = []*ipc.Chain{{Der: [][]byte{der}, KeyIndex: rsaKey, Kind: ipc.KeyKind_KEY_RSA}}
	})
}

// greet does the handshake and asks for the login form.
func greet(w *world, id utls.ClientHelloID, spec *utls.ClientHelloSpec) (utls.ConnectionState, error) {
	c := utls.UClient(w.clientC, &utls.Config{ServerName: "vpn", InsecureSkipVerify: true}, id)
	if spec != nil {
		if err := c.ApplyPreset(spec); err != nil {
			return utls.ConnectionState{}, err
		}
	}
	w.clientC.SetDeadline(time.Now().Add(20 * time.Second))
	if err := c.Handshake(); err != nil {
		return utls.ConnectionState{}, err
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: vpn\r\n\r\n"); err != nil {
		return c.ConnectionState(), err
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return c.ConnectionState(), err
	}
	b, err := io.ReadAll(r.Body)
	if err == nil && (r.StatusCode != http.StatusOK || !strings.Contains(string(b), "config-auth")) {
		err = errors.New(r.Status + "\n" + string(b))
	}
	return c.ConnectionState(), err
}

// Our server takes what VPN clients and browsers send, in the newest version
// that they know, with a certificate of either kind.
func TestHellosOfClients(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	worlds := map[string]func() *world{
		"ECDSA": func() *world { return newWorld(t, nil, nil) },
		"RSA":   func() *world { return rsaWorld(t, key) },
	}
	try := func(name string, id utls.ClientHelloID, spec func() *utls.ClientHelloSpec, version uint16) {
		for kind, world := range worlds {
			w := world()
			w.rsa.Store(key)
			state, err := greet(w, id, spec())
			if err != nil || state.Version != version || state.NegotiatedProtocol == "h2" {
				t.Errorf("%s, %s: %s, protocol %q, %v", name, kind, tls.VersionName(state.Version), state.NegotiatedProtocol, err)
			}
			w.clientC.Close()
			w.wait()
		}
	}
	for _, h := range vpnHellos {
		try(h.name, utls.HelloCustom, func() *utls.ClientHelloSpec { return h.spec(t) }, h.max)
	}
	for _, id := range []utls.ClientHelloID{utls.HelloGolang, utls.HelloChrome_Auto, utls.HelloFirefox_Auto, utls.HelloSafari_Auto, utls.HelloIOS_Auto, utls.HelloEdge_Auto} {
		try(id.Str(), id, func() *utls.ClientHelloSpec { return nil }, tls.VersionTLS13)
	}
}

// Clients that know no more than TLS 1.1, or no suite with forward secrecy, are
// told so by an alert.
func TestHellosRefused(t *testing.T) {
	old := vpnHello{"AnyConnect 3.1", utls.VersionTLS10, utls.VersionTLS10, []uint16{0x0039, 0x0035, 0x0033, 0x002f, 0xc014, 0xc013, 0xc00a, 0xc009, 0x000a, 0x00ff},
		[]utls.CurveID{23, 24, 25}, nil, []uint16{0, 11, 10}, nil}
	static := vpnHello{"RSA key exchange only", utls.VersionTLS12, utls.VersionTLS12, []uint16{0x009d, 0x009c, 0x0035, 0x002f, 0x00ff},
		[]utls.CurveID{23}, modernSignatures, []uint16{0, 11, 10, 13}, nil}
	for _, tt := range []struct {
		hello vpnHello
		want  string
	}{{old, "protocol version"}, {static, "handshake failure"}} {
		w := newWorld(t, nil, nil)
		if _, err := greet(w, utls.HelloCustom, tt.hello.spec(t)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.hello.name, err, tt.want)
		}
		w.clientC.Close()
		if err := w.wait(); err == nil {
			t.Errorf("%s: the worker noticed nothing", tt.hello.name)
		}
	}
}
