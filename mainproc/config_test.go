package mainproc

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"rocserv/internal/config"
	"rocserv/internal/ipc"
	"rocserv/internal/secret"
)

func TestAuthOffer(t *testing.T) {
	methods := func(names string) (list []config.Method) {
		for _, n := range strings.Fields(names) {
			m := config.Method{Name: n}
			if n == "sso" {
				m = config.Method{Name: "oidc", Options: map[string]string{"sso": "true"}}
			}
			list = append(list, m)
		}
		return list
	}
	tests := []struct {
		auth, enable string
		want         *ipc.AuthOffer
	}{
		{"plain", "", &ipc.AuthOffer{Password: true}},
		{"certificate", "", &ipc.AuthOffer{Certificate: true, CertificateRequired: true, CertificateAlone: true}},
		{"plain certificate", "", &ipc.AuthOffer{Password: true, Certificate: true, CertificateRequired: true}},
		{"plain", "certificate", &ipc.AuthOffer{Password: true, Certificate: true, CertificateAlone: true}},
		{"certificate", "plain", &ipc.AuthOffer{Password: true, Certificate: true, CertificateAlone: true}},
		{"certificate", "certificate", &ipc.AuthOffer{Certificate: true, CertificateRequired: true, CertificateAlone: true}},
		{"radius", "gssapi oidc", &ipc.AuthOffer{Password: true, Gssapi: true, Bearer: true}},
		{"sso", "oidc plain", &ipc.AuthOffer{Password: true, Bearer: true, Sso: true}},
		{"pam", "", &ipc.AuthOffer{Password: true}},
		{"ldap", "", &ipc.AuthOffer{Password: true}},
	}
	for _, tt := range tests {
		got := authOffer(&config.Vhost{Auth: methods(tt.auth), EnableAuth: methods(tt.enable)})
		if !proto.Equal(got, tt.want) {
			t.Errorf("auth %q, enable-auth %q: %v", tt.auth, tt.enable, got)
		}
	}
}

func TestWorkerConfig(t *testing.T) {
	cfg := &config.Config{
		Global: config.Global{AuthTimeout: 240 * time.Second, UDPPort: 443},
		Vhosts: []*config.Vhost{
			{
				Auth: []config.Method{{Name: "plain"}}, KeyPin: secret.NewText("1234"), PreLoginBanner: "hello", Banner: "bye", CookieTimeout: 300 * time.Second,
				SelectGroups: []config.Group{{Name: "g1", Label: "Group One"}}, DTLSPSK: true, HTTPHeaders: []string{"X: y"},
				TLS: config.TLS{MinVersion: 0x0303, MaxVersion: 0x0304, Suites: []uint16{0x1301}, Curves: []uint16{29}},
			},
			{Name: "second.example", AutoSelectGroup: true, SelectGroups: []config.Group{{Name: "g2"}}},
			{Name: "nokeys.example"},
		},
	}
	chain := &ipc.Chain{Der: [][]byte{{1}}, KeyIndex: 1, Kind: ipc.KeyKind_KEY_ED25519, OcspResponse: []byte{9}}
	keys := &ipc.SecmConfigRep{Vhosts: []*ipc.VhostKeys{
		{Name: "second.example", Groups: []*ipc.Group{{Name: "auto"}}},
		{Name: "", Chains: []*ipc.Chain{chain}, Groups: []*ipc.Group{{Name: "unwanted"}}},
	}}
	m := workerConfig(cfg, keys, 3)
	if m.AuthTimeoutS != 240 || m.UdpPort != 443 || m.LogLevel != 3 || len(m.Vhosts) != 3 {
		t.Errorf("%v", m)
	}
	v := m.Vhosts[0]
	if v.Name != "" || !proto.Equal(v.Chains[0], chain) || v.PreLoginBanner != "hello" || v.Banner != "bye" || v.CookieTimeoutS != 300 || !v.DtlsPsk || !v.Auth.Password {
		t.Errorf("default vhost %v", v)
	}
	if diff := cmp.Diff([]uint32{0x0303, 0x0304, 0x1301, 29}, append([]uint32{v.Tls.MinVersion, v.Tls.MaxVersion}, append(v.Tls.Suites, v.Tls.Curves...)...)); diff != "" {
		t.Error(diff)
	}
	groups := func(v *ipc.Vhost) (s string) {
		for _, g := range v.Groups {
			s += g.Name + " "
		}
		return s
	}
	if groups(v) != "g1 " || groups(m.Vhosts[1]) != "g2 auto " || len(m.Vhosts[2].Chains) != 0 {
		t.Errorf("groups %q, %q", groups(v), groups(m.Vhosts[1]))
	}
	if b, _ := proto.Marshal(m); strings.Contains(string(b), "1234") {
		t.Error("the worker gets a secret")
	}
	gen, err := newGeneration(1, cfg, keys, -1, 3)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		fd, err := gen.workerConfig()
		if err != nil {
			t.Fatal(err)
		}
		var got ipc.WorkerConfig
		if err := ipc.ReadSealedMessage(fd, &got); err != nil || !proto.Equal(&got, m) {
			t.Errorf("from the memfd: %v, %v", err, &got)
		}
		closeAll([]int{fd})
	}
}

func TestFixed(t *testing.T) {
	a := &config.Global{TCPPort: 443, Listen: []string{"a"}, MaxClients: 3}
	b := &config.Global{TCPPort: 444, Listen: []string{"b"}, MaxClients: 4, PIDFile: "p", UDPPort: 1, UDPListen: []string{"c"}, RunAsUser: "u"}
	if got := fixed(a, a); len(got) != 0 {
		t.Errorf("nothing changed: %v", got)
	}
	if got := strings.Join(fixed(a, b), " "); got != "listen-host udp-listen-host tcp-port udp-port pid-file run-as-user" {
		t.Error(got)
	}
}

func TestNotes(t *testing.T) {
	uid := os.Getuid()
	if got := notes(&config.Global{RunAsUser: strconv.Itoa(uid)}, uid); len(got) != 0 {
		t.Errorf("our own uid: %v", got)
	}
	if got := notes(&config.Global{RunAsUser: "root"}, 0); len(got) != 0 {
		t.Errorf("our own name: %v", got)
	}
	got := notes(&config.Global{RunAsUser: "nobody-at-all", ConnectScript: "/x"}, uid)
	if len(got) != 2 || !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "note: run-as-user = nobody-at-all") }) ||
		!slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "connect-script") }) {
		t.Errorf("%q", got)
	}
}

func TestWarnings(t *testing.T) {
	got := warnings(&config.Config{Warnings: []config.Problem{{File: "f", Line: 3, Text: "warning: x"}, {Text: "note: y"}}})
	if diff := cmp.Diff([]string{"f:3: warning: x", "note: y"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestPIDFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pid")
	if err := writePIDFile(name); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(name); string(b) != strconv.Itoa(os.Getpid()) {
		t.Errorf("%q", b)
	}
	if fi, _ := os.Stat(name); fi.Mode() != 0o644 {
		t.Errorf("mode %v", fi.Mode())
	}
	removePIDFile(name)
	if _, err := os.Stat(name); err == nil {
		t.Error("still there")
	}
	os.WriteFile(name, []byte("1"), 0o644) // of another server
	removePIDFile(name)
	if _, err := os.Stat(name); err != nil {
		t.Error("another server's file was removed")
	}
	link := filepath.Join(t.TempDir(), "link")
	os.Symlink(name, link)
	if err := writePIDFile(link); err == nil {
		t.Error("it follows links")
	}
}

func TestReasons(t *testing.T) {
	stats := func(r ipc.Reason) *ipc.SessionStats { return &ipc.SessionStats{Reason: r} }
	tests := []struct {
		name string
		e    ending
		want ipc.Reason
	}{
		{"its own word", ending{stats: stats(ipc.Reason_REASON_USER)}, ipc.Reason_REASON_USER},
		{"main's word first", ending{reason: ipc.Reason_REASON_REPLACED, stats: stats(ipc.Reason_REASON_USER)}, ipc.Reason_REASON_REPLACED},
		{"a misdeed before all", ending{cause: errNotReading, reason: ipc.Reason_REASON_SERVER, stats: stats(ipc.Reason_REASON_USER)}, ipc.Reason_REASON_ERROR},
		{"no word", ending{}, ipc.Reason_REASON_ERROR},
		{"nothing said", ending{stats: stats(0)}, ipc.Reason_REASON_ERROR},
	}
	for _, tt := range tests {
		if got := tt.e.reasonFor(); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	for n := range ipc.Reason_name {
		if text := reasonText(ipc.Reason(n)); (text == "unspecified") != (n == 0) {
			t.Errorf("reason %d is %q", n, text)
		}
	}
}
