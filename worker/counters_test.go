package worker

import (
	"crypto/tls"
	"os"
	"regexp"
	"testing"

	"rocserv/internal/ipc"
)

func TestTLSName(t *testing.T) {
	for want, cs := range map[string]tls.ConnectionState{
		"(TLS1.3)-(ECDHE-SECP256R1)-(AES-256-GCM)":      {Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_256_GCM_SHA384, CurveID: tls.CurveP256},
		"(TLS1.3)-(ECDHE-X25519)-(CHACHA20-POLY1305)":   {Version: tls.VersionTLS13, CipherSuite: tls.TLS_CHACHA20_POLY1305_SHA256, CurveID: tls.X25519},
		"(TLS1.3)-(ECDHE-X25519MLKEM768)-(AES-128-GCM)": {Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, CurveID: tls.X25519MLKEM768},
		"(TLS1.2)-(ECDHE-SECP384R1)-(AES-128-GCM)":      {Version: tls.VersionTLS12, CipherSuite: tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, CurveID: tls.CurveP384},
		"(TLS1.2)-(AES-256-CBC)":                        {Version: tls.VersionTLS12, CipherSuite: tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA},
	} {
		if got := tlsName(&cs); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// Every counter that main can show is one that somebody fills.
func TestEveryCounterIsFilled(t *testing.T) {
	src, err := os.ReadFile("counters.go")
	if err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadFile("../internal/ipc/counters.go")
	if err != nil {
		t.Fatal(err)
	}
	all := regexp.MustCompile(`(?m)^\t(Count\w+): +"`).FindAllSubmatch(names, -1)
	if len(all) != int(ipc.NumCounters) {
		t.Fatalf("%d of %d counters have a name", len(all), ipc.NumCounters)
	}
	for _, m := range all {
		if !regexp.MustCompile(`\bm\[ipc\.` + string(m[1]) + `\]`).Match(src) {
			t.Errorf("nothing sets ipc.%s", m[1])
		}
	}
}
