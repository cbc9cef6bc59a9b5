package sam

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.yaml.in/yaml/v3"

	"managed-credentials/shared/local/template"
)

// role is the role that template.yaml gives one function, as far as it is about the function's own
// calls. SAM knows no IAM, and neither do the stand-ins: they are put behind the role, so that what
// would be refused on AWS is refused here.
//
// IAM is played only as far as this template goes: the few operators and keys that it uses. Where
// AWS's pages leave open what a condition key stands for, a call is allowed only if it is by each
// reading.
type role struct {
	statements []statement

	mu   sync.Mutex
	used map[use]bool
}

// use is something that one of the statements, by its index, allows and that a call was made with.
// What it is says the key: "action", "resource", or a condition's key.
type use struct {
	statement  int
	key, value string
}

type statement struct {
	Sid       string                      `yaml:"Sid"`
	Effect    string                      `yaml:"Effect"`
	Action    texts                       `yaml:"Action"`
	Resource  resources                   `yaml:"Resource"`
	Condition map[string]map[string]texts `yaml:"Condition"`
}

// texts is one text or a list of them.
type texts []string

func (l *texts) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		*l = texts{node.Value}
		return nil
	}
	return node.Decode((*[]string)(l))
}

// resources are what a statement names, each as template.yaml writes it. Of a text that is put
// together from parameters it is the text.
type resources []string

func (l *resources) UnmarshalYAML(node *yaml.Node) error {
	switch {
	case node.Kind == yaml.ScalarNode:
		*l = append(*l, node.Value)
	case node.Kind == yaml.AliasNode:
		return l.UnmarshalYAML(node.Alias)
	case node.Kind == yaml.SequenceNode && node.Tag == "!Sub":
		return l.UnmarshalYAML(node.Content[0])
	case node.Kind == yaml.SequenceNode:
		for _, each := range node.Content {
			err := l.UnmarshalYAML(each)
			if err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("line %d: a resource of a form that is not known here", node.Line)
	}
	return nil
}

// ofLambda reports whether a statement is about what Lambda itself does in a function's role: it
// logs, and it reports failures.
func (s statement) ofLambda() bool { return s.Sid == "Log" || s.Sid == "ReportFailure" }

// loadRoles returns the functions' roles by the functions' names.
func loadRoles(t *testing.T, functions []template.Function) map[string]*role {
	t.Helper()
	var document struct {
		Resources map[string]struct {
			Type       string    `yaml:"Type"`
			Properties yaml.Node `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	decode(t, &document)
	// parts are the statements that stand outside of the roles, by the role.
	parts := map[string][]statement{}
	for id, resource := range document.Resources {
		if resource.Type != "AWS::IAM::RolePolicy" {
			continue
		}
		var p struct {
			RoleName       string `yaml:"RoleName"`
			PolicyDocument struct {
				Statement []statement `yaml:"Statement"`
			} `yaml:"PolicyDocument"`
		}
		err := resource.Properties.Decode(&p)
		if err != nil {
			t.Fatalf("reading %s: %v", id, err)
		}
		parts[p.RoleName] = append(parts[p.RoleName], p.PolicyDocument.Statement...)
	}
	roles := map[string]*role{}
	for _, f := range functions {
		var properties struct {
			Policies []struct {
				PolicyDocument struct {
					Statement []statement `yaml:"Statement"`
				} `yaml:"PolicyDocument"`
			} `yaml:"Policies"`
		}
		node := document.Resources[f.LogicalID+"Role"].Properties
		err := node.Decode(&properties)
		if err != nil {
			t.Fatalf("reading the role of %s: %v", f.Name, err)
		}
		r := &role{used: map[use]bool{}}
		for _, policy := range properties.Policies {
			r.statements = append(r.statements, policy.PolicyDocument.Statement...)
		}
		r.statements = append(r.statements, parts[f.LogicalID+"Role"]...)
		if len(r.statements) == 0 {
			t.Fatalf("%s has no role", f.Name)
		}
		roles[f.Name] = r
	}
	return roles
}

// decode reads template.yaml.
func decode(t *testing.T, into any) {
	t.Helper()
	root, err := template.Root(".")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	err = yaml.Unmarshal(text, into)
	if err != nil {
		t.Fatal(err)
	}
}

// call is one action, with what IAM would know of it.
type call struct {
	action string
	// resource is as template.yaml writes it.
	resource string
	// keys are the request's values of the condition keys.
	keys map[string][]string
}

// allow reports whether some statement allows the call and none denies it, and notes that it was
// made.
func (r *role) allow(c call) (bool, error) {
	allowing := -1
	for i, s := range r.statements {
		if !slices.Contains(s.Action, c.action) || !slices.Contains(s.Resource, c.resource) {
			continue
		}
		met, err := s.met(c)
		switch {
		case err != nil:
			return false, err
		case !met:
		case s.Effect == "Deny":
			return false, nil
		case s.Effect != "Allow":
			return false, fmt.Errorf("a statement with the effect %q", s.Effect)
		case allowing < 0:
			allowing = i
		}
	}
	if allowing < 0 {
		return false, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used[use{allowing, "action", c.action}] = true
	r.used[use{allowing, "resource", c.resource}] = true
	for key, values := range c.keys {
		for _, value := range values {
			r.used[use{allowing, key, value}] = true
		}
	}
	return true, nil
}

// met reports whether all of a statement's conditions hold
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html).
func (s statement) met(c call) (bool, error) {
	for operator, conditions := range s.Condition {
		for key, want := range conditions {
			got, present := c.keys[key]
			wanted := func(value string) bool { return slices.Contains(want, value) }
			unwanted := func(value string) bool { return !wanted(value) }
			var holds bool
			switch operator {
			// A key of one value has several here where its meaning is open.
			case "StringEquals":
				holds = present && !slices.ContainsFunc(got, unwanted)
			case "StringEqualsIfExists", "ForAllValues:StringEquals":
				holds = !slices.ContainsFunc(got, unwanted)
			case "ForAnyValue:StringEquals":
				holds = slices.ContainsFunc(got, wanted)
			case "Null":
				holds = present == (want[0] == "false")
			default:
				return false, fmt.Errorf("the operator %q is not known here", operator)
			}
			if !holds {
				return false, nil
			}
		}
	}
	return true, nil
}

// unused is what the role allows and nothing has used, a line a statement: actions, resources, and
// the values that a condition lets a key have, such as the table's attributes.
func (r *role) unused() []string {
	var lines []string
	for i, s := range r.statements {
		if s.ofLambda() || s.Effect == "Deny" {
			continue
		}
		allowed := map[string][]string{"action": s.Action, "resource": s.Resource}
		for operator, conditions := range s.Condition {
			// The others only narrow what is allowed.
			if strings.HasSuffix(operator, "StringEquals") {
				for key, values := range conditions {
					allowed[key] = values
				}
			}
		}
		var left []string
		for key, values := range allowed {
			for _, value := range values {
				if !r.used[use{i, key, value}] {
					left = append(left, key+" "+value)
				}
			}
		}
		if len(left) > 0 {
			slices.Sort(left)
			lines = append(lines, s.Sid+": "+strings.Join(left, ", "))
		}
	}
	return lines
}

// behindRole is a stand-in that answers only what the role of the function under test allows.
// Before and after, when there is no such function, it answers the test itself.
func (w *world) behindRole(h http.Handler) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		acting := w.acting.Load()
		if acting == nil {
			h.ServeHTTP(out, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // a caller who hangs up in the middle has made no call
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		calls, err := callsOf(r, body)
		if err != nil {
			w.t.Error(err)
		}
		for _, c := range calls {
			allowed, err := acting.allow(c)
			if err != nil {
				w.t.Error(err)
			}
			if !allowed {
				w.t.Errorf("the function's role does not allow %s on %s with %v", c.action, c.resource, c.keys)
				out.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(out, `{"__type":"AccessDeniedException"}`)
				return
			}
		}
		h.ServeHTTP(out, r)
	})
}

// callsOf translates a request into what IAM is asked about it. The tests call functions, secrets
// and queues as template.yaml does.
func callsOf(r *http.Request, body []byte) ([]call, error) {
	function, ok := strings.CutPrefix(r.URL.Path, "/2015-03-31/functions/")
	if ok {
		function, ok = strings.CutSuffix(function, "/invocations")
		if !ok {
			return nil, fmt.Errorf("the request %s of Lambda is not known here", r.URL.Path)
		}
		return []call{{"lambda:InvokeFunction", function + ".Arn", nil}}, nil
	}
	target := r.Header.Get("X-Amz-Target")
	service, operation, _ := strings.Cut(target, ".")
	switch service {
	case "DynamoDB_20120810":
		return dynamoDBCalls(operation, body)
	case "TrentService":
		var in struct{ EncryptionContext map[string]string }
		err := json.Unmarshal(body, &in)
		keys := map[string][]string{"kms:EncryptionContextKeys": slices.Collect(maps.Keys(in.EncryptionContext))}
		for name, value := range in.EncryptionContext {
			keys["kms:EncryptionContext:"+name] = []string{value}
		}
		return []call{{"kms:" + operation, "SecretsKey.Arn", keys}}, err
	case "secretsmanager":
		var in struct{ SecretId string }
		err := json.Unmarshal(body, &in)
		if strings.HasPrefix(in.SecretId, ownKeys) {
			in.SecretId = "arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret:${AWS::StackName}/org-keys/*"
		}
		return []call{{"secretsmanager:" + operation, in.SecretId, nil}}, err
	case "AmazonSQS":
		var in struct{ QueueUrl string }
		err := json.Unmarshal(body, &in)
		return []call{{"sqs:" + operation, path.Base(in.QueueUrl) + ".Arn", nil}}, err
	case "AWSCognitoIdentityProviderService":
		var in struct{ UserPoolId string }
		err := json.Unmarshal(body, &in)
		if err == nil && in.UserPoolId != poolID {
			err = fmt.Errorf("%s of the user pool %q", target, in.UserPoolId)
		}
		return []call{{"cognito-idp:" + operation, "arn:${AWS::Partition}:cognito-idp:${AWS::Region}:${AWS::AccountId}:userpool/${Pool}", nil}}, err
	default:
		return nil, fmt.Errorf("the call %s %q is not known here", r.URL.Path, target)
	}
}

// dynamoDBRequest is what several operations have in common. The store names every attribute
// through ExpressionAttributeNames.
type dynamoDBRequest struct {
	IndexName, Select, ProjectionExpression, ReturnValues string
	ReturnValuesOnConditionCheckFailure                   string
	Key, Item                                             map[string]any
	ExpressionAttributeNames                              map[string]string
	RequestItems                                          map[string]dynamoDBRequest
	TransactItems                                         []map[string]dynamoDBRequest
}

// batchWrite is a BatchWriteItem: by table, each request by what it does.
type batchWrite struct {
	RequestItems map[string][]map[string]dynamoDBRequest
}

// dynamoDBCalls follows
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/specifying-conditions.html#FGAC_DDB.ConditionKeys.
func dynamoDBCalls(operation string, body []byte) ([]call, error) {
	if operation == "BatchWriteItem" {
		return batchWriteCalls(body)
	}
	var in dynamoDBRequest
	err := json.Unmarshal(body, &in)
	if err != nil {
		return nil, err
	}
	var calls []call
	switch operation {
	case "TransactWriteItems":
		for _, item := range in.TransactItems {
			for kind, part := range item {
				action := map[string]string{"ConditionCheck": "ConditionCheckItem", "Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem"}[kind]
				c := part.call(action)
				if kind != "ConditionCheck" { // of which AWS's list of condition keys does not have it
					c.keys["dynamodb:EnclosingOperation"] = []string{operation}
				}
				calls = append(calls, c)
			}
		}
	case "BatchGetItem":
		for _, part := range in.RequestItems {
			c := part.call(operation)
			if part.ProjectionExpression == "" {
				delete(c.keys, "dynamodb:Attributes")
			}
			calls = append(calls, c)
		}
	case "Query", "Scan":
		c := in.call(operation)
		switch {
		case in.IndexName != "":
			c.resource = "${Table.Arn}/index/" + in.IndexName
		case in.Select == "" && in.ProjectionExpression == "":
			c.keys["dynamodb:Select"] = []string{"ALL_ATTRIBUTES"}
		}
		calls = append(calls, c)
	default:
		calls = append(calls, in.call(operation))
	}
	return calls, nil
}

func batchWriteCalls(body []byte) ([]call, error) {
	var in batchWrite
	err := json.Unmarshal(body, &in)
	var calls []call
	for _, requests := range in.RequestItems {
		for _, request := range requests {
			for _, part := range request {
				calls = append(calls, part.call("BatchWriteItem"))
			}
		}
	}
	return calls, err
}

func (r dynamoDBRequest) call(action string) call {
	keys := map[string][]string{}
	for _, attributes := range []map[string]any{r.Key, r.Item} {
		keys["dynamodb:Attributes"] = slices.AppendSeq(keys["dynamodb:Attributes"], maps.Keys(attributes))
	}
	keys["dynamodb:Attributes"] = slices.AppendSeq(keys["dynamodb:Attributes"], maps.Values(r.ExpressionAttributeNames))
	if r.Select != "" {
		keys["dynamodb:Select"] = []string{r.Select}
	}
	// Whether the key stands for the second parameter, too, AWS's pages leave open.
	for _, value := range []string{r.ReturnValues, r.ReturnValuesOnConditionCheckFailure} {
		if value != "" {
			keys["dynamodb:ReturnValues"] = append(keys["dynamodb:ReturnValues"], value)
		}
	}
	return call{"dynamodb:" + action, "Table.Arn", keys}
}
