package house

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Every package has a doc.go with more than a line in it, and the package
// comment stands nowhere else.
func TestPackagesExplainThemselves(t *testing.T) {
	for _, p := range list(t) {
		dir := "../../" + strings.TrimPrefix(p.ImportPath, module+"/")
		if !hasFile(p.GoFiles, "doc.go") {
			t.Errorf("%s has no doc.go", p.ImportPath)
			continue
		}
		if n := len(strings.Fields(p.Doc)); n == 0 {
			t.Errorf("%s: doc.go has no package comment", p.ImportPath)
		}
		if n := len(strings.Fields(packageDoc(t, dir+"/doc.go"))); n < 40 {
			t.Errorf("%s: doc.go explains itself in %d words", p.ImportPath, n)
		}
		for _, f := range p.GoFiles {
			if f != "doc.go" && !strings.HasSuffix(f, ".pb.go") && packageDoc(t, dir+"/"+f) != "" {
				t.Errorf("%s/%s has a package comment; it belongs into doc.go", p.ImportPath, f)
			}
		}
	}
}

func hasFile(files []string, name string) bool {
	for _, f := range files {
		if f == name {
			return true
		}
	}
	return false
}

func packageDoc(t *testing.T, file string) string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.PackageClauseOnly|parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return f.Doc.Text()
}

// ARCHITECTURE.md has one line for every folder with Go in it, and no line for a folder that is not there.
func TestMapAndFoldersAgree(t *testing.T) {
	src := read(t, "../../ARCHITECTURE.md")
	mapped := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z][a-z0-9/_-]*)/ +\S`).FindAllStringSubmatch(src, -1) {
		mapped[m[1]] = true
		if st, err := os.Stat("../../" + m[1]); err != nil || !st.IsDir() {
			t.Errorf("ARCHITECTURE.md names %s/, which is not there", m[1])
		}
	}
	if len(mapped) < 10 {
		t.Fatalf("found %d folders in ARCHITECTURE.md's map", len(mapped))
	}
	for _, p := range list(t) {
		dir := strings.TrimPrefix(p.ImportPath, module+"/")
		if !mapped[dir] {
			t.Errorf("%s/ is missing in ARCHITECTURE.md's map", dir)
		}
	}
}

// Generated files are what their source makes: needs protoc, which only a
// developer has; then the comparison is by content, not by time.
func TestGeneratedFilesAreCurrent(t *testing.T) {
	if _, err := exec.LookPath("protoc"); err != nil {
		checkDescriptor(t)
		return
	}
	dir := t.TempDir()
	args := []string{"ipc.proto"}
	for name, path := range map[string]string{
		"go": "google.golang.org/protobuf/cmd/protoc-gen-go", "go-vtproto": "github.com/planetscale/vtprotobuf/cmd/protoc-gen-go-vtproto",
	} {
		plugin := filepath.Join(t.TempDir(), name)
		build := exec.Command("go", "build", "-o", plugin, path)
		build.Dir = "../.."
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("building %s: %v\n%s", path, err, out)
		}
		args = append(args, "--plugin=protoc-gen-"+name+"="+plugin, "--"+name+"_out="+dir, "--"+name+"_opt=paths=source_relative")
	}
	cmd := exec.Command("protoc", append(args, "--go-vtproto_opt=features=marshal+unmarshal+size")...)
	cmd.Dir = "../../internal/ipc"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("protoc: %v\n%s", err, out)
	}
	if out, err := exec.Command("../../internal/ipc/lazily", filepath.Join(dir, "ipc.pb.go")).CombinedOutput(); err != nil {
		t.Fatalf("lazily: %v\n%s", err, out)
	}
	makeLean(t, dir)
	strip := regexp.MustCompile(`(?m)^//\s+protoc.*$`) // versions of the tools
	for _, name := range []string{"ipc.pb.go", "ipc_vtproto.pb.go", "ipc_lean.pb.go"} {
		if strip.ReplaceAllString(read(t, dir+"/"+name), "") != strip.ReplaceAllString(read(t, "../../internal/ipc/"+name), "") {
			t.Errorf("internal/ipc/%s is not what ipc.proto makes: run make gen", name)
		}
	}
}

// makeLean has a folder's messages made without their description.
func makeLean(t *testing.T, dir string) {
	t.Helper()
	cmd := exec.Command("go", "run", "./internal/ipc/lean", dir+"/ipc.pb.go", dir+"/ipc_vtproto.pb.go", dir+"/ipc_lean.pb.go")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("lean: %v\n%s", err, out)
	}
}

// TestLeanIsCurrent: the messages without their description are those with it, and a
// program of such a worker has nothing of protobuf's runtime.
func TestLeanIsCurrent(t *testing.T) {
	dir, names := t.TempDir(), []string{"ipc.pb.go", "ipc_vtproto.pb.go", "ipc_lean.pb.go"}
	for _, name := range names[:2] {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(read(t, "../../internal/ipc/"+name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	makeLean(t, dir)
	for _, name := range names {
		if read(t, dir+"/"+name) != read(t, "../../internal/ipc/"+name) {
			t.Errorf("internal/ipc/%s is not what internal/ipc/lean makes: run make gen", name)
		}
	}
	cmd := exec.Command("go", "list", "-tags", "lean", "-deps", "./cmd/rocserv-worker")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "\nrocserv/internal/ipc\n") {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(string(out), "\ngoogle.golang.org/protobuf") {
		t.Error("a worker's program has protobuf's runtime")
	}
}

// doc/config.md and doc/sample.config are what the table of options makes.
func TestReferenceIsCurrent(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("go", "run", "./internal/config/reference", dir)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"config.md", "sample.config"} {
		if read(t, dir+"/"+name) != read(t, "../../doc/"+name) {
			t.Errorf("doc/%s is not what internal/config makes: run make gen", name)
		}
	}
}

// checkDescriptor is what can be said without protoc: every message and field
// of ipc.proto stands in the generated file.
func checkDescriptor(t *testing.T) {
	src, gen := read(t, "../../internal/ipc/ipc.proto"), read(t, "../../internal/ipc/ipc.pb.go")
	for _, m := range regexp.MustCompile(`(?m)^message (\w+)`).FindAllStringSubmatch(src, -1) {
		if !strings.Contains(gen, "type "+m[1]+" struct") {
			t.Errorf("message %s is not in ipc.pb.go: run make gen", m[1])
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^\s+(?:repeated )?\w+ (\w+) = (\d+);`).FindAllStringSubmatch(src, -1) {
		if !strings.Contains(gen, "name="+m[1]+",") {
			t.Errorf("field %s is not in ipc.pb.go: run make gen", m[1])
		}
	}
}

// No path of anybody's machine and no second word for one idea in what we name.
func TestNames(t *testing.T) {
	forbidden := regexp.MustCompile(`(?i)(manager|util|helper)s?$`)
	for _, p := range list(t) {
		dir := strings.TrimPrefix(p.ImportPath, module+"/")
		if base := filepath.Base(dir); forbidden.MatchString(base) && dir != "secmod/helper" {
			t.Errorf("package %s: say what it is", dir)
		}
		for _, f := range p.GoFiles {
			if strings.HasSuffix(f, ".pb.go") {
				continue
			}
			name := "../../" + dir + "/" + f
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range file.Decls {
				g, ok := d.(*ast.GenDecl)
				if !ok || g.Tok != token.TYPE {
					continue
				}
				for _, s := range g.Specs {
					if n := s.(*ast.TypeSpec).Name.Name; forbidden.MatchString(n) {
						t.Errorf("%s: type %s: say what it is", name, n)
					}
				}
			}
		}
	}
}

func TestNoPathOfAMachine(t *testing.T) {
	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("git", "-C", top, "ls-files", "-z").Output()
	if err != nil {
		t.Skip("no git checkout")
	}
	for _, name := range bytes.Split(bytes.TrimRight(out, "\x00"), []byte{0}) {
		b, err := os.ReadFile(filepath.Join(top, string(name)))
		if err != nil {
			continue // deleted, not yet committed
		}
		if bytes.Contains(b, []byte(top+"/")) {
			t.Errorf("%s holds a path of this machine", name)
		}
	}
}
