package main

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// docs/errors.md lists every reason that the mesh's code can give, and no other.
func TestEveryReasonIsDocumented(t *testing.T) {
	root := filepath.Join("..", "..")
	inCode := map[string]string{} // reason → where
	for _, dir := range []string{"platform", "services"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			return reasons(path, inCode)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(inCode) < 20 {
		t.Fatalf("found only %d reasons; how are they declared?", len(inCode))
	}

	text, err := os.ReadFile(filepath.Join(root, "docs", "errors.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	reason := regexp.MustCompile(`^[A-Z][A-Z_]+$`)
	column := -1
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) < 2 {
			column = -1 // between tables
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if column < 0 {
			if column = slices.Index(cells, "reason"); column < 0 {
				column = len(cells) // a table of something else
			}
			continue
		}
		if column < len(cells) && reason.MatchString(cells[column]) {
			if documented[cells[column]] {
				t.Errorf("docs/errors.md lists %s twice", cells[column])
			}
			documented[cells[column]] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(inCode)) {
		if !documented[name] {
			t.Errorf("docs/errors.md does not list %s, which %s declares", name, inCode[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(documented)) {
		if inCode[name] == "" {
			t.Errorf("docs/errors.md lists %s, which no code gives", name)
		}
	}
}

// reasons adds the reasons that a Go file declares: the constants of package problem's reasons.go, constants elsewhere whose
// names begin with reason, and what is given to problem.New as it is.
func reasons(path string, found map[string]string) error {
	files := gotoken.NewFileSet()
	file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	shared := file.Name.Name == "problem" && filepath.Base(path) == "reasons.go"
	add := func(e ast.Expr) {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == gotoken.STRING {
			if value, err := strconv.Unquote(lit.Value); err == nil && value != "" {
				found[value] = files.Position(lit.Pos()).String()
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ValueSpec:
			for i, name := range n.Names {
				if i < len(n.Values) && (shared || strings.HasPrefix(strings.ToLower(name.Name), "reason")) {
					add(n.Values[i])
				}
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "New" && len(n.Args) > 1 {
				if pkg, ok := f.X.(*ast.Ident); ok && pkg.Name == "problem" {
					add(n.Args[1])
				}
			}
		}
		return true
	})
	return nil
}
