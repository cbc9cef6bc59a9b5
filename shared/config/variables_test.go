package config_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"managed-credentials/shared/config"
	"managed-credentials/shared/local/template"
	"managed-credentials/shared/provider/agentmail"
)

// The code is what says which variables there are. These tests read it, and hold the template,
// .env.default and README.md to it.

const module = "managed-credentials/"

// code is the source of the service, by package.
type code struct {
	t    *testing.T
	root string
	// wrappers are the methods of config.Env that read a variable of a fixed name, with that name.
	wrappers map[string]string
	packages map[string][]*ast.File
}

func readCode(t *testing.T) *code {
	t.Helper()
	root, err := template.Root(".")
	if err != nil {
		t.Fatal(err)
	}
	c := &code{t: t, root: root, wrappers: map[string]string{}, packages: map[string][]*ast.File{}}
	for _, file := range c.files("shared/config") {
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv == nil {
				continue
			}
			ast.Inspect(f.Body, func(n ast.Node) bool {
				method, name := lookup(n)
				if name != "" && (method == "lookup" || method == "Duration") {
					c.wrappers[f.Name.Name] = name
				}
				return true
			})
		}
	}
	return c
}

// files are those of a package in a folder, without its tests.
func (c *code) files(folder string) []*ast.File {
	c.t.Helper()
	files, ok := c.packages[folder]
	if ok {
		return files
	}
	names, err := filepath.Glob(filepath.Join(c.root, folder, "*.go"))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			c.t.Fatal(err)
		}
		files = append(files, file)
	}
	if len(files) == 0 {
		c.t.Fatalf("%s holds no Go code", folder)
	}
	c.packages[folder] = files
	return files
}

// lookup returns the method that a node calls, and its first argument if that is a literal text.
func lookup(n ast.Node) (method, name string) {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return "", ""
	}
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	if len(call.Args) > 0 {
		literal, ok := call.Args[0].(*ast.BasicLit)
		if ok {
			name, _ = strconv.Unquote(literal.Value) // a number gives no text
		}
	}
	return selector.Sel.Name, name
}

// reads are the variables that a function's package reads and all packages of ours that it is
// linked with, true if one has to be set; and the services of which they have the AWS SDK's
// clients.
func (c *code) reads(folder string) (variables, services map[string]bool) {
	c.t.Helper()
	variables, services = map[string]bool{}, map[string]bool{}
	seen := map[string]bool{"shared/config": true} // what it reads counts where its methods are called
	c.collect(folder, seen, variables, services)
	return variables, services
}

func (c *code) collect(folder string, seen, variables, services map[string]bool) {
	if seen[folder] {
		return
	}
	seen[folder] = true
	for _, file := range c.files(folder) {
		usesConfig := false
		for _, i := range file.Imports {
			path, _ := strconv.Unquote(i.Path.Value) // what has been parsed can be unquoted
			service, ok := strings.CutPrefix(path, "github.com/aws/aws-sdk-go-v2/service/")
			if ok && !strings.Contains(service, "/") {
				services[service] = true
			}
			own, ok := strings.CutPrefix(path, module)
			if ok {
				usesConfig = usesConfig || own == "shared/config"
				c.collect(own, seen, variables, services)
			}
		}
		called := map[ast.Expr]bool{}
		ast.Inspect(file, func(n ast.Node) bool {
			method, name := lookup(n)
			switch {
			case method == "Getenv" || method == "LookupEnv", usesConfig && (method == "Required" || method == "Optional" || method == "Duration"):
				if name == "" {
					c.t.Errorf("%s calls %s without a literal name, so that nobody can say what it reads", folder, method)
				}
				called[n.(*ast.CallExpr).Fun] = true
				variables[name] = variables[name] || method == "Required"
			case usesConfig && c.wrappers[method] != "":
				variables[c.wrappers[method]] = false // each has a default
			}
			selector, ok := n.(*ast.SelectorExpr)
			if ok && !called[selector] && slices.Contains([]string{"Getenv", "LookupEnv", "Environ", "ExpandEnv"}, selector.Sel.Name) {
				x, ok := selector.X.(*ast.Ident)
				if ok && (x.Name == "os" || x.Name == "syscall") {
					c.t.Errorf("%s uses %s.%s, so that nobody can say what it reads", folder, x.Name, selector.Sel.Name)
				}
			}
			return true
		})
	}
}

// endpoint is what the names of the variables begin with in which the AWS SDK, and no code here,
// looks for a service.
const endpoint = "AWS_ENDPOINT_URL_"

func TestTheTemplateSetsForEachFunctionTheVariablesThatItReads(t *testing.T) {
	t.Parallel()
	deployed, err := template.Load(".")
	if err != nil {
		t.Fatal(err)
	}
	c := readCode(t)
	endpoints, clients := map[string]bool{}, map[string]bool{}
	for _, f := range deployed.Functions {
		reads, services := c.reads("functions/" + f.Name)
		maps.Copy(clients, services)
		for _, name := range f.Variables {
			service, ok := strings.CutPrefix(name, endpoint)
			if ok {
				endpoints[strings.ToLower(strings.ReplaceAll(service, "_", ""))] = true
				continue
			}
			_, ok = reads[name]
			if !ok {
				t.Errorf("template.yaml sets %s for %s, which does not read it", name, f.LogicalID)
			}
			delete(reads, name)
		}
		for name := range reads {
			t.Errorf("%s reads %s, which template.yaml does not set for it", f.LogicalID, name)
		}
	}
	// For `sam local`, which passes on no variable that the template does not name.
	if !maps.Equal(endpoints, clients) {
		t.Errorf("template.yaml names endpoints of %v, and the functions have clients of %v", keys(endpoints), keys(clients))
	}
}

func TestEverySettingIsDeclaredOnce(t *testing.T) {
	t.Parallel()
	c := readCode(t)
	read := c.allReads()
	for name := range c.settingsOfRun() {
		read[name] = false
	}
	declared, _ := c.declared()
	if !slices.Equal(declared, keys(read)) {
		t.Errorf(".env.default declares\n\t%v\nand the code reads\n\t%v", declared, keys(read))
	}
}

func TestTheDocumentedVariablesAndDefaultsAreTheCodes(t *testing.T) {
	t.Parallel()
	c := readCode(t)
	read := c.allReads()
	documented, defaults := c.documented()
	if !slices.Equal(documented, keys(read)) {
		t.Errorf("README.md documents\n\t%v\nand the functions read\n\t%v", documented, keys(read))
	}
	_, declared := c.declared()
	parameters := c.parameters()
	for name, value := range defaults {
		if read[name] != (value == "–") {
			t.Errorf("README.md gives %s the default %q; whether it has to be set is %v", name, value, read[name])
		}
		parameter, ok := parameters[name]
		switch {
		case !ok:
		case name == "SYSTEM_CREDENTIALS": // none, which is {} as JSON; on one machine there is one, so that the page has one to show
			if value != "" || parameter != "{}" {
				t.Errorf("%s: the default is %q in README.md and %q in template.yaml", name, value, parameter)
			}
		case name == "SUSPENSION": // on one machine no earlier version is beside this one
			if value != "false" || parameter != value || declared[name] != "true" {
				t.Errorf("%s: the default is %q in README.md, %q in template.yaml and %q in .env.default", name, value, parameter, declared[name])
			}
		case value != parameter || value != declared[name]:
			t.Errorf("%s: the default is %q in README.md, %q in template.yaml and %q in .env.default", name, value, parameter, declared[name])
		}
	}
	for name, value := range map[string]string{
		"PROVISION_BUDGET":    seconds(config.DefaultBudget),
		"LEASE":               seconds(config.DefaultLease),
		"AGENTMAIL_BASE_URL":  agentmail.DefaultBaseURL,
		"MAX_CREDENTIALS":     strconv.Itoa(config.DefaultMaxCredentials),
		"AUDIT_GONE_FLOOR":    strconv.Itoa(config.DefaultGoneFloor),
		"AUDIT_UNKNOWN_AFTER": strconv.Itoa(int(config.DefaultUnknownAfter.Hours())) + "h",
		"AUDIT_EVERY":         strconv.Itoa(int(config.DefaultAuditEvery.Hours())) + "h",
		"AUDIT_SEGMENTS":      strconv.Itoa(config.DefaultAuditSegments),
		"AUDIT_GONE_SHARE":    strconv.FormatFloat(config.DefaultGoneShare, 'g', -1, 64),
	} {
		if defaults[name] != value {
			t.Errorf("%s: the default is %q in README.md and %q in the code", name, defaults[name], value)
		}
	}
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) + "s" }

// allReads are the variables that any function reads; true if it has to be set.
func (c *code) allReads() map[string]bool {
	c.t.Helper()
	mains, err := filepath.Glob(filepath.Join(c.root, "functions", "*", "main.go"))
	if err != nil {
		c.t.Fatal(err)
	}
	all := map[string]bool{}
	for _, main := range mains {
		variables, _ := c.reads("functions/" + filepath.Base(filepath.Dir(main)))
		for name, required := range variables {
			all[name] = all[name] || required
		}
	}
	return all
}

// settingsOfRun are the names that `make run` itself has in its calls.
func (c *code) settingsOfRun() map[string]bool {
	c.t.Helper()
	name := regexp.MustCompile(`^"[A-Z]+(_[A-Z]+)*"$`)
	settings := map[string]bool{}
	for _, file := range c.files("shared/local/cmd/run") {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			for _, argument := range call.Args {
				literal, ok := argument.(*ast.BasicLit)
				if ok && name.MatchString(literal.Value) {
					settings[strings.Trim(literal.Value, `"`)] = true
				}
			}
			return true
		})
	}
	return settings
}

// declared are the names in .env.default, sorted, one as often as it stands there; and their
// values.
func (c *code) declared() (names []string, values map[string]string) {
	c.t.Helper()
	return c.table(".env.default", regexp.MustCompile(`(?m)^([A-Z_]+)=(.*)$`))
}

// documented are the names in README.md's table of variables, sorted, one as often as it stands
// there; and their defaults, "–" where one has to be set.
func (c *code) documented() (names []string, defaults map[string]string) {
	c.t.Helper()
	names, defaults = c.table("README.md", regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\|.*\\| (\\S+) \\|$"))
	for name, value := range defaults {
		defaults[name] = strings.Trim(value, "`")
		if value == "empty" || value == "none" {
			defaults[name] = ""
		}
	}
	return names, defaults
}

// table takes names and values from a file's lines.
func (c *code) table(file string, line *regexp.Regexp) (names []string, values map[string]string) {
	c.t.Helper()
	values = map[string]string{}
	for _, match := range line.FindAllStringSubmatch(c.text(file), -1) {
		names = append(names, match[1])
		values[match[1]] = match[2]
	}
	slices.Sort(names)
	return names, values
}

// parameters are the defaults of the template's parameters, by the variables that are set to them
// and to nothing else. Their names are the same but for the spelling.
func (c *code) parameters() map[string]string {
	c.t.Helper()
	var document struct {
		Parameters map[string]struct {
			Default string `yaml:"Default"`
		} `yaml:"Parameters"`
		Resources map[string]struct {
			Properties yaml.Node `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	err := yaml.Unmarshal([]byte(c.text("template.yaml")), &document)
	if err != nil {
		c.t.Fatal(err)
	}
	defaults := map[string]string{}
	for id, resource := range document.Resources {
		var p struct {
			Environment struct {
				Variables map[string]yaml.Node `yaml:"Variables"`
			} `yaml:"Environment"`
		}
		err := resource.Properties.Decode(&p)
		if err != nil {
			continue // not a function
		}
		for name, value := range p.Environment.Variables {
			parameter, ok := document.Parameters[value.Value]
			if !ok || value.Tag != "!Ref" {
				continue
			}
			if strings.ToUpper(value.Value) != strings.ReplaceAll(name, "_", "") {
				c.t.Errorf("%s: %s is set to the parameter %s", id, name, value.Value)
			}
			defaults[name] = parameter.Default
		}
	}
	return defaults
}

func (c *code) text(file string) string {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.root, file))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}

func keys(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }
