package slapd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Password is everybody's; ServicePassword is that of Service.
const (
	Password        = "correct horse"
	ServicePassword = "search and find"
)

// Names in the directory.
const (
	Suffix  = "dc=example,dc=test"
	People  = "ou=people," + Suffix
	Groups  = "ou=groups," + Suffix
	Service = "cn=vpn," + Suffix
)

// Odd is a user whose name means something in filters and DNs.
const Odd = `o*(d),d\`

// Program is the server's path in Debian.
const Program = "/usr/sbin/slapd"

// person is an entry below People.
type person struct {
	uid, rdn string // rdn: the name as a DN has it, if that is another
	lines    []string
	bare     bool // without a password
}

var people = []person{
	{uid: "alice", lines: []string{"memberOf: cn=staff," + Groups, "memberOf: cn=ops," + Groups}},
	{uid: "bob", lines: []string{"memberOf: cn=staff," + Groups}},
	{uid: "limited"},
	{uid: "locked", lines: []string{"pwdAccountLockedTime: 000001010000Z"}},
	{uid: "expired", lines: []string{"pwdChangedTime: 20200101000000Z", "pwdPolicySubentry: cn=short," + Suffix}},
	{uid: "reset", lines: []string{"pwdReset: TRUE"}},
	{uid: "bare", bare: true},
	{uid: Odd, rdn: `o*(d)\,d\\`},
}

// TLS are the files of the server's certificate, key, and authority.
type TLS struct{ Cert, Key, CA string }

// Make writes the server's files below dir and fills its database. The command
// that runs it with these URLs stays in the foreground and logs to standard error.
func Make(dir string, t TLS, urls ...string) (command []string, err error) {
	db := filepath.Join(dir, "db")
	if err := os.Mkdir(db, 0o700); err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "slapd.conf")
	if err := os.WriteFile(conf, []byte(configuration(dir, db, t)), 0o600); err != nil {
		return nil, err
	}
	add := exec.Command("/usr/sbin/slapadd", "-f", conf)
	add.Stdin = strings.NewReader(entries())
	if out, err := add.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("slapadd: %w\n%s", err, out)
	}
	return []string{Program, "-d", "stats", "-f", conf, "-h", strings.Join(urls, " ")}, nil
}

func configuration(dir, db string, t TLS) string {
	lines := []string{}
	for _, s := range []string{"core", "cosine", "inetorgperson"} {
		lines = append(lines, "include /etc/ldap/schema/"+s+".schema")
	}
	lines = append(lines,
		"modulepath /usr/lib/ldap", "moduleload back_mdb", "moduleload ppolicy", "moduleload memberof",
		"pidfile "+filepath.Join(dir, "pid"), "argsfile "+filepath.Join(dir, "args"))
	if t.Cert != "" {
		lines = append(lines, "TLSCertificateFile "+t.Cert, "TLSCertificateKeyFile "+t.Key, "TLSCACertificateFile "+t.CA, "TLSVerifyClient never")
	}
	lines = append(lines,
		"database mdb", "suffix "+Suffix, "directory "+db, "rootdn cn=root,"+Suffix, "maxsize 16777216",
		"overlay ppolicy", "ppolicy_default cn=policy,"+Suffix, "overlay memberof",
		`limits dn.exact="uid=limited,`+People+`" size=1`,
		"access to attrs=userPassword by anonymous auth by * none",
		`access to dn.subtree="`+Groups+`" by users read by * none`,
		`access to * by dn.exact="`+Service+`" read by self read by anonymous auth by * none`)
	return strings.Join(lines, "\n") + "\n"
}

func entries() string {
	var b strings.Builder
	entry := func(dn string, lines ...string) {
		fmt.Fprintf(&b, "dn: %s\n%s\n\n", dn, strings.Join(lines, "\n"))
	}
	entry(Suffix, "objectClass: dcObject", "objectClass: organization", "o: Example")
	entry(People, "objectClass: organizationalUnit")
	entry(Groups, "objectClass: organizationalUnit")
	entry(Service, "objectClass: organizationalRole", "objectClass: simpleSecurityObject", "userPassword: "+ServicePassword)
	for _, p := range []struct{ name, line string }{{"policy", "pwdMustChange: TRUE"}, {"short", "pwdMaxAge: 60"}} {
		entry("cn="+p.name+","+Suffix, "objectClass: device", "objectClass: pwdPolicy", "pwdAttribute: userPassword", "pwdLockout: TRUE", p.line)
	}
	for _, p := range people {
		rdn := p.rdn
		if rdn == "" {
			rdn = p.uid
		}
		lines := append([]string{"objectClass: inetOrgPerson", "uid: " + p.uid, "cn: " + p.uid, "sn: test"}, p.lines...)
		if !p.bare {
			lines = append(lines, "userPassword: "+Password)
		}
		entry("uid="+rdn+","+People, lines...)
	}
	// Two entries with one name, which is therefore nobody's.
	for _, cn := range []string{"one", "two"} {
		entry("cn="+cn+","+People, "objectClass: inetOrgPerson", "uid: twice", "sn: test", "userPassword: "+Password)
	}
	entry("cn=staff,"+Groups, "objectClass: groupOfNames", "member: uid=alice,"+People, "member: uid=bob,"+People, "member: uid=limited,"+People)
	entry("cn=ops,"+Groups, "objectClass: groupOfNames", "member: uid=alice,"+People, "member: uid=limited,"+People)
	return b.String()
}
