// Package rules keeps the shape of the tree: who may import whom, one package
// doc each, short mains, no silenced lint, and every variable documented.
package rules

import (
	"bufio"
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

// bans lists, for the packages below a directory, the import prefixes that they
// must not use, each with its reason. Imports run one way: lab → platform →
// proto/gen, and services → platform → proto/gen.
var bans = []struct{ below, imports, because string }{
	{"services", "spillway.dev/services", "no service imports another: they meet over gRPC"},
	{"services", "spillway.dev/lab", "a service must not know that it is experimented on"},
	{"platform", "spillway.dev/services", "platform is what services are made of"},
	{"platform", "spillway.dev/lab", "platform runs in production, the lab does not"},
	{"lab", "spillway.dev/services", "the lab meets services as processes, over gRPC"},
	{"proto", "spillway.dev/platform", "contracts depend on nothing"},
	{"proto", "spillway.dev/services", "contracts depend on nothing"},
	{"proto", "spillway.dev/lab", "contracts depend on nothing"},
	{"platform", "google.golang.org/grpc/xds/experimental", "experimental APIs change under us"},
}

// files walks the Go files that people wrote.
func files(t *testing.T, visit func(path string, file *ast.File)) {
	t.Helper()
	set := token.NewFileSet()
	seen := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			switch filepath.ToSlash(strings.TrimPrefix(path, root+string(filepath.Separator))) {
			case ".git", "bin", ".spillway", "proto/gen", "proto/imported":
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		file, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		seen++
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		visit(filepath.ToSlash(relative), file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 20 {
		t.Fatalf("found only %d Go files", seen)
	}
}

func TestImportsRunOneWay(t *testing.T) {
	files(t, func(path string, file *ast.File) {
		own := ""
		if parts := strings.Split(path, "/"); parts[0] == "services" {
			own = "spillway.dev/services/" + parts[1]
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if own != "" && (imported == own || strings.HasPrefix(imported, own+"/")) {
				continue
			}
			for _, ban := range bans {
				if strings.HasPrefix(path, ban.below+"/") && (imported == ban.imports || strings.HasPrefix(imported, ban.imports+"/")) {
					t.Errorf("%s imports %s: %s", path, imported, ban.because)
				}
			}
		}
	})
}

func TestEveryPackageHasExactlyOneDoc(t *testing.T) {
	docs := map[string][]string{}
	packages := map[string]bool{}
	files(t, func(path string, file *ast.File) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		dir := filepath.Dir(path)
		packages[dir] = true
		if file.Doc != nil && strings.TrimSpace(file.Doc.Text()) != "" {
			docs[dir] = append(docs[dir], path)
		}
	})
	for dir := range packages {
		if len(docs[dir]) != 1 {
			t.Errorf("%s has %d package docs, not one: %v", dir, len(docs[dir]), docs[dir])
		}
	}
}

func TestAServiceMainIsShort(t *testing.T) {
	mains, err := filepath.Glob(filepath.Join(root, "services", "*", "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	if len(mains) == 0 {
		t.Fatal("no services found")
	}
	for _, path := range mains {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(text, []byte("\n")); lines > 40 {
			t.Errorf("%s has %d lines, more than 40: what it does belongs in platform/boot", path, lines)
		}
	}
}

func TestLintIsNotSilenced(t *testing.T) {
	silenced := regexp.MustCompile(`^//\s*(nolint|lint:ignore|lint:file-ignore)`)
	files(t, func(path string, file *ast.File) {
		for _, group := range file.Comments {
			for _, comment := range group.List {
				if silenced.MatchString(comment.Text) {
					t.Errorf("%s: %q: mend the cause, or say why in staticcheck.conf", path, comment.Text)
				}
			}
		}
	})
}

// What can be set stands in docs/configuration.md, and nothing else does.
func TestEveryVariableIsDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, name := range regexp.MustCompile("`(SPILLWAY_[A-Z_]+[A-Z])`").FindAllSubmatch(text, -1) {
		documented[string(name[1])] = true
	}
	tag := regexp.MustCompile(`env:"(SPILLWAY_[A-Z_]+)`)
	read := map[string]bool{}
	files(t, func(path string, file *ast.File) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if field, ok := n.(*ast.Field); ok && field.Tag != nil {
				if found := tag.FindStringSubmatch(field.Tag.Value); found != nil {
					read[found[1]] = true
					if !documented[found[1]] {
						t.Errorf("%s reads %s, which docs/configuration.md does not tell of", path, found[1])
					}
				}
			}
			return true
		})
	})
	for name := range documented {
		if !read[name] {
			t.Errorf("docs/configuration.md tells of %s, which nothing reads", name)
		}
	}
}

// A file of go.work's modules must be listed there, or `make` passes it by.
func TestEveryModuleIsInTheWorkspace(t *testing.T) {
	work, err := os.ReadFile(filepath.Join(root, "go.work"))
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{"tools": true} // apart on purpose: see its go.mod
	for scanner := bufio.NewScanner(bytes.NewReader(work)); scanner.Scan(); {
		if line := strings.TrimSpace(scanner.Text()); strings.HasPrefix(line, "./") {
			used[strings.TrimPrefix(line, "./")] = true
		}
	}
	for _, pattern := range []string{"*/go.mod", "services/*/go.mod"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			module, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				t.Fatal(err)
			}
			if !used[filepath.ToSlash(module)] {
				t.Errorf("module %s is not in go.work", module)
			}
		}
	}
}
