//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// needs skips a test for want of a program; in CI that is a failure.
func needs(t *testing.T, globs ...string) (found []string) {
	t.Helper()
	for _, g := range globs {
		list, err := filepath.Glob(g)
		if err == nil && len(list) == 0 && filepath.Base(g) == g {
			var path string
			if path, err = exec.LookPath(g); err == nil {
				list = []string{path}
			}
		}
		if len(list) > 0 {
			found = append(found, list[len(list)-1])
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("no %s here", g)
		}
		t.Skipf("no %s here (%v)", g, err)
	}
	return found
}

// fetching is a check of one transfer.
func fetching(name string, what lab.Transfer) check {
	return check{name, func(_ *rig, c *lab.Client) error {
		done, err := lab.Fetch(c.From, time.Minute, what)
		if err == nil && done[0].Err != "" {
			err = errors.New(done[0].Err)
		}
		return err
	}}
}

// TestQUIC: HTTP/3 both ways, in datagrams as long as the path takes.
func TestQUIC(t *testing.T) {
	rocservOnly(t, "the kernel forwards datagrams")
	t.Parallel()
	r := newRig(t, 1)
	c := r.connect(lab.Dial{})
	r.each(c,
		fetching("download", lab.Transfer{Host: lab.Tgt4, QUIC: true, Bytes: 20 << 20}),
		fetching("download over IPv6", lab.Transfer{Host: lab.Tgt6, QUIC: true, Bytes: 5 << 20}),
		fetching("upload", lab.Transfer{Host: lab.Tgt4, QUIC: true, Upload: true, Bytes: 5 << 20}),
	)
}

// TestHalfClose: who has said all it had to say still hears the answer, however
// long it is, and whoever ends first.
func TestHalfClose(t *testing.T) {
	rocservOnly(t, "the kernel forwards packets")
	t.Parallel()
	r := newRig(t, 1)
	c := r.connect(lab.Dial{})
	shell := func(name, want, script string) check { return command(name, want, "bash", "-c", script) }
	for _, addr := range []string{lab.Tgt4, lab.Tgt6} {
		nc := fmt.Sprintf("nc -n -N -w 20 %s ", addr)
		r.each(c,
			shell("upload, then read", `^3000000 bytes`, "head -c 3000000 /dev/zero | "+nc+strconv.Itoa(lab.PortCount)),
			shell("HTTP/1.0 upload, then read", `"Bytes":3000000`,
				`{ printf 'POST /upload HTTP/1.0\r\nContent-Length: 3000000\r\n\r\n'; head -c 3000000 /dev/zero; } | `+nc+strconv.Itoa(lab.PortHTTP)),
			shell("a request, FIN, a long answer", `^5000000\n`,
				`printf 'GET /bytes?n=5000000 HTTP/1.0\r\n\r\n' | `+nc+strconv.Itoa(lab.PortHTTP)+` | sed '1,/^\r$/d' | wc -c`),
			shell("echo after FIN", `^1000000\n`, "head -c 1000000 /dev/zero | "+nc+strconv.Itoa(lab.PortEcho)+" | wc -c"),
		)
	}
}

// TestSSH: a session that ends by itself, by half-close, and by violence.
func TestSSH(t *testing.T) {
	rocservOnly(t, "the kernel forwards packets")
	t.Parallel()
	sshd := needs(t, "/usr/sbin/sshd", "ssh", "ssh-keygen")[0]
	r := newRig(t, 1)
	dir := r.Path("ssh")
	r.must(os.Mkdir(dir, 0o700))
	r.must(os.MkdirAll("/run/sshd", 0o755)) // sshd wants it, empty, before anything else
	key := filepath.Join(dir, "key")
	_, err := r.Tgt.Run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	r.must(err)
	public, err := os.ReadFile(key + ".pub")
	r.must(err)
	r.must(os.WriteFile(filepath.Join(dir, "authorized"), public, 0o600))
	srv, err := r.Tgt.Start("sshd", nil, nil, sshd, "-D", "-e", "-f", "/dev/null", "-h", key, "-p", "22",
		"-o", "AuthorizedKeysFile="+filepath.Join(dir, "authorized"), "-o", "StrictModes=no", "-o", "PidFile=none", "-o", "UsePAM=no",
		"-o", "PermitRootLogin=prohibit-password")
	r.must(err)
	r.expect(srv, "Server listening on 0.0.0.0", 20*time.Second)
	c := r.connect(lab.Dial{})
	ssh := func(addr, script string) []string {
		return []string{"ssh", "-T", "-i", key, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
			"-F", "/dev/null", "root@" + addr, script}
	}
	r.each(c,
		command("a command", "hello there", ssh(lab.Tgt6, "echo hello there")...),
		piped("input to its end, then output", "some words", "10 all", ssh(lab.Tgt4, "wc -c | tr '\\n' ' '; echo all")...),
		command("a long output", "\n2000000\n|^2000000\n", append([]string{"sh", "-c", `"$@" | wc -c`, "sh"}, ssh(lab.Tgt4, "head -c 2000000 /dev/zero")...)...),
		command("killed", "fails:(?i)closed by|reset by", ssh(lab.Tgt4, "kill -9 $PPID; sleep 5")...),
	)
}

// TestPostgres: queries, a long result, cancelling (by another connection, which
// ends at once), and a server that drops the client.
func TestPostgres(t *testing.T) {
	rocservOnly(t, "the kernel forwards packets")
	t.Parallel()
	programs := needs(t, "/usr/lib/postgresql/*/bin/initdb", "psql")
	owner, err := user.Lookup("postgres")
	if err != nil {
		t.Skip(err)
	}
	r := newRig(t, 1)
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(owner.Gid)
	dir := r.Path("postgres")
	r.must(os.Mkdir(dir, 0o700))
	r.must(os.Chown(dir, uid, gid))
	as := func(argv ...string) []string {
		return append([]string{"setpriv", "--reuid", owner.Uid, "--regid", owner.Gid, "--clear-groups"}, argv...)
	}
	_, err = r.Tgt.RunFor(2*time.Minute, "", as(programs[0], "-D", dir, "--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8")...)
	r.must(err)
	hba, err := os.OpenFile(filepath.Join(dir, "pg_hba.conf"), os.O_APPEND|os.O_WRONLY, 0)
	r.must(err)
	_, err = hba.WriteString("host all all all trust\n")
	r.must(errors.Join(err, hba.Close()))
	srv, err := r.Tgt.Start("postgres", nil, nil, as(filepath.Join(filepath.Dir(programs[0]), "postgres"), "-D", dir, "-F", "-h", "*", "-k", "")...)
	r.must(err)
	r.expect(srv, "ready to accept connections", time.Minute)
	c := r.connect(lab.Dial{})
	psql := func(addr, sql string) []string {
		return []string{"psql", "-X", "-A", "-t", "-h", addr, "-U", "postgres", "-c", sql}
	}
	r.each(c,
		command("a query", "^42\n", psql(lab.Tgt4, "select 6*7")...),
		command("a long result", "(?s)^1\n2\n.*\n200000\n$", psql(lab.Tgt4, "copy (select generate_series(1, 200000)) to stdout")...),
		command("cancelled", "fails:canceling statement due to user request", append([]string{"timeout", "-s", "INT", "8"}, psql(lab.Tgt4, "select pg_sleep(60)")...)...),
		command("dropped", "fails:terminating connection|closed the connection", psql(lab.Tgt4, "select pg_terminate_backend(pg_backend_pid())")...),
		command("and again", "^1\n", psql(lab.Tgt4, "select 1")...),
	)
	r.each(c, command("over IPv6", "^1\n", psql(lab.Tgt6, "select 1")...))
}
