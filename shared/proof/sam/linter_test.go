package sam

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The evaluator in these tests knows of IAM what its author knew. An outside linter, parliament,
// has AWS's own lists: which actions there are, which resources each takes, and which condition
// keys. `make lint-template` starts it.
var linter = flag.String("parliament", "", "path of parliament, which checks the policies of template.yaml")

func TestAnOutsideLinterKnowsAllThatThePoliciesName(t *testing.T) {
	t.Parallel()
	if *linter == "" {
		t.Skip("needs parliament: see `make lint-template`")
	}
	statements := deployedStatements(t)
	if len(statements) < 40 {
		t.Errorf("only %d statements were found", len(statements))
	}
	// A statement a line, so that a finding's line says which.
	findings, err := lint(`{"Version":"2012-10-17","Statement":[` + "\n" + strings.Join(statements, ",\n") + "]}")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		about := ""
		if f.Location.Line >= 2 && f.Location.Line < len(statements)+2 {
			about = statements[f.Location.Line-2]
		}
		t.Errorf("%s %s: %s", f.Issue, f.Detail, about)
	}
}

// A linter that finds nothing would pass, too.
func TestTheOutsideLinterFindsWhatItIsThereFor(t *testing.T) {
	t.Parallel()
	if *linter == "" {
		t.Skip("needs parliament: see `make lint-template`")
	}
	const statement = `{"Version":"2012-10-17","Statement":[{"Sid":"A","Effect":"Allow","Action":"dynamodb:%s","Resource":"%s"%s}]}`
	const table = "arn:aws:dynamodb:us-east-1:111122223333:table/t"
	for want, policy := range map[string]string{
		"UNKNOWN_CONDITION_FOR_ACTION": fmt.Sprintf(statement, "ConditionCheckItem", table,
			`,"Condition":{"StringEquals":{"dynamodb:EnclosingOperation":"TransactWriteItems"}}`),
		"UNKNOWN_ACTION":    fmt.Sprintf(statement, "DeleteItems", table, ""),
		"RESOURCE_MISMATCH": fmt.Sprintf(statement, "DeleteItem", "arn:aws:sqs:us-east-1:111122223333:q", ""),
	} {
		findings, err := lint(policy)
		if err != nil || len(findings) != 1 || findings[0].Issue != want {
			t.Errorf("of %s it finds %v, %v", policy, findings, err)
		}
	}
}

type finding struct {
	Issue    string          `json:"issue"`
	Detail   json.RawMessage `json:"detail"`
	Location struct {
		Line int `json:"line"`
	} `json:"location"`
}

// lint returns what parliament says of a policy.
func lint(policy string) ([]finding, error) {
	cmd := exec.Command(*linter, "--json")
	cmd.Stdin = strings.NewReader(policy)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil && len(out) == 0 {
		return nil, fmt.Errorf("running the linter: %w\n%s", err, &stderr)
	}
	var findings []finding
	lines := json.NewDecoder(bytes.NewReader(out))
	for lines.More() {
		var f finding
		err := lines.Decode(&f)
		if err != nil {
			return nil, err
		}
		findings = append(findings, f)
	}
	return findings, nil
}

// deployedStatements are the statements of all policies of template.yaml about what its resources
// may do, or have done to them, as they are once deployed. Whom a resource's policy is about is
// left out: the linter takes policies of roles.
func deployedStatements(t *testing.T) []string {
	t.Helper()
	var document struct {
		Resources yaml.Node `yaml:"Resources"`
	}
	decode(t, &document)
	types := map[string]string{}
	var all map[string]struct {
		Type string `yaml:"Type"`
	}
	err := document.Resources.Decode(&all)
	if err != nil {
		t.Fatal(err)
	}
	for id, resource := range all {
		types[id] = resource.Type
	}
	var statements []string
	each(&document.Resources, func(mapping *yaml.Node) {
		for i := 0; i < len(mapping.Content); i += 2 {
			name := mapping.Content[i].Value
			if name != "PolicyDocument" && name != "KeyPolicy" {
				continue
			}
			var policy struct {
				Statement []statement `yaml:"Statement"`
			}
			err := mapping.Content[i+1].Decode(&policy)
			if err != nil {
				t.Fatalf("line %d: %v", mapping.Line, err)
			}
			for _, s := range policy.Statement {
				if name == "KeyPolicy" { // in which "*" is this key, with its aliases
					s.Resource = resources{"SecretsKey.Arn", "arn:aws:kms:us-east-1:111122223333:alias/any"}
				}
				statements = append(statements, s.deployed(t, types))
			}
		}
	})
	return statements
}

// deployed is the statement as JSON, with ARNs such as its resources have.
func (s statement) deployed(t *testing.T, types map[string]string) string {
	t.Helper()
	resources := []string{}
	for _, resource := range s.Resource {
		resources = append(resources, arn(t, resource, types))
	}
	conditions := map[string]map[string]any{}
	for operator, keys := range s.Condition {
		conditions[operator] = map[string]any{}
		for key, values := range keys {
			switch {
			case strings.HasSuffix(key, "Arn"):
				conditions[operator][key] = "arn:aws:iam::111122223333:role/any"
			case len(values) == 1: // some operators take no list
				conditions[operator][key] = values[0]
			default:
				conditions[operator][key] = values
			}
		}
	}
	text, err := json.Marshal(map[string]any{"Effect": s.Effect, "Action": s.Action, "Resource": resources, "Condition": conditions})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// arn is what a resource that template.yaml names so has for an ARN.
func arn(t *testing.T, resource string, types map[string]string) string {
	t.Helper()
	if resource == "*" || strings.HasPrefix(resource, "arn:") {
		return strings.NewReplacer("${AWS::Partition}", "aws", "${AWS::Region}", "us-east-1", "${AWS::AccountId}", "111122223333", "${Pool}", poolID).Replace(resource)
	}
	resource = strings.NewReplacer("${", "", "}", "", ".Arn", "").Replace(resource)
	id, rest, nested := strings.Cut(resource, "/")
	if nested {
		rest = strings.ReplaceAll("/"+rest, "AWS::AccountId", "111122223333")
	}
	forms := map[string]string{
		"AWS::DynamoDB::Table":        "arn:aws:dynamodb:us-east-1:111122223333:table/" + id,
		"AWS::KMS::Key":               "arn:aws:kms:us-east-1:111122223333:key/4b8f2a36-6f0e-4c8e-9f43-0d7d9a1c2e55",
		"AWS::Logs::LogGroup":         "arn:aws:logs:us-east-1:111122223333:log-group:" + id + ":*",
		"AWS::S3::Bucket":             "arn:aws:s3:::" + strings.ToLower(id),
		"AWS::SQS::Queue":             "arn:aws:sqs:us-east-1:111122223333:" + id,
		"AWS::SecretsManager::Secret": "arn:aws:secretsmanager:us-east-1:111122223333:secret:" + id + "-a1b2c3",
		"AWS::Serverless::Function":   "arn:aws:lambda:us-east-1:111122223333:function:" + id,
	}
	form, ok := forms[types[id]]
	if !ok {
		t.Fatalf("a policy names %s, of the type %q, whose ARN is not known here", resource, types[id])
	}
	return form + rest
}
