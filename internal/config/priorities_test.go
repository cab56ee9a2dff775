package config

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
)

// show is settings as text: versions, suites, curves, number of warnings.
func showTLS(t TLS) string {
	s := ""
	for _, id := range t.Suites {
		s += " " + strings.TrimPrefix(tls.CipherSuiteName(id), "TLS_")
	}
	for _, c := range t.Curves {
		s += " " + tls.CurveID(c).String()
	}
	return fmt.Sprintf("%x-%x", t.MinVersion, t.MaxVersion) + s
}

func TestPriorities(t *testing.T) {
	const (
		ecdheGCM = " ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 ECDHE_RSA_WITH_AES_256_GCM_SHA384"
		ecdheCC  = " ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"
		ecdhe128 = " ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 ECDHE_RSA_WITH_AES_128_GCM_SHA256"
	)
	for _, c := range []struct {
		in, want string
		warnings int
	}{
		{"", "303-304", 0},
		{"NORMAL", "303-304", 0},
		{"normal:%server_precedence:%compat", "303-304", 0},
		{"PERFORMANCE:%SERVER_PRECEDENCE:%COMPAT", "303-304", 0},
		{"SECURE128", "303-304", 0},
		{"SECURE128:+SECURE192", "303-304", 1},
		{"PFS", "303-304", 0},
		{"@SYSTEM", "303-304", 0},
		{"FOO", "303-304", 1},
		{"NORMAL:-VERS-TLS1.3", "303-303", 0},
		{"NORMAL:-VERS-TLS1.2", "304-304", 0},
		{"NORMAL:!VERS-TLS1.2", "304-304", 0},
		{"NORMAL:-VERS-ALL:+VERS-TLS1.2", "303-303", 0},
		{"NORMAL:-VERS-ALL:+VERS-TLS1.3", "304-304", 0},
		{"NORMAL:-VERS-TLS-ALL:+VERS-TLS1.3:+VERS-TLS1.2", "303-304", 0},
		{"NORMAL:-VERS-ALL:+VERS-TLS-ALL", "303-304", 0},
		{"NORMAL:%SERVER_PRECEDENCE:%COMPAT:-VERS-SSL3.0:-VERS-TLS1.0:-VERS-TLS1.1:-VERS-TLS1.3", "303-303", 0},
		{"NORMAL:+VERS-TLS1.0", "303-304", 1},
		{"NORMAL:+VERS-TLS1.1:-VERS-TLS1.3", "303-303", 1},
		{"NORMAL:-VERS-ALL:+VERS-TLS1.0", "! no TLS version is left: 1.2 and 1.3 are supported", 1},
		{"NORMAL:-VERS-ALL", "! no TLS version is left: 1.2 and 1.3 are supported", 0},
		{"NONE", "! no TLS version is left: 1.2 and 1.3 are supported", 1},
		{"+VERS-TLS1.2", "303-303", 0},
		{"NORMAL:+VERS-DTLS1.2:-VERS-DTLS0.9", "303-304", 0},
		{"NORMAL:-VERS-DTLS1.2", "303-304", 1},
		{"NORMAL:-VERS-FOO", "303-304", 1},
		{"NORMAL:-RSA:-DHE-RSA:-3DES-CBC:-ARCFOUR-128:-MD5:-CAMELLIA-256-GCM", "303-304", 0},
		{"NORMAL:+RSA", "303-304", 1},
		{"NORMAL:+DHE-RSA:+ARCFOUR-128", "303-304", 2},
		{"NORMAL:%NO_TICKETS:%PROFILE_HIGH", "303-304", 2},
		{"NORMAL:-COMP-ALL:+COMP-NULL:+CTYPE-X509:+SIGN-ALL", "303-304", 0},
		{"NORMAL:-SIGN-RSA-SHA1", "303-304", 1},
		{"NORMAL:-VERS-TLS1.3:-AES-128-CBC:-AES-256-CBC", "303-303" + ecdheGCM + ecdheCC + ecdhe128, 0},
		{"NORMAL:-SHA1", "303-304" + ecdheGCM + ecdheCC + ecdhe128, 0},
		{"PERFORMANCE:-SHA1", "303-304" + ecdhe128 + ecdheGCM + ecdheCC, 0},
		{"NORMAL:-SHA1:-AES-128-GCM", "303-304" + ecdheGCM + ecdheCC, 1}, // 1.3 has AES-128-GCM all the same
		{"NORMAL:-SHA1:-AES-128-GCM:-VERS-TLS1.3", "303-303" + ecdheGCM + ecdheCC, 0},
		{"NORMAL:-VERS-TLS1.3:-CIPHER-ALL:+AES-256-GCM:-KX-ALL:+ECDHE-ECDSA", "303-303 ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", 0},
		{"NORMAL:-VERS-TLS1.3:-CIPHER-ALL:+AES-128-CBC:-MAC-ALL:+SHA256:-ECDHE-ECDSA", "303-303 ECDHE_RSA_WITH_AES_128_CBC_SHA256", 0},
		{"NORMAL:-VERS-TLS1.3:-CIPHER-ALL", "! no cipher suite is left", 0},
		{"NORMAL:-KX-ALL", "304-304", 1},
		{"SECURE256", "303-304" + ecdheGCM + ecdheCC + " CurveP521", 1},
		{"SECURE192:-VERS-TLS1.3", "303-303" + ecdheGCM + ecdheCC + " CurveP384 CurveP521", 0},
		{"SUITEB128", "303-303 ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 CurveP256 CurveP384", 0},
		{"SUITEB192", "303-303 ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 CurveP384", 0},
		{"NONE:+VERS-TLS1.2:+AES-128-GCM:+ECDHE-ALL:+AEAD:+COMP-NULL:+SIGN-ALL:+CURVE-ALL", "303-303" + ecdhe128 + " X25519 CurveP256 CurveP384 CurveP521", 0},
		{"NONE:+VERS-TLS1.3:+AES-256-GCM:+CHACHA20-POLY1305:+AES-128-GCM:+AEAD:+GROUP-ALL", "304-304 X25519 CurveP256 CurveP384 CurveP521", 0},
		{"NORMAL:-GROUP-ALL:+GROUP-SECP256R1:+GROUP-X25519-MLKEM768", "303-304 CurveP256 X25519MLKEM768", 0},
		{"NORMAL:-CURVE-SECP521R1:+GROUP-FFDHE2048:-GROUP-FFDHE3072", "303-304 X25519 CurveP256 CurveP384", 1},
		{"NORMAL:-GROUP-ALL", "303-304", 1},
		{"NORMAL:-CIPHER-ALL:+CIPHER-ALL:-MAC-ALL:+MAC-ALL:-KX-ALL:+KX-ALL:-AES-256-CBC:-AES-128-CBC", "303-304" + ecdheGCM + ecdheCC + ecdhe128, 0},
	} {
		settings, warnings, err := parsePriorities(c.in)
		got := showTLS(settings)
		if err != nil {
			got = "! " + err.Error()
		}
		if got != c.want || len(warnings) != c.warnings {
			t.Errorf("%s:\n got %s, warnings %q\nwant %s, %d warnings", c.in, got, warnings, c.want, c.warnings)
		}
		if settings.Priorities != c.in {
			t.Errorf("%s: kept as %q", c.in, settings.Priorities)
		}
	}
}

// The numbers are those of crypto/tls, for TLS 1.2, with what they are said to be.
func TestSuites(t *testing.T) {
	all := map[uint16]*tls.CipherSuite{}
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		all[s.ID] = s
	}
	words := strings.NewReplacer("AES-256-GCM", "AES_256_GCM_SHA384", "AES-128-GCM", "AES_128_GCM_SHA256", "CHACHA20-POLY1305", "CHACHA20_POLY1305_SHA256",
		"AES-256-CBC", "AES_256_CBC", "AES-128-CBC", "AES_128_CBC")
	for _, s := range suites {
		mac := map[string]string{"AEAD": "", "SHA1": "_SHA", "SHA256": "_SHA256"}[s.mac]
		want := "TLS_" + strings.ReplaceAll(s.keyExchange, "-", "_") + "_WITH_" + words.Replace(s.cipher) + mac
		if std := all[s.id]; std == nil || std.Name != want {
			t.Errorf("%04x is %v, want %s", s.id, std, want)
		}
	}
	if tls12 != tls.VersionTLS12 || tls13 != tls.VersionTLS13 || x25519 != uint16(tls.X25519) || p256 != uint16(tls.CurveP256) ||
		p384 != uint16(tls.CurveP384) || p521 != uint16(tls.CurveP521) || mlkem != uint16(tls.X25519MLKEM768) {
		t.Error("versions or groups")
	}
}
