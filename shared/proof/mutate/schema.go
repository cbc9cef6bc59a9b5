package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// variable is what a binary with many mutations in it goes by: the number of the one that it is to
// have, or none.
const variable = "MUTATION"

// selected is the name, in each changed package, of what that variable holds.
const selected = "mutationSelected"

// A schema is the code with many mutations in it, of which a run has one at most: each is a copy of
// the function that it changes, and the function begins by asking whether it is to be that copy. So
// a package is compiled and linked once, and not once for each mutation (Untch, Offutt and Harrold,
// "Mutation analysis using mutant schemata", ISSTA 1993).
type schema struct {
	overlay string       // has the compiler take the changed files in place of the real ones
	has     map[int]bool // the numbers of the mutations in it
}

// compose writes down the code with all of these mutations in it that fit, by their numbers: a
// change within one function fits, unless what the function is called with cannot be handed on. The
// others are to be tried by themselves.
func (l *laboratory) compose(name string, all map[int]mutation) (schema, error) {
	s := schema{has: map[int]bool{}}
	files := map[string][]int{}
	for i, m := range all {
		if !strings.HasSuffix(m.file, "_test.go") { // of those a folder may have two packages
			files[m.file] = append(files[m.file], i)
		}
	}
	replace := map[string]string{}
	for file, numbers := range files {
		slices.Sort(numbers)
		path := filepath.Join(l.root, file)
		code, err := os.ReadFile(path)
		if err != nil {
			return schema{}, err
		}
		text, pkg := string(code), ""
		var edits []edit
		for _, i := range numbers {
			changed, err := all[i].apply(string(code))
			if err != nil {
				return schema{}, err
			}
			more, of, ok := copied(string(code), changed, i)
			if !ok {
				continue
			}
			s.has[i], pkg = true, of
			edits = append(edits, more...)
		}
		if pkg == "" {
			continue
		}
		// What comes later in the file is put in first, so that the places before it stay right;
		// and of what is put at one place, what comes first in the list is put in last.
		slices.SortStableFunc(edits, func(a, b edit) int { return b.at - a.at })
		for _, e := range edits {
			text = text[:e.at] + e.text + text[e.at:]
		}
		to := filepath.Join(l.scratch, fmt.Sprintf("%s-%d.go", name, numbers[0]))
		ask := filepath.Join(l.scratch, fmt.Sprintf("%s-%d-ask.go", name, numbers[0]))
		err = errors.Join(
			os.WriteFile(to, []byte(text), 0o600),
			os.WriteFile(ask, fmt.Appendf(nil, "package %s\n\nimport \"os\"\n\nvar %s = os.Getenv(%q)\n", pkg, selected, variable), 0o600),
		)
		if err != nil {
			return schema{}, err
		}
		replace[path], replace[filepath.Join(filepath.Dir(path), "mutation_selected.go")] = to, ask
	}
	text, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		return schema{}, err
	}
	s.overlay = filepath.Join(l.scratch, name+".json")
	return s, os.WriteFile(s.overlay, text, 0o600)
}

// edit puts text into a file.
type edit struct {
	at   int
	text string
}

// copied returns what has a file hold both itself and, as the mutation of that number, what it is
// changed to: a question at the beginning of the function that is changed, on the same line, and at
// the file's end the changed copy. It is not ok if the change is not within one function's body.
func copied(code, changed string, number int) (edits []edit, pkg string, ok bool) {
	before, after := 0, 0 // what the two have in common at their beginning and end
	for before < min(len(code), len(changed)) && code[before] == changed[before] {
		before++
	}
	for after < min(len(code), len(changed))-before && code[len(code)-1-after] == changed[len(changed)-1-after] {
		after++
	}
	file, f := around(code, before, len(code)-after)
	_, g := around(changed, before, len(changed)-after)
	if f == nil || g == nil || f.Name.Name != g.Name.Name || recovers(f) || recovers(g) {
		return nil, "", false
	}
	name := fmt.Sprintf("%s_mutation%d", f.Name.Name, number)
	call, ok := handOn(f, name)
	if !ok {
		return nil, "", false
	}
	if f.Type.Results == nil {
		call += "; return"
	} else {
		call = "return " + call
	}
	text := func(code string, from, to token.Pos) string { return code[from-1 : to-1] }
	ask := fmt.Sprintf(" if %s == \"%d\" { %s };", selected, number, call)
	replica := text(code, f.Pos(), f.Name.Pos()) + name + text(code, f.Name.End(), f.Body.Pos()) + text(changed, g.Body.Pos(), g.Body.End())
	return []edit{{int(f.Body.Lbrace), ask}, {len(code), "\n" + replica + "\n"}}, file.Name.Name, true
}

// around parses a file and returns the function whose body has what stands from one place to
// another in it; nil if there is none.
func around(code string, from, to int) (*ast.File, *ast.FuncDecl) {
	file, err := parser.ParseFile(token.NewFileSet(), "", code, parser.SkipObjectResolution)
	if err != nil {
		return nil, nil
	}
	for _, d := range file.Decls {
		f, is := d.(*ast.FuncDecl)
		if is && f.Body != nil && int(f.Body.Lbrace) <= from && to <= int(f.Body.Rbrace)-1 {
			return file, f
		}
	}
	return nil, nil
}

// recovers tells whether a function ends a panic, which only what was deferred itself can.
func recovers(f *ast.FuncDecl) bool {
	found := false
	ast.Inspect(f.Body, func(n ast.Node) bool {
		name, is := n.(*ast.Ident)
		found = found || is && name.Name == "recover"
		return true
	})
	return found
}

// handOn is the call of a function of another name with all that this one was called with. It is
// not ok if that has no name, or the function is called by nobody.
func handOn(f *ast.FuncDecl, name string) (string, bool) {
	if f.Recv == nil && (f.Name.Name == "init" || f.Name.Name == "main") {
		return "", false
	}
	if f.Recv != nil {
		receiver, ok := names(f.Recv)
		if !ok {
			return "", false
		}
		name = receiver[0] + "." + name
	}
	if f.Type.TypeParams != nil {
		types, _ := names(f.Type.TypeParams)
		name += "[" + strings.Join(types, ", ") + "]"
	}
	with, ok := names(f.Type.Params)
	call := name + "(" + strings.Join(with, ", ")
	if n := len(f.Type.Params.List); n > 0 {
		if _, variadic := f.Type.Params.List[n-1].Type.(*ast.Ellipsis); variadic {
			call += "..."
		}
	}
	return call + ")", ok
}

// names are the names of all fields; it is not ok if one has none.
func names(fields *ast.FieldList) (all []string, ok bool) {
	for _, field := range fields.List {
		if len(field.Names) == 0 {
			return nil, false
		}
		for _, name := range field.Names {
			if name.Name == "_" {
				return nil, false
			}
			all = append(all, name.Name)
		}
	}
	return all, true
}
