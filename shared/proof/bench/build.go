package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
)

// clients are AWS's clients that a function may have, with calls that it then makes: without, the
// linker would leave out most of a client.
var clients = []client{
	{"cognitoidentityprovider", []string{"AdminDeleteUser", "AdminGetUser"}},
	{"dynamodb", []string{"BatchGetItem", "Query", "TransactWriteItems", "UpdateItem"}},
	{"kms", []string{"Encrypt"}},
	{"lambda", []string{"Invoke"}},
	{"secretsmanager", []string{"GetSecretValue"}},
	{"sqs", []string{"DeleteMessage", "ReceiveMessage"}},
}

type client struct {
	Name  string
	Calls []string
}

// folder is where the bare functions are, below dist. For its name no `./...` finds their source.
const folder = "_bench"

const services = "github.com/aws/aws-sdk-go-v2/service/"

// source is a function that makes the clients, and calls them if an event asks for it.
var source = template.Must(template.New("").Parse(`package main

import (
	"context"

	"github.com/aws/aws-lambda-go/lambda"
{{- if .}}
	"github.com/aws/aws-sdk-go-v2/config"
{{- end}}
{{- range .}}
	client_{{.Name}} "` + services + `{{.Name}}"
{{- end}}
)

func main() {
{{- if .}}
	cfg, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		panic(err)
	}
{{- end}}
{{- range .}}
	has_{{.Name}} := client_{{.Name}}.NewFromConfig(cfg)
{{- end}}
	lambda.Start(func(ctx context.Context, event map[string]any) (any, error) {
		switch event["call"] {
{{- range $client := .}}{{range .Calls}}
		case "{{$client.Name}}.{{.}}":
			return has_{{$client.Name}}.{{.}}(ctx, &client_{{$client.Name}}.{{.}}Input{})
{{- end}}{{end}}
		}
		return event, nil
	})
}
`))

// buildBare builds what the functions are measured against, with the flags of `make build`, and
// returns the directory of the binaries, <name>/bootstrap.
func buildBare(ctx context.Context, root string) (string, error) {
	progress("building a bare function for each of ours")
	dist := filepath.Join(root, "dist", folder)
	err := os.RemoveAll(dist)
	if err != nil {
		return "", err
	}
	mains, err := filepath.Glob(filepath.Join(root, "functions", "*", "main.go"))
	if err != nil {
		return "", err
	}
	for _, main := range mains {
		name := filepath.Base(filepath.Dir(main))
		deps, err := output(ctx, root, "go", "list", "-deps", "./functions/"+name)
		if err != nil {
			return "", err
		}
		linked := strings.Fields(deps)
		var of []client
		for _, c := range clients {
			if slices.Contains(linked, services+c.Name) {
				of = append(of, c)
			}
		}
		err = write(filepath.Join(dist, bareOf(name)), of)
		if err != nil {
			return "", err
		}
		err = build(ctx, root, "./dist/"+folder+"/"+bareOf(name), filepath.Join(dist, name, "bootstrap"))
		if err != nil {
			return "", err
		}
	}
	return dist, build(ctx, root, "./shared/proof/bench/bare", filepath.Join(dist, bareList, "bootstrap"))
}

// write writes the source of a bare function with these clients.
func write(to string, of []client) error {
	err := os.MkdirAll(to, 0o700)
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(to, "main.go"))
	if err != nil {
		return err
	}
	err = source.Execute(f, of)
	if err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

func build(ctx context.Context, root, pkg, to string) error {
	_, err := output(ctx, root, "go", "build", "-tags", "lambda.norpc", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", to, pkg)
	return err
}

func output(ctx context.Context, dir, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", cmd, err, problems.String())
	}
	return string(out), nil
}
