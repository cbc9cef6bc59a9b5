package main

import (
	"fmt"
	"io"
	"strings"
	"text/template"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/stack"
	"managed-credentials/shared/provider/agentmail"
)

// tour says where everything is, and what to try first.
func tour(out io.Writer, s *stack.Stack) {
	var text strings.Builder
	err := tourText.Execute(&text, map[string]any{
		"Stack": s,
		"ID":    credential.ManagedID(agentmail.Name, "alice"),
	})
	if err != nil {
		panic(err) // The text is ours.
	}
	_, _ = fmt.Fprint(out, text.String())
}

var tourText = template.Must(template.New("tour").Parse(`
The service is running. Press Ctrl-C to stop it; no data is kept.

  integrations page  {{.Stack.URL}}/
  dashboard          {{.Stack.URL}}/local/dashboard
  AgentMail          {{.Stack.AgentMailURL}}{{if .Stack.AgentMail}} (the fake; /_fake/state shows what it holds){{else}} (the real one){{end}}
{{- range .Stack.Fakes}}
  {{printf "%-18s" .Title}} {{.URL}} (the fake; /_fake/state shows what it holds)
{{- end}}
  DynamoDB Local     {{.Stack.DynamoDBURL}} (table {{.Stack.Table}})
  KMS                {{.Stack.KMSURL}}
  Secrets Manager    {{.Stack.SecretsManagerURL}}
  Cognito            {{.Stack.CognitoURL}} (user pool {{.Stack.UserPoolID}})
  SQS                {{.Stack.SQSURL}}
  Lambda             {{.Stack.LambdaURL}}

To try it, paste these one after the other. First a token for alice, then her credentials. Listing
them makes her a key at AgentMail{{if .Stack.Fakes}}, and at the others but those on demand{{end}}.

  TOKEN=$(curl -s {{.Stack.URL}}/local/token -d '{"sub":"alice"}' | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
  curl -w ' %{http_code}\n' -H "Authorization: Bearer $TOKEN" {{.Stack.URL}}/credentials
{{- range $name, $fake := .Stack.Fakes}}{{if eq $fake.Mode "on_demand"}}

{{$fake.Title}} is on demand: she has to ask.

  curl -w ' %{http_code}\n' -H "Authorization: Bearer $TOKEN" {{$.Stack.URL}}/{{$name}}/managed -X PUT
{{- end}}{{end}}

An executor, which runs a user's tasks, gets the key itself.

  curl -w ' %{http_code}\n' {{.Stack.URL}}/local/resolve -d '{"sub":"alice","provider":"agent_mail"}'
{{- range $name, $fake := .Stack.Fakes}}
  curl -w ' %{http_code}\n' {{$.Stack.URL}}/local/resolve -d '{"sub":"alice","provider":"{{$name}}"}'
{{- end}}

She can neither change nor delete it. Both answers are 403.

  curl -w ' %{http_code}\n' -H "Authorization: Bearer $TOKEN" {{.Stack.URL}}/agent_mail/credentials/{{.ID}} -X PUT -d '{"title":"mine"}'
  curl -w ' %{http_code}\n' -H "Authorization: Bearer $TOKEN" {{.Stack.URL}}/agent_mail/credentials/{{.ID}} -X DELETE

An operator has her key replaced, under the same id. The old one serves on for eight seconds more,
as an executor is told.

  curl -w ' %{http_code}\n' {{.Stack.URL}}/local/operate -d '{"command":"rotate","user_id":"alice","provider":"agent_mail","overlap":"8s","by":"you","reason":"to try it"}'
  curl -w ' %{http_code}\n' {{.Stack.URL}}/local/reconcile -X POST
  curl -w ' %{http_code}\n' {{.Stack.URL}}/local/resolve -d '{"sub":"alice","provider":"agent_mail"}'

Delete her account. Her token now gets 401, though it has not expired, and nothing of hers is left.

  curl -w ' %{http_code}\n' {{.Stack.URL}}/local/delete-user -d '{"sub":"alice"}'
  curl -w ' %{http_code}\n' -H "Authorization: Bearer $TOKEN" {{.Stack.URL}}/credentials
{{- if .Stack.AgentMail}}
  curl {{.Stack.AgentMailURL}}/_fake/state
{{- end}}
{{- range .Stack.Fakes}}
  curl {{.URL}}/_fake/state
{{- end}}

An operator's audit compares AgentMail with the table, and agrees: no findings.

  curl -w ' %{http_code}\n' {{.Stack.URL}}/local/operate -d '{"command":"audit","provider":"agent_mail"}'

{{- if .Stack.ES256}}

Where the platform has an issuer of its own, its tokens work, too: this one is signed with ES256,
and the function authorize verifies it.

  TOKEN=$(curl -s {{.Stack.URL}}/local/token -d '{"sub":"bob","algorithm":"ES256"}' | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
  curl -w ' %{http_code}\n' -H "Authorization: Bearer $TOKEN" {{.Stack.URL}}/credentials
{{- end}}

A deleted account stays deleted: for another round take another name than alice.
`))
