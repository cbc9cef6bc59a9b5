package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// guarded is a program with a function for each case: what it prints shows which of them is
// changed.
const guarded = `package main

import "fmt"

type set[T comparable] struct{ all []T }

func (s *set[T]) has(x T) bool {
	for _, y := range s.all {
		if x == y {
			return true
		}
	}
	return false
}

func first[T any](of ...T) (x T) {
	x = of[0]
	return x
}

func print(what any, _ int) { fmt.Println(what) }

func show(what any) {
	fmt.Println(what)
}

func hold(f func()) {
	defer func() { recover() }()
	f()
}

var whole = 1

func main() {
	s := set[int]{all: []int{1}}
	show(s.has(1))
	show(first("a", "b"))
	hold(func() { show("held") })
	print("printed", 1)
	show(whole)
}
`

const untouched = "true\na\nheld\nprinted\n1\n"

func TestManyMutationsInOneBinary(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module guarded\n\ngo 1.26\n", "g.go": guarded} {
		err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600)
		if err != nil {
			t.Fatal(err)
		}
	}
	cases := []struct {
		old, new string
		fits     bool
		prints   string // "" for what does not fit
	}{
		{"return true", "return false", true, "false\na\nheld\nprinted\n1\n"},
		{"if x == y {", "if x != y {", true, "false\na\nheld\nprinted\n1\n"},
		{"of[0]", "of[1]", true, "true\nb\nheld\nprinted\n1\n"},
		{"what any) {\n\tfmt.Println(what)", "what any) {\n\tfmt.Print(what)", true, "trueaheldprinted\n1"},
		{"defer func() { recover() }()\n", "", false, ""},
		{"_ int) { fmt.Println(what) }", "_ int) { fmt.Print(what) }", false, ""},
		{"var whole = 1", "var whole = 2", false, ""},
		{"show(whole)\n", "", false, ""},
		{"what any, _ int) {", "what any, n int) {", false, ""},
	}
	all := map[int]mutation{}
	for i, c := range cases {
		all[i] = mutation{rule: c.old, file: "g.go", old: c.old, new: c.new}
	}
	l := &laboratory{root: root, scratch: t.TempDir()}
	s, err := l.compose("guarded", all)
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(l.scratch, "guarded")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "-overlay", s.overlay, ".")
	build.Dir = root
	out, err := build.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run := func(number string) string {
		cmd := exec.CommandContext(t.Context(), binary)
		cmd.Env = append(os.Environ(), variable+"="+number)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("with mutation %q: %v\n%s", number, err, out)
		}
		return string(out)
	}
	if got := run(""); got != untouched {
		t.Errorf("with none it prints %q", got)
	}
	for i, c := range cases {
		if s.has[i] != c.fits {
			t.Errorf("%q for %q: in the binary is %t, want %t", c.new, c.old, s.has[i], c.fits)
		}
		if c.fits {
			if got := run(strconv.Itoa(i)); got != c.prints {
				t.Errorf("with %q for %q it prints %q, want %q", c.new, c.old, got, c.prints)
			}
		}
	}
}
