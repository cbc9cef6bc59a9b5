// Package deploy has template.yaml deployed: by AWS SAM's own build, package and deploy, to an
// emulator of AWS that other people wrote, ministack (https://ministack.org). It makes the stack,
// signs users in, runs them through their lives with the binaries that were built, updates the
// stack, deletes it, and makes it once more. What README.md says of a deployment is done as it is
// written there.
//
// Where the emulator cannot do what AWS does, the template is altered for it: [alterations] is the
// whole list, and the test fails when one of them has nothing to alter, or is not needed any more.
// What it does not show: that a role allows what its function does (the emulator asks no policy;
// shared/proof/sam does), throttles, logs and what alarms make of them, CloudTrail, and what
// CloudFormation refuses that the emulator takes.
//
// `make test-deploy` starts it. It is no part of `go test ./...`, since it needs Python.
package deploy

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/provider/agentmail/fake"
)

var (
	tools = flag.String("tools", "", "folder of a virtual environment with requirements.txt; empty to skip the test")
	sam   = flag.String("sam", "", "path of AWS SAM's program")
)

// unmet are the conditions of resources that hold in none of the deployments: the emulator knows no
// trails, and a domain is not made by this template.
var unmet = []string{"MakeTrail", "HaveDomain"}

func TestTheStackIsDeployedUsedUpdatedDeletedAndDeployedAgain(t *testing.T) {
	if *tools == "" {
		t.Skip("needs an emulator of AWS: see `make test-deploy`")
	}
	w := newWorld(t)
	transformed := w.built()
	altered := alter(t, transformed, none)
	w.run("deployment", func() { w.checkDeployment(altered) })
	w.run("alterations", func() { w.checkAlterations(transformed, altered) })
}

func (w *world) checkDeployment(altered object) {
	w.t.Helper()
	s := w.deploy("acme", altered, "AgentMailBaseUrl="+w.mailURL)
	s.complete(altered, append(unmet, "MakeManagedLogin")...)
	s.wants(http.StatusOK, "GET", "/", "", "")
	s.wants(http.StatusUnauthorized, "GET", "/credentials", "", "")
	s.wants(http.StatusUnauthorized, "GET", "/credentials", "forged", "")
	s.fillSecrets()

	// The second deployment of README.md: login pages, and a system credential.
	callback := overHTTPS(s.output("ApiUrl")) + "/"
	used := s.used
	s = w.deploy("acme", altered, "ManagedLoginDomainPrefix=acme", "ManagedLoginCallbackUrl="+callback,
		`SystemCredentials='{"openai":"Use Credits for OpenAI"}'`)
	s.used = used
	s.complete(altered, unmet...)
	if overHTTPS(s.output("ApiUrl"))+"/" != callback {
		w.t.Errorf("the API has moved to %s", s.outputs["ApiUrl"])
	}
	config := s.decode(s.wants(http.StatusOK, "GET", "/config", "", ""))
	if config["client_id"] != s.output("UserPoolClientId") || config["managed_login_url"] != s.output("ManagedLoginUrl") {
		w.t.Errorf("the page's configuration is %v", config)
	}

	s.live(callback)
	s.deleteInPool(callback)
	s.redrive(callback)
	s.audit()
	s.aws("", "cloudwatch", "get-dashboard", "--dashboard-name", path.Base(s.output("DashboardUrl")))
	s.drain(altered, callback)
	s.windUp()
	again := w.deploy("acme", altered, "AgentMailBaseUrl="+w.mailURL)
	again.complete(altered, append(unmet, "MakeManagedLogin")...)
	again.wants(http.StatusOK, "GET", "/", "", "")

	for name := range s.outputs {
		if !slices.Contains(s.used, name) {
			w.t.Errorf("the output %s is not used here", name)
		}
	}
}

// overHTTPS is the API's address as it is on AWS.
func overHTTPS(url string) string { return strings.Replace(url, "http:", "https:", 1) }

// checkAlterations makes a stack without each of the alterations.
func (w *world) checkAlterations(transformed []byte, altered object) {
	w.t.Helper()
	w.aws("", "s3api", "create-bucket", "--bucket", templates)
	with := w.create("with", altered)
	if with.status() != complete || with.page() != http.StatusOK {
		w.t.Fatalf("with all alterations the stack is %q", with.status())
	}
	for i, a := range alterations {
		without := w.create(fmt.Sprintf("without-%d", i), alter(w.t, transformed, i))
		if !a.needed(without) {
			w.t.Errorf("the emulator does without this by now, take it out: %s; the stack is %q", a.name, without.status())
		}
	}
}

// fillSecrets puts the org key and a system key where README.md says.
func (s *stack) fillSecrets() {
	s.t.Helper()
	s.aws(fake.OrgKey+"\n", "secretsmanager", "create-secret", "--name", s.output("OrgKeysPrefix")+"agent_mail", "--secret-string", "file:///dev/stdin")
	s.aws(`{"openai":"a system key"}`+"\n", "secretsmanager", "put-secret-value", "--secret-id", s.output("SystemKeysSecretArn"), "--secret-string", "file:///dev/stdin")
	kept := s.aws("", "secretsmanager", "get-secret-value", "--secret-id", s.output("OrgKeysSecretArn"))
	if kept["SecretString"] != "{}" {
		s.t.Errorf("the secret of all org keys is made with %v", kept["SecretString"])
	}
}

// live is a user's life: they list, have credentials of their own, an executor resolves, and they
// delete their account, which reconcile brings to its end by its schedule.
func (s *stack) live(callback string) {
	s.t.Helper()
	sub := s.user("alice@example.com")
	token := s.signIn("alice@example.com", callback)
	listed := s.lists(sub, token)
	if !strings.Contains(listed, "Use Credits for OpenAI") {
		s.t.Errorf("listed are %s", listed)
	}

	resolver := s.output("ResolveCredentialFunctionArn")
	managed := s.decode(s.invoke(resolver, fmt.Sprintf(`{"user_id":%q,"provider":"agent_mail"}`, sub)))
	key, _ := managed["api_key"].(string)
	pod, _ := s.mail.Pod(sub)
	podID, _, accepted := s.mail.Identify(key)
	if !accepted || podID != pod.ID {
		s.t.Errorf("the executor got a key of the pod %q, accepted: %t; the user's is %q", podID, accepted, pod.ID)
	}
	system := s.invoke(resolver, fmt.Sprintf(`{"user_id":%q,"provider":"openai","credential_id":%q}`, sub, credential.SystemID("openai")))
	if s.decode(system)["api_key"] != "a system key" {
		s.t.Errorf("the system credential is %s", system)
	}

	own := s.decode(s.wants(http.StatusCreated, "POST", "/github/credentials", token, `{"type":"api_key","title":"Mine","api_key":"one","expires_at":null}`))
	id, _ := own["id"].(string)
	s.wants(http.StatusOK, "PUT", "/github/credentials/"+id, token, `{"type":"api_key","title":"Mine","api_key":"two","expires_at":null}`)
	resolved := s.invoke(resolver, fmt.Sprintf(`{"user_id":%q,"provider":"github","credential_id":%q}`, sub, id))
	if s.decode(resolved)["api_key"] != "two" {
		s.t.Errorf("the user's own credential is %s", resolved)
	}
	s.wants(http.StatusOK, "DELETE", "/github/credentials/"+id, token, "")

	status, answer := s.call("DELETE", "/account", token, "")
	if status != http.StatusAccepted && status != http.StatusNoContent {
		s.t.Errorf("DELETE /account: the answer is %d %s", status, answer)
	}
	s.wants(http.StatusUnauthorized, "GET", "/credentials", token, "")
	s.isGone(sub)
	s.eventually("reconcile, by its schedule, has removed the user from the pool", func() bool { return !s.hasUser("alice@example.com") })
}

// deleteInPool deletes a user as somebody does in Cognito's console; what is left is the event.
func (s *stack) deleteInPool(callback string) {
	s.t.Helper()
	bob := s.user("bob@example.com")
	s.lists(bob, s.signIn("bob@example.com", callback))
	s.aws("", "cognito-idp", "admin-delete-user", "--user-pool-id", s.output("UserPoolId"), "--username", "bob@example.com")
	if !s.sendsDeletion(testSource, s.output("UserPoolId"), bob) {
		s.t.Fatal("the event was not taken")
	}
	s.isGone(bob)
}

// audit checks that the table and AgentMail agree.
func (s *stack) audit() {
	s.t.Helper()
	found := s.decode(s.invoke(s.output("OperateFunctionArn"), `{"command":"audit","provider":"agent_mail"}`))
	findings, ok := found["findings"].([]any)
	if !ok || len(findings) != 0 {
		s.t.Errorf("the audit finds %v", found)
	}
}

// redrive has the deletion of an account fail for good, and redriven.
func (s *stack) redrive(callback string) {
	s.t.Helper()
	carol := s.user("carol@example.com")
	s.lists(carol, s.signIn("carol@example.com", callback))
	cleanup, queue := s.output("UserCleanupFunctionArn"), s.output("AccountDeletionsFailedUrl")
	variables := s.aws("", "lambda", "get-function-configuration", "--function-name", cleanup)["Environment"].(object)["Variables"].(object)
	table := variables["TABLE_NAME"]
	variables["TABLE_NAME"] = "somewhere-else"
	s.configure(cleanup, variables)
	// Of the emulator's EventBridge a failed invocation reaches no queue; of an invocation as an
	// event it does, and for Lambda the two are one.
	s.aws("", "lambda", "invoke", "--function-name", cleanup, "--invocation-type", "Event", "--payload", fmt.Sprintf(`{"user_id":%q}`, carol),
		filepath.Join(s.dir, "answer.json"))
	s.eventually("the deletion stands in the queue of those that failed", func() bool {
		a := s.aws("", "sqs", "get-queue-attributes", "--queue-url", queue, "--attribute-names", "ApproximateNumberOfMessages")
		return a["Attributes"].(object)["ApproximateNumberOfMessages"] == "1"
	})
	s.holdsOneKey(carol)
	variables["TABLE_NAME"] = table
	s.configure(cleanup, variables)
	redriven := s.decode(s.invoke(s.output("OperateFunctionArn"), `{"command":"redrive"}`))
	if redriven["done"] != 1.0 {
		s.t.Errorf("redriven was %v", redriven)
	}
	s.isGone(carol)
}

func (s *stack) configure(function string, variables object) {
	s.t.Helper()
	text, err := json.Marshal(object{"Variables": variables})
	if err != nil {
		s.t.Fatal(err)
	}
	s.aws("", "lambda", "update-function-configuration", "--function-name", function, "--environment", string(text))
}

// lists lists a user's credentials until the managed one is there, which on a machine that is busy
// may be later than with the first list, and checks that it is one.
func (s *stack) lists(sub, token string) (listed string) {
	s.t.Helper()
	s.eventually("a list has the managed credential", func() bool {
		var status int
		status, listed = s.call("GET", "/credentials", token, "")
		return status == http.StatusOK && strings.Contains(listed, `"provider":"agent_mail"`)
	})
	s.holdsOneKey(sub)
	return listed
}

// holdsOneKey checks that AgentMail has one pod of a user with one key.
func (s *stack) holdsOneKey(sub string) {
	s.t.Helper()
	pod, ok := s.mail.Pod(sub)
	if !ok || len(pod.Keys) != 1 {
		s.t.Errorf("AgentMail has for %s the pod %+v", sub, pod)
	}
}

// isGone waits until AgentMail has nothing of a user, and checks that nothing is handed out.
func (s *stack) isGone(sub string) {
	s.t.Helper()
	s.eventually("AgentMail has no pod of "+sub, func() bool {
		_, ok := s.mail.Pod(sub)
		return !ok
	})
	answer := s.invoke(s.output("ResolveCredentialFunctionArn"), fmt.Sprintf(`{"user_id":%q,"provider":"agent_mail"}`, sub))
	if s.decode(answer)["status"] != 410.0 {
		s.t.Errorf("of a deleted account an executor gets %s", answer)
	}
}

// drain has all that users have at AgentMail removed, as docs/runbook.md says of winding a
// deployment up.
func (s *stack) drain(altered object, callback string) {
	s.t.Helper()
	dave := s.user("dave@example.com")
	s.lists(dave, s.signIn("dave@example.com", callback))
	// Nothing that was given before is put back: the login pages are still there.
	s.deploy(s.name, altered, `ManagedProviders='{"agent_mail":{"mode":"draining"}}'`).complete(altered, unmet...)
	operate := s.output("OperateFunctionArn")
	s.invoke(operate, `{"command":"drain","provider":"agent_mail","by":"somebody@example.com","reason":"the end"}`)
	s.eventually("what dave had is removed, and the draining has ended", func() bool {
		s.invoke(operate, `{"command":"audit_due"}`) // which its schedule would, five minutes apart
		_, ok := s.mail.Pod(dave)
		return !ok && s.hasDrained()
	})
	s.audit()
}

// hasDrained tells whether the draining of AgentMail has ended.
func (s *stack) hasDrained() bool {
	s.t.Helper()
	for _, p := range s.decode(s.invoke(s.output("OperateFunctionArn"), `{"command":"providers"}`))["providers"].([]any) {
		if p.(object)["provider"] == "agent_mail" {
			return p.(object)["draining"].(object)["ended"] != nil
		}
	}
	return false
}

// windUp deletes the stack, and checks what is kept of it. Each description of what is not there
// would be an error.
func (s *stack) windUp() {
	s.t.Helper()
	s.aws("", "cloudformation", "delete-stack", "--stack-name", s.name)
	s.eventually("the stack is deleted", func() bool { return s.status() == "" || s.status() == "DELETE_COMPLETE" })
	s.aws("", "dynamodb", "describe-table", "--table-name", s.output("TableName"))
	s.aws("", "cognito-idp", "describe-user-pool", "--user-pool-id", s.output("UserPoolId"))
	s.aws("", "kms", "describe-key", "--key-id", s.output("SecretsKeyArn"))
	s.aws("", "secretsmanager", "describe-secret", "--secret-id", s.output("SystemKeysSecretArn"))
	s.aws("", "sqs", "get-queue-attributes", "--queue-url", s.output("AccountDeletionsFailedUrl"))
	if !s.refused("ResourceNotFoundException", "lambda", "get-function", "--function-name", s.output("OperateFunctionArn")) {
		s.t.Error("a function is left of the stack")
	}
}
