package template

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"go.yaml.in/yaml/v3"
)

const small = `
Globals:
  Function:
    Timeout: 7
    Architectures: [!Ref Architecture]
    Environment:
      Variables:
        LOG_LEVEL: !Ref LogLevel
        GOMEMLIMIT: 80MiB
Resources:
  Api:
    Type: AWS::Serverless::HttpApi
    Properties:
      DefinitionBody:
        x-amazon-apigateway-cors: !If
          - OtherOrigins
          - {allowOrigins: !Split [',', !Ref Origins], allowMethods: [GET], allowHeaders: [authorization], exposeHeaders: [etag], maxAge: 5}
          - !Ref AWS::NoValue
        paths:
          /things/{id}:
            get: {security: &Users !If [Own, [{Function: []}], [{Jwt: []}]]}
          /things:
            get: {security: *Users}
          /:
            get: {security: [{NONE: []}]}
  Things:
    Type: AWS::DynamoDB::Table
    Properties:
      TableName: !Sub ${AWS::StackName}-things
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions:
        - {AttributeName: pk, AttributeType: S}
        - {AttributeName: at, AttributeType: N}
      KeySchema:
        - {AttributeName: pk, KeyType: HASH}
      GlobalSecondaryIndexes:
        - IndexName: by_time
          KeySchema:
            - {AttributeName: at, KeyType: HASH}
          Projection: {ProjectionType: KEYS_ONLY}
  ShowThing:
    Type: AWS::Serverless::Function
    Metadata: {BuildMethod: makefile, Function: show-thing}
    Properties:
      Role: !GetAtt ShowThingRole.Arn
      MemorySize: 256
      Environment:
        Variables: {TABLE_NAME: !Ref Things, GOMEMLIMIT: 204MiB}
      Events:
        One:
          Type: HttpApi
          Properties: {ApiId: !Ref Api, Method: get, Path: '/things/{id}'}
        All:
          Type: HttpApi
          Properties: {ApiId: !Ref Api, Method: GET, Path: /things}
        Page:
          Type: HttpApi
          Properties: {ApiId: !Ref Api, Method: GET, Path: /}
        Often:
          Type: Schedule
          Properties: {Schedule: rate(1 minute)}
  Clean:
    Type: AWS::Serverless::Function
    Metadata: {Function: clean}
    Properties: {Timeout: 60}
`

func TestTemplateTellsTheTableTheFunctionsAndTheirRoutes(t *testing.T) {
	t.Parallel()
	got, err := parse([]byte(small))
	if err != nil {
		t.Fatal(err)
	}
	want := &Template{
		Table: &dynamodb.CreateTableInput{
			BillingMode: types.BillingModePayPerRequest,
			AttributeDefinitions: []types.AttributeDefinition{
				{AttributeName: aws.String("pk"), AttributeType: types.ScalarAttributeTypeS},
				{AttributeName: aws.String("at"), AttributeType: types.ScalarAttributeTypeN},
			},
			KeySchema: []types.KeySchemaElement{{AttributeName: aws.String("pk"), KeyType: types.KeyTypeHash}},
			GlobalSecondaryIndexes: []types.GlobalSecondaryIndex{{
				IndexName:  aws.String("by_time"),
				KeySchema:  []types.KeySchemaElement{{AttributeName: aws.String("at"), KeyType: types.KeyTypeHash}},
				Projection: &types.Projection{ProjectionType: types.ProjectionTypeKeysOnly},
			}},
		},
		CORS: CORS{Methods: []string{"GET"}, Headers: []string{"authorization"}, Exposed: []string{"etag"}, MaxAge: 5},
		Functions: []Function{
			{
				Name: "clean", LogicalID: "Clean", Timeout: time.Minute, MemoryMB: 128, Variables: []string{"LOG_LEVEL"},
				Constants: map[string]string{"GOMEMLIMIT": "80MiB"},
			},
			{
				Name: "show-thing", LogicalID: "ShowThing", Timeout: 7 * time.Second, MemoryMB: 256,
				Variables: []string{"LOG_LEVEL", "TABLE_NAME"},
				Constants: map[string]string{"GOMEMLIMIT": "204MiB"},
				Routes:    []Route{{Method: "GET", Path: "/things"}, {Method: "GET", Path: "/things/{id}"}, {Method: "GET", Path: "/", Public: true}},
			},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

func TestTemplateThatWouldRunDifferentlyOnceDeployedIsRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]struct{ from, to, says string }{
		"open API":         {"paths:", "ways:", "GET /things"},
		"open route":       {"get: {security: *Users}", "put: {security: *Users}", "GET /things"},
		"no authorizer":    {"{security: *Users}", "{security: []}", "GET /things"},
		"open by a choice": {"[{Jwt: []}]", "[{NONE: []}]", "GET /things"},
		"open to origins":  {"- !Ref AWS::NoValue", "- {allowOrigins: ['*']}", "x-amazon-apigateway-cors"},
		"no folder":        {"Metadata: {Function: clean}", "Metadata: {}", "Metadata.Function"},
		"greedy route":     {"Path: '/things/{id}'", "Path: '/things/{id+}'", "greedy"},
		"any method":       {"Method: get", "Method: any", "ANY"},
		"route, no path":   {"Path: /}", "Way: /}", "no path"},
		"computed timeout": {"Timeout: 60", "Timeout: !Ref Patience", "Clean"},
		"computed route":   {"'/things/{id}'", "!Join [a, b]", "event One"},
		"no table":         {"AWS::DynamoDB::Table", "AWS::DynamoDB::GlobalTable", "no table"},
		"not YAML":         {"Resources:", "Resources: [", "yaml"},
	} {
		if !strings.Contains(small, change.from) {
			t.Fatalf("%s: the fixture does not hold %q", name, change.from)
		}
		_, err := parse([]byte(strings.Replace(small, change.from, change.to, 1)))
		if err == nil || !strings.Contains(err.Error(), change.says) {
			t.Errorf("%s: err = %v, want one that says %q", name, err, change.says)
		}
	}
}

func TestLoadFindsTheTemplateFromAnyDirectoryOfTheRepository(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	deep := filepath.Join(root, "a", "b")
	err := os.MkdirAll(deep, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"go.mod": "module x\n", "template.yaml": small} {
		err = os.WriteFile(filepath.Join(root, name), []byte(text), 0o644)
		if err != nil {
			t.Fatal(err)
		}
	}
	got, err := Load(deep)
	if err != nil || len(got.Functions) != 2 {
		t.Fatalf("got %+v, %v", got, err)
	}
	_, err = Root(string(filepath.Separator))
	if err == nil {
		t.Fatal("found a repository where there is none")
	}
}

func TestServicesTemplateHasEveryFunctionThatHasAFolder(t *testing.T) {
	t.Parallel()
	got, err := Load(".")
	if err != nil {
		t.Fatal(err)
	}
	root, err := Root(".")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	routes := map[Route]string{}
	for _, f := range got.Functions {
		names = append(names, f.Name)
		for _, r := range f.Routes {
			routes[r] = f.Name
		}
		if f.Timeout < 5*time.Second {
			t.Errorf("%s: %+v", f.Name, f)
		}
	}
	mains, err := filepath.Glob(filepath.Join(root, "functions", "*", "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, main := range mains {
		name := filepath.Base(filepath.Dir(main))
		if !slices.Contains(names, name) {
			t.Errorf("functions/%s is not in the template", name)
		}
	}
	if routes[Route{Method: "GET", Path: "/credentials"}] != "list-with-provision" {
		t.Errorf("GET /credentials does not list, or is open to everybody: %v", routes)
	}
	if len(got.Table.KeySchema) != 2 || len(got.Table.GlobalSecondaryIndexes) != 1 {
		t.Errorf("the table has keys %+v and indexes %+v", got.Table.KeySchema, got.Table.GlobalSecondaryIndexes)
	}
}

// What a reader has to type: names of parameters and outputs stand in documents as code, and
// outputs in <…> where their value goes.
func TestDocumentsNameOnlyParametersAndOutputsThatExist(t *testing.T) {
	t.Parallel()
	root, err := Root(".")
	if err != nil {
		t.Fatal(err)
	}
	read := func(file string) string {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	var document struct {
		Parameters map[string]yaml.Node `yaml:"Parameters"`
		Outputs    map[string]yaml.Node `yaml:"Outputs"`
	}
	err = yaml.Unmarshal([]byte(read("template.yaml")), &document)
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile("`[^`\n]*`|(?m)^ {4,}\\S.*$")
	name := regexp.MustCompile(`\b[A-Z][a-z]+([A-Z][a-z]+)+\b`)
	value := regexp.MustCompile(`<([A-Z][a-z]+([A-Z][a-z]+)+)>`)
	values := 0
	for _, file := range []string{"README.md", "docs/page.md", "docs/runbook.md", ".env.default", "samconfig.toml"} {
		text := read(file)
		for _, match := range value.FindAllStringSubmatch(text, -1) {
			values++
			_, ok := document.Outputs[match[1]]
			if !ok {
				t.Errorf("%s: template.yaml has no output %s", file, match[1])
			}
		}
		if file == "docs/runbook.md" {
			continue // names metrics and resources in the same way
		}
		for _, name := range name.FindAllString(strings.Join(code.FindAllString(text, -1), " "), -1) {
			_, parameter := document.Parameters[name]
			_, output := document.Outputs[name]
			if !parameter && !output {
				t.Errorf("%s: template.yaml has no parameter and no output %s", file, name)
			}
		}
	}
	if values < 3 {
		t.Errorf("only %d values were found", values)
	}
}

// Lambda kills a process that takes all of its memory, and the garbage collector knows of no limit
// unless it is told.
func TestTheGarbageCollectorKnowsHowMuchMemoryThereIs(t *testing.T) {
	t.Parallel()
	deployed, err := Load(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range deployed.Functions {
		want := fmt.Sprintf("%dMiB", f.MemoryMB*8/10)
		if f.Constants["GOMEMLIMIT"] != want {
			t.Errorf("%s has %d MB: GOMEMLIMIT should be %s and is %q", f.LogicalID, f.MemoryMB, want, f.Constants["GOMEMLIMIT"])
		}
	}
}
