package functions_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"managed-credentials/shared/credential"
)

// autoGPT is what the OpenAPI document that AutoGPT publishes for its front end
// (autogpt_platform/frontend/src/app/api/openapi.json in its repository) says of the answers to the
// calls that are here, too: names, types, and which have to be there. It is told again in our own
// words, because that document's licence, PolyForm Shield, is not this repository's.
const autoGPT = `
openapi: 3.1.0
info: {title: What AutoGPT's clients expect, version: '1'}
paths: {}
components:
  schemas:
    credentials:
      type: array
      items: {$ref: '#/components/schemas/credential'}
    credential:
      type: object
      required: [id, provider, type, title, scopes, username]
      properties:
        id: {type: string}
        provider: {type: string}
        type: {type: string, enum: [api_key, oauth2, user_password, host_scoped, device_code]}
        title: {type: [string, 'null']}
        scopes: {type: [array, 'null'], items: {type: string}}
        username: {type: [string, 'null']}
        host: {type: [string, 'null']}
        is_managed: {type: boolean}
        mcp_auth_scheme: {type: [string, 'null'], enum: [basic, bearer, null]}
        service: {type: string}
        service_name: {type: [string, 'null']}
        service_icon: {type: [string, 'null']}
    deletion:
      type: object
      required: [revoked]
      properties:
        deleted: {type: boolean, const: true}
        revoked: {type: [boolean, 'null']}
    unauthorized:
      type: object
      properties:
        detail: {type: string}
    unprocessable:
      type: object
      properties:
        detail: {type: array, items: {type: object}}
`

// autoGPTSchema returns one of those schemas.
func autoGPTSchema(t *testing.T, name string) *openapi3.Schema {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData([]byte(autoGPT))
	if err != nil {
		t.Fatal(err)
	}
	return doc.Components.Schemas[name].Value
}

// fits is nil if a client that was generated from AutoGPT's document can read the answer.
func (a answer) fits(t *testing.T, schema string) error {
	t.Helper()
	return autoGPTSchema(t, schema).VisitJSON(decode[any](t, a.body), openapi3.EnableJSONSchema2020())
}

func TestAutoGPTsSchemaHoldsForOurAnswers(t *testing.T) {
	t.Parallel()
	s := start(t, map[string]string{"SYSTEM_CREDENTIALS": `{"openai":"Use Credits for OpenAI"}`})
	token := s.token(alice)
	holds := func(a answer, status int, schema string) {
		t.Helper()
		a.want(t, status, "")
		err := a.fits(t, schema)
		if err != nil {
			t.Errorf("%d %s: %v", a.status, a.body, err)
		}
	}
	var path string
	for _, body := range []string{ // as its form sends them
		`{"id":"","provider":"github","type":"api_key","title":"Work","api_key":"x","expires_at":null,"is_managed":false,"metadata":{}}`,
		`{"id":"","provider":"github","type":"oauth2","title":null,"access_token":"x","username":"al","scopes":["repo"],"metadata":{}}`,
		`{"id":"","provider":"github","type":"user_password","title":"x","username":"al","password":"x","metadata":{}}`,
		`{"id":"","provider":"github","type":"host_scoped","title":"x","host":"example.com","headers":{"X-Key":"x"},"metadata":{}}`,
	} {
		created := s.call("POST", "/github/credentials", token, body)
		holds(created, http.StatusCreated, "credential")
		path = "/github/credentials/" + decode[credential.Metadata](t, created.body).ID
		holds(s.call("GET", path, token, ""), http.StatusOK, "credential")
	}
	holds(s.call("GET", "/credentials", token, ""), http.StatusOK, "credentials")
	holds(s.call("GET", "/github/credentials", token, ""), http.StatusOK, "credentials")
	holds(s.call("DELETE", path, token, ""), http.StatusOK, "deletion")
	holds(s.call("GET", "/credentials", "", ""), http.StatusUnauthorized, "unauthorized")

	// What stands in docs/clients.md: a 422 says in one text what is a list there.
	refused := s.call("POST", "/github/credentials", token, `{}`)
	refused.want(t, http.StatusUnprocessableEntity, "")
	if refused.fits(t, "unprocessable") == nil {
		t.Errorf("%s is as AutoGPT has it, and docs/clients.md says it is not", refused.body)
	}
}

// The differences that docs/clients.md names are those that there are.
func TestWhatAutoGPTsSchemaLacksIsNamed(t *testing.T) {
	t.Parallel()
	shown, err := json.Marshal(credential.Metadata{})
	if err != nil {
		t.Fatal(err)
	}
	ours := slices.Sorted(maps.Keys(decode[map[string]any](t, string(shown))))
	theirs := slices.Sorted(maps.Keys(autoGPTSchema(t, "credential").Properties))
	without := func(all, others []string) string {
		return strings.Join(slices.DeleteFunc(slices.Clone(all), func(name string) bool { return slices.Contains(others, name) }), " ")
	}
	if got := without(ours, theirs); got != "autogpt_managed created_at expires_at hint is_system last_used_on stored" {
		t.Errorf("only ours are %s", got)
	}
	if got := without(theirs, ours); got != "mcp_auth_scheme service service_icon service_name" {
		t.Errorf("only AutoGPT's are %s", got)
	}
}
