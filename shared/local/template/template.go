// Package template reads from template.yaml what the local machine shares with the deployed
// service: the table, the functions with the variables that each of them is given, and the routes.
// There is no second list of any of these.
//
// It is no CloudFormation. Values that only a deployment settles (!Ref, !Sub, !If and the like) are
// passed over where they say nothing about the local machine, and are an error where they do.
package template

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"go.yaml.in/yaml/v3"
)

// Template is what the local machine needs of template.yaml.
type Template struct {
	// Table defines the table. It has no name: that is up to the deployment.
	Table *dynamodb.CreateTableInput
	// Functions are sorted by name.
	Functions []Function
	// CORS is what the API lets pages of other origins do.
	CORS CORS
	// Dashboard is the body of the dashboard, with the names of what !Sub would put into it.
	Dashboard string
}

// CORS is what a page of an allowed origin may send and read. Which origins are allowed is the
// deployment's.
type CORS struct {
	Methods []string `yaml:"allowMethods"`
	// Headers and Exposed are names of headers in lower case: those that a request may have, and
	// those that a script may read of an answer.
	Headers []string `yaml:"allowHeaders"`
	Exposed []string `yaml:"exposeHeaders"`
	// MaxAge is how many seconds a browser may keep the answer to a preflight.
	MaxAge int `yaml:"maxAge"`
}

// Function is one Lambda function.
type Function struct {
	// Name is the function's folder under functions/ and under dist/.
	Name string
	// LogicalID is the function's name within the template.
	LogicalID string
	// Timeout is how long an invocation may take.
	Timeout time.Duration
	// MemoryMB is the memory that the function is given, in MB.
	MemoryMB int
	// Variables are the names of its environment variables whose values are the deployment's,
	// sorted.
	Variables []string
	// Constants are the environment variables whose values stand in the template; nil if there are
	// none.
	Constants map[string]string
	// Routes are what the API calls it for.
	Routes []Route
}

// Route is one method and path of the API.
type Route struct {
	Method string
	// Path is a pattern such as "/{provider}/credentials"; a name in braces stands for one segment.
	Path string
	// Public is true if the route is called without a token.
	Public bool
}

// Root returns the directory of the Go module that dir is in, which is the repository's.
func Root(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("finding the repository: %w", err)
	}
	for at := dir; ; at = filepath.Dir(at) {
		_, err := os.Stat(filepath.Join(at, "go.mod"))
		if err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("finding the repository: there is no go.mod in %s or above it", dir)
		}
	}
}

// Load reads the template.yaml of the repository that dir is in.
func Load(dir string) (*Template, error) {
	root, err := Root(dir)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(root, "template.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the template: %w", err)
	}
	t, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	return t, nil
}

// The document, as far as it is of interest. What may hold an intrinsic function is a yaml.Node.
type (
	document struct {
		Globals struct {
			Function functionProperties `yaml:"Function"`
		} `yaml:"Globals"`
		Resources map[string]resource `yaml:"Resources"`
	}
	resource struct {
		Type       string    `yaml:"Type"`
		Metadata   metadata  `yaml:"Metadata"`
		Properties yaml.Node `yaml:"Properties"`
	}
	metadata struct {
		Function string `yaml:"Function"`
	}
	functionProperties struct {
		Timeout     int `yaml:"Timeout"`
		MemorySize  int `yaml:"MemorySize"`
		Environment struct {
			Variables map[string]yaml.Node `yaml:"Variables"`
		} `yaml:"Environment"`
		Events map[string]event `yaml:"Events"`
	}
	event struct {
		Type       string    `yaml:"Type"`
		Properties yaml.Node `yaml:"Properties"`
	}
	routeProperties struct {
		Method string `yaml:"Method"`
		Path   string `yaml:"Path"`
	}
	dashboardProperties struct {
		DashboardBody string `yaml:"DashboardBody"`
	}
	// apiProperties say of each path and each method, in lower case, which authorizer it has.
	apiProperties struct {
		DefinitionBody struct {
			CORS  yaml.Node `yaml:"x-amazon-apigateway-cors"`
			Paths map[string]map[string]struct {
				Security yaml.Node `yaml:"security"`
			} `yaml:"paths"`
		} `yaml:"DefinitionBody"`
	}
)

// mark says of each route whether it is public. A route of which the API does not say it would,
// once deployed, be open to everybody.
func (p apiProperties) mark(functions []Function) error {
	for _, f := range functions {
		for i, route := range f.Routes {
			security := p.DefinitionBody.Paths[route.Path][strings.ToLower(route.Method)].Security
			if security.Kind == yaml.AliasNode {
				security = *security.Alias
			}
			f.Routes[i].Public = authorizerOf(security) == nobody
			if !f.Routes[i].Public && !guarded(security) {
				return fmt.Errorf("%s %s: the API's DefinitionBody does not say who authorizes it", route.Method, route.Path)
			}
		}
	}
	return nil
}

// cors reads what is allowed where any other origin is. What is allowed where none is has to be
// nothing.
func (p apiProperties) cors() (CORS, error) {
	choice := p.DefinitionBody.CORS
	if choice.Tag != "!If" || len(choice.Content) != 3 || choice.Content[2].Value != "AWS::NoValue" {
		return CORS{}, errors.New("the API's x-amazon-apigateway-cors is not a choice between something and nothing")
	}
	var allowed CORS
	err := choice.Content[1].Decode(&allowed)
	return allowed, err
}

// nobody is the authorizer of a public route.
const nobody = "NONE"

// guarded reports whether a choice between two authorizers is made, whatever its condition.
func guarded(security yaml.Node) bool {
	if security.Tag != "!If" || len(security.Content) != 3 {
		return false
	}
	for _, choice := range security.Content[1:] {
		name := authorizerOf(*choice)
		if name == "" || name == nobody {
			return false
		}
	}
	return true
}

// authorizerOf is the one authorizer that a list of requirements names, "" if it is not one.
func authorizerOf(security yaml.Node) string {
	var requirements []map[string][]string
	err := security.Decode(&requirements)
	if err != nil || len(requirements) != 1 || len(requirements[0]) != 1 {
		return ""
	}
	return slices.Collect(maps.Keys(requirements[0]))[0]
}

func parse(text []byte) (*Template, error) {
	var doc document
	err := yaml.Unmarshal(text, &doc)
	if err != nil {
		return nil, err
	}
	t := &Template{}
	var api apiProperties
	for _, id := range slices.Sorted(maps.Keys(doc.Resources)) {
		r := doc.Resources[id]
		switch r.Type {
		case "AWS::DynamoDB::Table":
			if t.Table != nil {
				return nil, fmt.Errorf("%s: there is a second table", id)
			}
			t.Table, err = parseTable(r)
		case "AWS::Serverless::HttpApi":
			err = r.Properties.Decode(&api)
		case "AWS::Serverless::Function":
			var f Function
			f, err = parseFunction(id, r, doc.Globals.Function)
			t.Functions = append(t.Functions, f)
		case "AWS::CloudWatch::Dashboard":
			var p dashboardProperties
			err = r.Properties.Decode(&p)
			t.Dashboard = p.DashboardBody
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
	}
	if t.Table == nil {
		return nil, errors.New("there is no table")
	}
	err = api.mark(t.Functions)
	if err != nil {
		return nil, err
	}
	t.CORS, err = api.cors()
	if err != nil {
		return nil, err
	}
	slices.SortFunc(t.Functions, func(a, b Function) int { return strings.Compare(a.Name, b.Name) })
	return t, nil
}

func parseFunction(id string, r resource, globals functionProperties) (Function, error) {
	// SAM's own defaults:
	// https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-resource-function.html
	p := functionProperties{Timeout: 3, MemorySize: 128}
	if globals.Timeout != 0 {
		p.Timeout = globals.Timeout
	}
	if globals.MemorySize != 0 {
		p.MemorySize = globals.MemorySize
	}
	err := r.Properties.Decode(&p)
	if err != nil {
		return Function{}, err
	}
	if r.Metadata.Function == "" {
		return Function{}, errors.New("Metadata.Function, which is its folder, is missing")
	}
	variables := maps.Clone(globals.Environment.Variables)
	if variables == nil {
		variables = map[string]yaml.Node{}
	}
	maps.Copy(variables, p.Environment.Variables)
	f := Function{
		Name:      r.Metadata.Function,
		LogicalID: id,
		Timeout:   time.Duration(p.Timeout) * time.Second,
		MemoryMB:  p.MemorySize,
	}
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		value := variables[name]
		if value.Tag != "!!str" {
			f.Variables = append(f.Variables, name)
			continue
		}
		if f.Constants == nil {
			f.Constants = map[string]string{}
		}
		f.Constants[name] = value.Value
	}
	for _, name := range slices.Sorted(maps.Keys(p.Events)) {
		e := p.Events[name]
		if e.Type != "HttpApi" {
			continue
		}
		route, err := parseRoute(e)
		if err != nil {
			return Function{}, fmt.Errorf("event %s: %w", name, err)
		}
		f.Routes = append(f.Routes, route)
	}
	return f, nil
}

func parseRoute(e event) (Route, error) {
	var p routeProperties
	err := e.Properties.Decode(&p)
	if err != nil {
		return Route{}, err
	}
	route := Route{Method: strings.ToUpper(p.Method), Path: p.Path}
	switch {
	case !strings.HasPrefix(p.Path, "/"), p.Method == "":
		return Route{}, errors.New("it has no method or no path")
	case route.Method == "ANY", strings.Contains(p.Path, "+}"):
		return Route{}, fmt.Errorf("%s %s: the local gateway knows neither ANY nor greedy path variables", route.Method, p.Path)
	}
	return route, nil
}

func parseTable(r resource) (*dynamodb.CreateTableInput, error) {
	type key []struct {
		AttributeName string        `yaml:"AttributeName"`
		KeyType       types.KeyType `yaml:"KeyType"`
	}
	var p struct {
		BillingMode          types.BillingMode `yaml:"BillingMode"`
		AttributeDefinitions []struct {
			AttributeName string                    `yaml:"AttributeName"`
			AttributeType types.ScalarAttributeType `yaml:"AttributeType"`
		} `yaml:"AttributeDefinitions"`
		KeySchema              key `yaml:"KeySchema"`
		GlobalSecondaryIndexes []struct {
			IndexName  string `yaml:"IndexName"`
			KeySchema  key    `yaml:"KeySchema"`
			Projection struct {
				ProjectionType   types.ProjectionType `yaml:"ProjectionType"`
				NonKeyAttributes []string             `yaml:"NonKeyAttributes"`
			} `yaml:"Projection"`
		} `yaml:"GlobalSecondaryIndexes"`
	}
	err := r.Properties.Decode(&p)
	if err != nil {
		return nil, err
	}
	schema := func(k key) []types.KeySchemaElement {
		var elements []types.KeySchemaElement
		for _, e := range k {
			elements = append(elements, types.KeySchemaElement{AttributeName: aws.String(e.AttributeName), KeyType: e.KeyType})
		}
		return elements
	}
	table := &dynamodb.CreateTableInput{BillingMode: p.BillingMode, KeySchema: schema(p.KeySchema)}
	for _, a := range p.AttributeDefinitions {
		table.AttributeDefinitions = append(table.AttributeDefinitions,
			types.AttributeDefinition{AttributeName: aws.String(a.AttributeName), AttributeType: a.AttributeType})
	}
	for _, i := range p.GlobalSecondaryIndexes {
		table.GlobalSecondaryIndexes = append(table.GlobalSecondaryIndexes, types.GlobalSecondaryIndex{
			IndexName:  aws.String(i.IndexName),
			KeySchema:  schema(i.KeySchema),
			Projection: &types.Projection{ProjectionType: i.Projection.ProjectionType, NonKeyAttributes: i.Projection.NonKeyAttributes},
		})
	}
	return table, nil
}
