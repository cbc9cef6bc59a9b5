package sam

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"managed-credentials/shared/local/template"
)

// What these tests read from template.yaml holds whatever the functions do, and needs neither SAM
// nor Docker.

func readRoles(t *testing.T) map[string]*role {
	t.Helper()
	deployed, err := template.Load(".")
	if err != nil {
		t.Fatal(err)
	}
	return loadRoles(t, deployed.Functions)
}

// allows asks a role about a call.
func allows(t *testing.T, r *role, c call) bool {
	t.Helper()
	allowed, err := r.allow(c)
	if err != nil {
		t.Fatal(err)
	}
	return allowed
}

// reads are the actions that answer with items.
var reads = []string{"dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:Query", "dynamodb:Scan", "dynamodb:TransactGetItems"}

func TestOnlyTheResolverReadsCiphertextAndDecrypts(t *testing.T) {
	t.Parallel()
	roles := readRoles(t)
	bound := map[string][]string{
		"kms:EncryptionContextKeys":        {"user", "provider", "credential"},
		"kms:EncryptionContext:user":       {userID},
		"kms:EncryptionContext:provider":   {"openai"},
		"kms:EncryptionContext:credential": {ownID},
	}
	for name, r := range roles {
		resolver := name == "resolve-credential"
		if allows(t, r, call{"kms:Decrypt", "SecretsKey.Arn", bound}) != resolver {
			t.Errorf("whether %s may decrypt is %v", name, !resolver)
		}
		ciphertext := false
		for _, action := range reads {
			specific := map[string][]string{"dynamodb:Attributes": {"pk", "sk", "secret"}, "dynamodb:Select": {"SPECIFIC_ATTRIBUTES"}}
			ciphertext = ciphertext || allows(t, r, call{action, "Table.Arn", specific})
			// A read that names no attributes answers with all of them.
			for _, whole := range []map[string][]string{
				{"dynamodb:Attributes": {"pk"}, "dynamodb:Select": {"ALL_ATTRIBUTES"}},
				{"dynamodb:Select": {"ALL_ATTRIBUTES"}},
				nil,
			} {
				if allows(t, r, call{action, "Table.Arn", whole}) {
					t.Errorf("%s may read whole items: %s with %v", name, action, whole)
				}
			}
		}
		if ciphertext != resolver {
			t.Errorf("whether %s may read a ciphertext is %v", name, ciphertext)
		}
	}
}

// Not even an administrator's role decrypts, whatever its policies say.
func TestTheKeyItselfRefusesToDecryptForAllButTheResolver(t *testing.T) {
	t.Parallel()
	var document struct {
		Resources struct {
			SecretsKey struct {
				Properties struct {
					KeyPolicy struct {
						Statement []struct {
							Effect    string    `yaml:"Effect"`
							Principal yaml.Node `yaml:"Principal"`
							Action    texts     `yaml:"Action"`
							Resource  string    `yaml:"Resource"`
							Condition yaml.Node `yaml:"Condition"`
						} `yaml:"Statement"`
					} `yaml:"KeyPolicy"`
				} `yaml:"Properties"`
			} `yaml:"SecretsKey"`
		} `yaml:"Resources"`
	}
	decode(t, &document)
	for _, s := range document.Resources.SecretsKey.Properties.KeyPolicy.Statement {
		if s.Effect != "Deny" {
			continue
		}
		if s.Principal.Value != "*" || !slices.Equal(s.Action, texts{"kms:Decrypt"}) || s.Resource != "*" {
			t.Errorf("the key denies %v on %s to %s", s.Action, s.Resource, s.Principal.Value)
		}
		// No IfExists: the operator holds of a caller without a role's ARN, too.
		var condition map[string]map[string]yaml.Node
		err := s.Condition.Decode(&condition)
		if err != nil {
			t.Fatal(err)
		}
		but := condition["ArnNotEquals"]["aws:PrincipalArn"]
		if len(condition) != 1 || len(condition["ArnNotEquals"]) != 1 || but.Tag != "!GetAtt" || but.Value != "ResolveCredentialRole.Arn" {
			t.Errorf("the key denies it but for %s %s", but.Tag, but.Value)
		}
		return
	}
	t.Error("the key denies nothing")
}

func TestNoRoleWritesWhatIsNotItsWork(t *testing.T) {
	t.Parallel()
	roles := readRoles(t)
	beside := []string{"scopes", "username", "host"}
	for name, attributes := range map[string][]string{
		"list-with-provision": append(beside, "cognito_username"),
		"reconcile":           beside,
		"user-cleanup":        append(beside, "committed"),
		"resolve-credential":  append(beside, "secret", "resource_id", "key_id", "committed"),
		"operate":             append(beside, "secret", "key_id", "committed"),
		"delete-guard":        append(beside, "secret", "state"),
		"create-credential":   {"state", "owner", "resource_id", "due_at"},
		"update-guard":        {"state", "owner", "resource_id", "due_at"},
	} {
		for _, attribute := range attributes {
			for _, action := range []string{"dynamodb:UpdateItem", "dynamodb:PutItem"} {
				keys := map[string][]string{"dynamodb:Attributes": {"pk", "sk", attribute}}
				if action == "dynamodb:PutItem" {
					keys["dynamodb:EnclosingOperation"] = []string{"TransactWriteItems"}
				}
				if allows(t, roles[name], call{action, "Table.Arn", keys}) {
					t.Errorf("%s may %s with %s", name, action, attribute)
				}
			}
		}
	}
}

// AWS's pages leave open whether dynamodb:ReturnValues also stands for
// ReturnValuesOnConditionCheckFailure, and whether a ConditionCheckItem has
// dynamodb:EnclosingOperation. A deletion must go through by each reading.
func TestNoFlowHangsOnAConditionKeyWhoseMeaningIsOpen(t *testing.T) {
	t.Parallel()
	roles := readRoles(t)
	for name, request := range map[string][2]string{
		"delete-guard": {"TransactWriteItems", `{"TransactItems":[{"ConditionCheck":{"Key":{"pk":{},"sk":{}},"ReturnValuesOnConditionCheckFailure":"ALL_OLD"}},` +
			`{"Delete":{"Key":{"pk":{},"sk":{}},"ReturnValuesOnConditionCheckFailure":"ALL_OLD"}}]}`},
		"user-cleanup": {"DeleteItem", `{"Key":{"pk":{},"sk":{}},"ReturnValuesOnConditionCheckFailure":"ALL_OLD"}`},
		"reconcile":    {"DeleteItem", `{"Key":{"pk":{},"sk":{}},"ReturnValuesOnConditionCheckFailure":"ALL_OLD"}`},
		"operate":      {"DeleteItem", `{"Key":{"pk":{},"sk":{}},"ReturnValuesOnConditionCheckFailure":"ALL_OLD"}`},
		"update-guard": {"TransactWriteItems", `{"TransactItems":[{"ConditionCheck":{"Key":{"pk":{},"sk":{}},"ReturnValuesOnConditionCheckFailure":"ALL_OLD"}},` +
			`{"Update":{"Key":{"pk":{},"sk":{}},"ReturnValuesOnConditionCheckFailure":"ALL_OLD"}}]}`},
		"list-with-provision": {"TransactWriteItems",
			`{"TransactItems":[{"ConditionCheck":{"Key":{"pk":{},"sk":{}},"ReturnValuesOnConditionCheckFailure":"ALL_OLD"}},{"Update":{"Key":{"pk":{},"sk":{}}}}]}`},
		"create-credential": {"TransactWriteItems",
			`{"TransactItems":[{"ConditionCheck":{"Key":{"pk":{},"sk":{}},"ReturnValuesOnConditionCheckFailure":"ALL_OLD"}},{"Put":{"Item":{"pk":{},"sk":{}}}}]}`},
	} {
		calls, err := dynamoDBCalls(request[0], []byte(request[1]))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range calls {
			if !allows(t, roles[name], c) {
				t.Errorf("%s may not %s with %v", name, c.action, c.keys)
			}
		}
	}
}

func TestTheDeleteGuardCanOnlyDeleteItems(t *testing.T) {
	t.Parallel()
	for _, s := range readRoles(t)["delete-guard"].statements {
		check := slices.Equal(s.Action, texts{"dynamodb:ConditionCheckItem"}) // of whether the user is suspended
		if !s.ofLambda() && (!slices.Equal(s.Action, texts{"dynamodb:DeleteItem"}) && !check || !slices.Equal(s.Resource, resources{"Table.Arn"})) {
			t.Errorf("%s: it may do %v on %v", s.Sid, s.Action, s.Resource)
		}
	}
}

// Their names are not listed, because a name that only a rare fault needs would be missing without
// any test that tells.
func TestOnlyTheProtocolsOwnWritesNameNoAttributes(t *testing.T) {
	t.Parallel()
	protocol := []string{"list-with-provision", "reconcile", "user-cleanup"}
	writes := []string{"dynamodb:UpdateItem"}
	for name, r := range readRoles(t) {
		for _, s := range r.statements {
			if s.Effect == "Deny" || !slices.Equal(s.Resource, resources{"Table.Arn"}) || len(s.Condition["ForAllValues:StringEquals"]["dynamodb:Attributes"]) > 0 {
				continue
			}
			other := slices.ContainsFunc(s.Action, func(action string) bool { return !slices.Contains(writes, action) })
			if other || !slices.Contains(protocol, name) {
				t.Errorf("%s: %s allows %v on the table's items whole", name, s.Sid, s.Action)
			}
		}
	}
}

// What Lambda itself does in a function's role no event can show.
func TestLambdaMayLogForAFunctionAndReportItsFailuresAndNoMore(t *testing.T) {
	t.Parallel()
	deployed, err := template.Load(".")
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Resources map[string]struct {
			Properties yaml.Node `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	decode(t, &document)
	roles := loadRoles(t, deployed.Functions)
	for _, f := range deployed.Functions {
		var p struct {
			LoggingConfig struct {
				LogGroup string `yaml:"LogGroup"`
			} `yaml:"LoggingConfig"`
			EventInvokeConfig struct {
				DestinationConfig struct {
					OnFailure struct {
						Destination string `yaml:"Destination"`
					} `yaml:"OnFailure"`
				} `yaml:"DestinationConfig"`
			} `yaml:"EventInvokeConfig"`
		}
		properties := document.Resources[f.LogicalID].Properties
		err := properties.Decode(&p)
		if err != nil {
			t.Fatal(err)
		}
		want := []statement{{Sid: "Log", Action: texts{"logs:CreateLogStream", "logs:PutLogEvents"}, Resource: resources{p.LoggingConfig.LogGroup + ".Arn"}}}
		failures := p.EventInvokeConfig.DestinationConfig.OnFailure.Destination
		if failures != "" {
			want = append(want, statement{Sid: "ReportFailure", Action: texts{"sqs:SendMessage"}, Resource: resources{failures}})
		}
		var got []statement
		for _, s := range roles[f.Name].statements {
			if s.ofLambda() {
				got = append(got, s)
			}
		}
		same := func(a, b statement) bool {
			return a.Sid == b.Sid && slices.Equal(a.Action, b.Action) && slices.Equal(a.Resource, b.Resource)
		}
		if !slices.EqualFunc(got, want, same) {
			t.Errorf("Lambda may do for %s\n\t%v\nand should\n\t%v", f.Name, got, want)
		}
	}
}

// CloudTrail logs invocations only if it is told to, and a log group that goes with its stack takes
// the audit lines along.
func TestWhoInvokedWhatAuditsStaysOnRecord(t *testing.T) {
	t.Parallel()
	audited := []string{"Operate", "ResolveCredential", "UserCleanup"}
	var document struct {
		Resources map[string]struct {
			DeletionPolicy      string    `yaml:"DeletionPolicy"`
			UpdateReplacePolicy string    `yaml:"UpdateReplacePolicy"`
			Properties          yaml.Node `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	decode(t, &document)
	var trail struct {
		EventSelectors []struct {
			ReadWriteType string `yaml:"ReadWriteType"`
			DataResources []struct {
				Type   string   `yaml:"Type"`
				Values []string `yaml:"Values"`
			} `yaml:"DataResources"`
		} `yaml:"EventSelectors"`
	}
	properties := document.Resources["Trail"].Properties
	err := properties.Decode(&trail)
	if err != nil {
		t.Fatal(err)
	}
	var logged []string
	for _, s := range trail.EventSelectors {
		for _, d := range s.DataResources {
			if d.Type == "AWS::Lambda::Function" && s.ReadWriteType == "All" {
				logged = append(logged, d.Values...)
			}
		}
	}
	for _, function := range audited {
		if !slices.Contains(logged, function+".Arn") {
			t.Errorf("the trail does not log who invokes %s", function)
		}
		logs := document.Resources[function+"Logs"]
		var p struct {
			LogGroupName []yaml.Node `yaml:"LogGroupName"`
		}
		err := logs.Properties.Decode(&p)
		if err != nil || len(p.LogGroupName) != 2 || !strings.HasSuffix(p.LogGroupName[0].Value, "-${Unique}") {
			t.Errorf("the log group of %s has a name that the next stack would want: %v", function, err)
		}
		if !strings.HasPrefix(logs.DeletionPolicy, "Retain") || logs.UpdateReplacePolicy != "Retain" {
			t.Errorf("the log group of %s goes with the stack", function)
		}
	}
}

// Policies of every kind: the roles', and those of the key, the queues and the bucket.
func TestNoPolicyAllowsByAWildcardWithoutAReason(t *testing.T) {
	t.Parallel()
	var document yaml.Node
	decode(t, &document)
	statements := 0
	each(&document, func(mapping *yaml.Node) {
		fields := map[string]int{}
		for i := 0; i < len(mapping.Content); i += 2 {
			fields[mapping.Content[i].Value] = i
		}
		effect, ok := fields["Effect"]
		if !ok {
			return
		}
		statements++
		if mapping.Content[effect+1].Value == "Deny" {
			return
		}
		for _, name := range []string{"NotAction", "NotResource", "NotPrincipal"} {
			_, ok := fields[name]
			if ok {
				t.Errorf("line %d: %s allows whatever it does not name", mapping.Line, name)
			}
		}
		action, ok := fields["Action"]
		if !ok || wild(mapping.Content[action+1]) {
			t.Errorf("line %d: an action is not named", mapping.Line)
		}
		principal, ok := fields["Principal"]
		if ok && wild(mapping.Content[principal+1]) {
			t.Errorf("line %d: everybody is allowed", mapping.Line)
		}
		resource, ok := fields["Resource"]
		if ok && wild(mapping.Content[resource+1]) && mapping.Content[resource].HeadComment == "" {
			t.Errorf("line %d: a resource is not named, and no comment says why", mapping.Content[resource].Line)
		}
	})
	if statements < 40 {
		t.Errorf("only %d statements were found", statements)
	}
}

// each calls f for every mapping.
func each(node *yaml.Node, f func(mapping *yaml.Node)) {
	if node.Kind == yaml.MappingNode {
		f(node)
	}
	for _, content := range node.Content {
		each(content, f)
	}
}

// wild reports whether there is a wildcard anywhere in a value.
func wild(node *yaml.Node) bool {
	return strings.ContainsAny(node.Value, "*?") || slices.ContainsFunc(node.Content, wild)
}

// What the schedule sends is an event of which the function's own test under SAM knows.
func TestTheScheduleSendsWhatOperateTakes(t *testing.T) {
	t.Parallel()
	var document struct {
		Resources struct {
			Operate struct {
				Properties struct {
					Events struct {
						AuditsDue struct {
							Properties struct {
								Input string `yaml:"Input"`
							} `yaml:"Properties"`
						} `yaml:"AuditsDue"`
					} `yaml:"Events"`
				} `yaml:"Properties"`
			} `yaml:"Operate"`
		} `yaml:"Resources"`
	}
	decode(t, &document)
	root, err := template.Root(".")
	if err != nil {
		t.Fatal(err)
	}
	event, err := os.ReadFile(filepath.Join(root, "functions", "operate", "events", "audit-due.json"))
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	err = json.Compact(&compact, event)
	if got := document.Resources.Operate.Properties.Events.AuditsDue.Properties.Input; err != nil || got != compact.String() {
		t.Errorf("%v: the schedule sends %s, and the event is %s", err, got, &compact)
	}
}
