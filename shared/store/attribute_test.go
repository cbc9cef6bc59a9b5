package store

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A name that is misspelt in an expression would write an attribute that nobody reads.
func TestEachNameInAnExpressionIsAnAttribute(t *testing.T) {
	t.Parallel()
	attributes, used := map[string]bool{}, map[string]string{}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") || strings.HasSuffix(file.Name(), "_test.go") {
			continue
		}
		code, err := parser.ParseFile(token.NewFileSet(), file.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(code, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				for i, name := range n.Names {
					if strings.HasPrefix(name.Name, "attr") {
						attributes[text(n.Values[i])] = true
					}
				}
			case *ast.BasicLit:
				for _, match := range placeholder.FindAllStringSubmatch(text(n), -1) {
					used[match[1]] = file.Name()
				}
			}
			return true
		})
	}
	if len(attributes) < 30 || len(used) < 30 {
		t.Fatalf("%d attributes, and %d names in expressions: this test does not see them", len(attributes), len(used))
	}
	for name, file := range used {
		if !attributes[name] {
			t.Errorf("%s names %q, which is no attribute", file, name)
		}
	}
}

var placeholder = regexp.MustCompile(`#([a-z_]+)`)

// text is that of a literal; "" for anything else.
func text(e ast.Expr) string {
	literal, ok := e.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return ""
	}
	value, _ := strconv.Unquote(literal.Value)
	return value
}

func TestNamesFindsWhatAnExpressionNames(t *testing.T) {
	t.Parallel()
	var got []string
	for placeholder, name := range names("SET #due_at = :now REMOVE #tries", "attribute_exists(#pk)") {
		if placeholder != "#"+name {
			t.Errorf("%s stands for %s", placeholder, name)
		}
		got = append(got, name)
	}
	slices.Sort(got)
	if strings.Join(got, " ") != "due_at pk tries" {
		t.Errorf("it found %v", got)
	}
}
