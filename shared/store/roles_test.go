package store_test

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/template"
	"managed-credentials/shared/store"
)

// attributeLists are the attributes that each role allows, by the role and the statement.
func attributeLists(t *testing.T) map[string][]string {
	t.Helper()
	root, err := template.Root(".")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Resources map[string]struct {
			Type       string    `yaml:"Type"`
			Properties yaml.Node `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	err = yaml.Unmarshal(text, &document)
	if err != nil {
		t.Fatal(err)
	}
	lists := map[string][]string{}
	for id, resource := range document.Resources {
		if resource.Type != "AWS::IAM::Role" {
			continue
		}
		var role struct {
			Policies []struct {
				PolicyDocument struct {
					Statement []struct {
						Sid       string                          `yaml:"Sid"`
						Effect    string                          `yaml:"Effect"`
						Condition map[string]map[string]yaml.Node `yaml:"Condition"`
					} `yaml:"Statement"`
				} `yaml:"PolicyDocument"`
			} `yaml:"Policies"`
		}
		err := resource.Properties.Decode(&role)
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		for _, policy := range role.Policies {
			for _, s := range policy.PolicyDocument.Statement {
				allowed, ok := s.Condition["ForAllValues:StringEquals"]["dynamodb:Attributes"]
				if !ok || s.Effect != "Allow" {
					continue
				}
				var names []string
				err := allowed.Decode(&names)
				if err != nil {
					t.Fatalf("%s of %s: %v", s.Sid, id, err)
				}
				lists[strings.TrimSuffix(id, "Role")+" "+s.Sid] = names
			}
		}
	}
	return lists
}

// request is what names attributes in a request, or in a part of one.
type request struct {
	Key, Item                map[string]any
	ExpressionAttributeNames map[string]string
	RequestItems             map[string]json.RawMessage
	TransactItems            []map[string]request
}

// named are the attributes that the calls of op have named since the proxy was reset. Of a
// transaction these are the parts that do what op says.
func (tb *table) named(op string) []string {
	tb.t.Helper()
	all := map[string]bool{}
	add := func(r request) {
		for _, names := range []map[string]any{r.Key, r.Item} {
			for name := range names {
				all[name] = true
			}
		}
		for _, name := range r.ExpressionAttributeNames {
			all[name] = true
		}
	}
	for _, c := range tb.proxy.Calls() {
		if c.Op != op && c.Op != "TransactWriteItems" {
			continue
		}
		var r request
		err := json.Unmarshal(c.Body, &r)
		if err != nil {
			tb.t.Fatal(err)
		}
		for _, part := range r.TransactItems {
			if op == "PutItem" {
				add(part["Put"])
			}
			if op == "ConditionCheckItem" {
				add(part["ConditionCheck"])
			}
			if c.Op != op && op == "UpdateItem" {
				add(part["Update"])
			}
			if op == "DeleteItem" {
				add(part["Delete"])
			}
		}
		for _, items := range r.RequestItems {
			var read request
			var writes []struct{ DeleteRequest request }
			if json.Unmarshal(items, &writes) != nil {
				err = json.Unmarshal(items, &read)
			}
			if err != nil {
				tb.t.Fatal(err)
			}
			add(read)
			for _, write := range writes {
				add(write.DeleteRequest)
			}
		}
		if c.Op == op {
			add(r)
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// What the roles allow is written by hand, and a name that is missing there is noticed on AWS
// alone, or by minutes of SAM.
func TestTheRolesAllowWhatTheStoreNames(t *testing.T) {
	t.Parallel()
	expires, secret := now.Unix(), []byte("sealed")
	own := credential.Metadata{
		ID: ownID, Provider: "github", Type: credential.APIKey, Title: str("mine"), Scopes: []string{"repo"}, Username: str("me"), Host: str("h"),
		ExpiresAt: &expires, Hint: str("1234"), Stored: []string{"headers.A"},
	}
	material := credential.APIKeyMaterial(credential.NewSecret("a-key-that-is-long-enough-for-a-hint")).Expiring(now)
	lists := attributeLists(t)
	for _, c := range []struct {
		// op is what is done, and by the statements of these roles.
		op         string
		statements []string
		do         func(*table) error
	}{
		{"Query", []string{"ListWithProvision QueryAllButSecrets"}, func(tb *table) error {
			_, err := tb.Account(t.Context(), user)
			return err
		}},
		{"Scan", []string{"Operate ScanAllButSecrets"}, func(tb *table) error {
			_, _, _, err := tb.Scan(t.Context(), store.Segment{}, store.Key{})
			return err
		}},
		{"Query", []string{"CreateCredential CountOwn"}, func(tb *table) error { return tb.CheckRoom(t.Context(), user, 1, "request") }},
		{"PutItem", []string{"CreateCredential CreateOwn"}, func(tb *table) error {
			_, err := tb.CreateOnce(t.Context(), user, own, "request", secret)
			return err
		}},
		{"ConditionCheckItem", []string{"CreateCredential CheckTombstone", "ListWithProvision CheckTombstone", "UpdateGuard CheckTombstone", "DeleteGuard CheckTombstone"}, func(tb *table) error {
			_, err := tb.Create(t.Context(), user, own, secret)
			return err
		}},
		{"UpdateItem", []string{"UpdateGuard UpdateOwn"}, func(tb *table) error {
			tb.put(ownKey, ownItem)
			change := credential.Change{
				Type: credential.OAuth2, Title: own.Title, Material: &material, Match: []string{"0"},
				Open: credential.Open{Scopes: own.Scopes, Username: own.Username, Host: own.Host}, Named: []string{"scopes", "username"},
			}
			_, err := tb.Update(t.Context(), user, "github", ownID, change, secret)
			return err
		}},
		{"DeleteItem", []string{"DeleteGuard DeleteOwn"}, func(tb *table) error {
			tb.put(ownKey, ownItem)
			return tb.Delete(t.Context(), user, "github", ownID, "0")
		}},
		{"BatchGetItem", []string{"UpdateGuard GetOwn"}, func(tb *table) error {
			tb.put(ownKey, ownItem)
			_, err := tb.Update(t.Context(), user, "github", ownID, credential.Change{Title: own.Title}, nil)
			return err
		}},
		{"ConditionCheckItem", []string{"Reconcile CheckAccount"}, func(tb *table) error {
			slot := tb.slot(claimedItem)
			return errors.Join(tb.Suspend(t.Context(), user, store.Suspension{By: store.ByOperator, OrderedBy: "me", Reason: "a drill"}), tb.PostponeSuspended(t.Context(), slot, now))
		}},
		{"ConditionCheckItem", []string{"UserCleanup CheckAccount", "Operate CheckAccount"}, func(tb *table) error {
			tb.bury()
			return tb.Reopen(t.Context(), store.Slot{User: user, Provider: provider})
		}},
		{"UpdateItem", []string{"Operate Suspend"}, func(tb *table) error {
			err := errors.Join(tb.past(now).Suspend(t.Context(), user, store.Suspension{By: store.ByCognito}),
				tb.Suspend(t.Context(), user, store.Suspension{By: store.ByOperator, OrderedBy: "me", Reason: "a drill", KeysEnd: now}))
			_, enabling := tb.Enable(t.Context(), user, store.ByOperator)
			return errors.Join(err, enabling)
		}},
		{"DeleteItem", []string{"Operate Enable"}, func(tb *table) error {
			err := tb.Suspend(t.Context(), user, store.Suspension{By: store.ByOperator, OrderedBy: "me", Reason: "a drill"})
			_, enabling := tb.Enable(t.Context(), user, store.ByOperator)
			return errors.Join(err, enabling)
		}},
		{"Query", []string{"UserCleanup ReadRemains", "Reconcile ReadRemains"}, func(tb *table) error {
			_, err := tb.Remains(t.Context(), user, nil)
			return err
		}},
		{"BatchWriteItem", []string{"UserCleanup DeleteRemains", "Reconcile DeleteRemains"}, func(tb *table) error {
			return tb.DeleteOwn(t.Context(), ownKey)
		}},
		{"PutItem", []string{"UserCleanup Bury"}, func(tb *table) error {
			_, err := tb.Bury(t.Context(), user, "name", provider)
			return err
		}},
		{"PutItem", []string{"UserCleanup Reopen", "Reconcile Reopen"}, func(tb *table) error {
			tb.bury()
			tb.proxy.Reset()
			return tb.Reopen(t.Context(), store.Slot{User: user, Provider: provider, HeldUntil: now})
		}},
		{"PutItem", []string{"Operate Reopen"}, func(tb *table) error { // what an audit found is not held back
			tb.bury()
			tb.proxy.Reset()
			return tb.Reopen(t.Context(), store.Slot{User: user, Provider: provider})
		}},
		{"DeleteItem", []string{"UserCleanup Remove", "Reconcile Remove"}, func(tb *table) error {
			return tb.Remove(t.Context(), tb.slot(claimedItem))
		}},
		{"BatchGetItem", []string{"ResolveCredential ReadCredential"}, func(tb *table) error {
			tb.put(ownKey, ownItem)
			_, err := tb.Sealed(t.Context(), user, "github", ownID)
			return err
		}},
		{"UpdateItem", []string{"ResolveCredential MarkReported"}, func(tb *table) error {
			return tb.Report(t.Context(), tb.slot(claimedItem), time.Minute)
		}},
		{"UpdateItem", []string{"ResolveCredential NoteUse"}, func(tb *table) error {
			return tb.NoteUse(t.Context(), user, store.Sealed{Metadata: credential.Metadata{ID: ownID, Provider: "github"}})
		}},
		{"BatchGetItem", []string{"Operate ReadJobs"}, func(tb *table) error {
			_, err := tb.Job(t.Context(), "job")
			return err
		}},
		{"UpdateItem", []string{"Operate KeepJobs"}, func(tb *table) error {
			j, err := tb.ClaimJob(t.Context(), store.Job{Name: "job"}, leaseEnd)
			if err != nil {
				return err
			}
			return tb.EndJob(t.Context(), j)
		}},
	} {
		tb := newTable(t)
		err := c.do(tb)
		if err != nil {
			t.Errorf("%v: %v", c.statements, err)
		}
		for _, statement := range c.statements {
			allowed := slices.Sorted(slices.Values(lists[statement]))
			if got := tb.named(c.op); !slices.Equal(got, allowed) {
				t.Errorf("%s allows\n%v, but the store names\n%v", statement, allowed, got)
			}
		}
	}
}
