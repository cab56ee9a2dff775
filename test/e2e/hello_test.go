//go:build e2e

package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"

	utls "github.com/refraction-networking/utls"

	"rocserv/test/e2e/lab"
)

// presets are the hellos that fingerprints stand for.
var presets = map[string]utls.ClientHelloID{
	"chrome": utls.HelloChrome_Auto, "firefox": utls.HelloFirefox_Auto, "safari": utls.HelloSafari_Auto, "ios": utls.HelloIOS_Auto,
}

// hellos compares the ClientHellos of the connections to nghttpx, one for each
// fingerprint in this order, with what was asked for.
func (r *rig) hellos(seen []lab.Packet, fingerprints []string) {
	r.Helper()
	var order []netip.AddrPort
	first := map[netip.AddrPort][]byte{}
	for _, p := range seen {
		if p.Dst.Port() == lab.PortNghttpx && len(p.Payload) > 0 {
			if first[p.Src] == nil {
				order = append(order, p.Src)
			}
			first[p.Src] = append(first[p.Src], p.Payload...)
		}
	}
	if len(order) != len(fingerprints) {
		r.Fatalf("%d connections to nghttpx for %d fingerprints", len(order), len(fingerprints))
	}
	looks := map[string]string{}
	for i, f := range fingerprints {
		got := helloOf(first[order[i]])
		r.must(got.err)
		if got.name != "proxy.test" || !slices.Contains(got.protocols, "h2") || !slices.Contains(got.versions, tls.VersionTLS13) {
			r.Errorf("%s: for %q, protocols %q, versions %x", f, got.name, got.protocols, got.versions)
		}
		if other := looks[got.look]; other != "" {
			r.Errorf("%s looks like %s", f, other)
		}
		looks[got.look] = f
		var want string
		switch id, imitated := presets[f]; {
		case imitated:
			spec, err := utls.UTLSIdToSpec(id)
			r.must(err)
			want = lookOf(&spec)
		case f == "go":
			want = helloOf(cryptoTLS()).look
		default: // randomized: a look of its own
			continue
		}
		if got.look != want {
			r.Errorf("%s looks like\n%s\nand not like\n%s", f, got.look, want)
		}
	}
}

// clientHello is what there is to compare of one.
type clientHello struct {
	name      string
	protocols []string
	versions  []uint16
	look      string
	err       error
}

func helloOf(record []byte) (h clientHello) {
	if len(record) >= 5 {
		record = record[:min(len(record), 5+int(record[3])<<8+int(record[4]))]
	}
	spec, err := (&utls.Fingerprinter{AllowBluntMimicry: true}).FingerprintClientHello(record)
	if err != nil {
		return clientHello{err: err}
	}
	m := utls.UnmarshalClientHello(record[5:])
	if m == nil {
		return clientHello{err: fmt.Errorf("no ClientHello: %x", record)}
	}
	return clientHello{m.ServerName, m.AlpnProtocols, m.SupportedVersions, lookOf(spec), nil}
}

// lookOf is the suites in order, the kinds of extensions and the groups; GREASE
// is the same everywhere (RFC 8701), Chrome shuffles its extensions, and padding
// depends on the length of the name.
func lookOf(s *utls.ClientHelloSpec) string {
	ungreased := func(list []uint16) (all []uint16) {
		for _, v := range list {
			if v&0x0f0f == 0x0a0a {
				v = 0x0a0a
			}
			all = append(all, v)
		}
		return all
	}
	var kinds []string
	var groups []uint16
	for _, e := range s.Extensions {
		switch e := e.(type) {
		case *utls.UtlsPaddingExtension:
			continue
		case *utls.SupportedCurvesExtension:
			for _, c := range e.Curves {
				groups = append(groups, uint16(c))
			}
		}
		kinds = append(kinds, fmt.Sprintf("%T", e))
	}
	slices.Sort(kinds)
	return fmt.Sprintf("suites %x groups %x extensions %s", ungreased(s.CipherSuites), ungreased(groups), kinds)
}

// cryptoTLS is the hello of every Go program.
func cryptoTLS() []byte {
	a, b := net.Pipe()
	go tls.Client(a, &tls.Config{ServerName: "proxy.test", NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12}).Handshake()
	defer b.Close()
	buf := make([]byte, 1<<14)
	n, _ := b.Read(buf)
	return buf[:n]
}
