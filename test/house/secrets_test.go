package house

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"regexp"
	"strings"
	"testing"
)

// secretName is how fields are called that hold secrets.
var secretName = regexp.MustCompile(`(?i)passw|secret|psk|bearer|^pins?$|keypin|cookie|^sid$|master|token|private|credential|keyring`)

// printable is a type that print shows what it holds.
var printable = regexp.MustCompile(`^(string|\[\]byte|\[[^\]]+\]byte|\[\]string)$`)

// notSecret are fields with such a name that hold none, each with the reason.
var notSecret = map[string]string{
	"mainproc.session.pskHash":      "a hash; what main compares it with is a hash too",
	"mainproc.sessionState.PSKHash": "a hash",
	"mainproc.records.keyring":      "sealed by sec-mod",
	"mainproc.secModState.Keyring":  "sealed by sec-mod",
	"internal/session.Saved.SID":    "its SHA-256, and sealed before it leaves sec-mod",

	"secmod/helper/oidc.conf.SecretFile": "the name of a file",
}

// mayPrint are packages whose fields with such names are made to be shown or
// written, each with the reason.
var mayPrint = map[string]string{
	"internal/quickstart": "makes the password and prints it for the operator",
	"internal/wire":       "writes the cookie into its answer; Secret is its type for what it reads",
	"internal/dtlsrecord": "the record layer's key material, behind a pointer in worker/dtls",
	"egress/tlsclient":    "pins are public keys' hashes",
	"internal/passwd":     "a command that asks for one and ends",
	"internal/config":     "names of options and files; its Secret is internal/secret",
}

// Fields with the name of a secret have a type that does not print: one of
// internal/secret, or a pointer. What messages hold (*.pb.go) is not seen here.
func TestSecretsHaveTypesThatDoNotPrint(t *testing.T) {
	seen := map[string]bool{}
	fields := 0
	for _, p := range list(t) {
		pkg := strings.TrimPrefix(p.ImportPath, module+"/")
		if under(pkg, "test") {
			continue
		}
		for _, f := range p.GoFiles {
			if strings.HasSuffix(f, ".pb.go") {
				continue
			}
			for name, typ := range structFields(t, "../../"+pkg+"/"+f) {
				short := name[strings.LastIndexByte(name, '.')+1:]
				if !secretName.MatchString(short) {
					continue
				}
				fields++
				if !printable.MatchString(typ) {
					continue
				}
				id := pkg + "." + name
				seen[id], seen[pkg] = true, true
				if notSecret[id] == "" && mayPrint[pkg] == "" {
					t.Errorf("%s is a %s: give it a type of internal/secret, or a reason here", id, typ)
				}
			}
		}
	}
	if fields < 20 {
		t.Errorf("only %d fields with the name of a secret: the test sees nothing", fields)
	}
	for id := range notSecret {
		if !seen[id] {
			t.Errorf("%s has a reason and is not there", id)
		}
	}
}

// structFields are the fields of a file's struct types, "Type.field": type.
func structFields(t *testing.T, file string) map[string]string {
	t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		st, ok := spec.Type.(*ast.StructType)
		if !ok {
			return true
		}
		for _, field := range st.Fields.List {
			var typ bytes.Buffer
			printer.Fprint(&typ, set, field.Type)
			for _, name := range field.Names {
				fields[spec.Name.Name+"."+name.Name] = typ.String()
			}
		}
		return true
	})
	return fields
}
