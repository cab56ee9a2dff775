package lab

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// Servers in tgt from Debian's packages.
const (
	PortNginx  = 8080
	PortIperf3 = 5201
)

// StartServers starts nginx and iperf3 in tgt, on every address. sum is the
// SHA-256 of what nginx has at /file, in hexadecimal.
func (l *Lab) StartServers(size int) (sum string, err error) {
	for _, name := range []string{"nginx", "iperf3"} {
		if _, err := exec.LookPath(name); err != nil {
			return "", err
		}
	}
	dir := l.Path("nginx")
	if err := os.MkdirAll(filepath.Join(dir, "www"), 0o755); err != nil {
		return "", err
	}
	b := make([]byte, size)
	rand.Read(b)
	if err := os.WriteFile(filepath.Join(dir, "www", "file"), b, 0o644); err != nil {
		return "", err
	}
	conf := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {}
http { access_log off; client_body_temp_path %[1]s/t; proxy_temp_path %[1]s/t; fastcgi_temp_path %[1]s/t; uwsgi_temp_path %[1]s/t; scgi_temp_path %[1]s/t;
server { listen 0.0.0.0:%[2]d; listen [::]:%[2]d; root %[1]s/www; } }
`, dir, PortNginx)
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o644); err != nil {
		return "", err
	}
	for port, argv := range map[int][]string{PortNginx: {"nginx", "-c", filepath.Join(dir, "conf")}, PortIperf3: {"iperf3", "-s"}} {
		p, err := l.Tgt.Start(argv[0], nil, nil, argv...)
		if err != nil {
			return "", err
		}
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if _, err := l.Tgt.Run("nc", "-n", "-z", "-w", "1", Tgt4, strconv.Itoa(port)); err == nil {
				break
			}
			if time.Now().After(deadline) || !p.Running() {
				return "", fmt.Errorf("%s does not listen:\n%s", argv[0], p.Story())
			}
		}
	}
	return fmt.Sprintf("%x", sha256.Sum256(b)), nil
}
