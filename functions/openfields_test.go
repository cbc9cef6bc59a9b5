package functions_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// setAttribute changes one attribute of a user's own credential behind the service's back.
func (s *service) setAttribute(user, provider, id, name, value string) {
	s.t.Helper()
	_, err := s.DynamoDB.UpdateItem(s.t.Context(), &dynamodb.UpdateItemInput{
		TableName: &s.Table,
		Key: map[string]types.AttributeValue{
			"pk": &types.AttributeValueMemberS{Value: "USER#" + user}, "sk": &types.AttributeValueMemberS{Value: "CRED#" + provider + "#" + id},
		},
		UpdateExpression:          ptr("SET #name = :value"),
		ExpressionAttributeNames:  map[string]string{"#name": name},
		ExpressionAttributeValues: map[string]types.AttributeValue{":value": &types.AttributeValueMemberS{Value: value}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func TestASecretIsNotHandedOutBesideAnotherHost(t *testing.T) {
	t.Parallel()
	s := start(t, map[string]string{"SEAL_OPEN_FIELDS": "true"})
	token := s.token(alice)
	host := s.create(token, "example", `{"type":"host_scoped","title":"a","host":"example.com","headers":{"X-Key":"s3cret"}}`)
	oauth := s.create(token, "github", `{"type":"oauth2","access_token":"s3cret","username":"ada","scopes":["read","write"]}`)
	none := s.create(token, "gitlab", `{"type":"oauth2","access_token":"s3cret"}`)

	// What is handed out is what was sealed, after a change of the title and of the secret, too.
	s.call("PUT", "/example/credentials/"+host.ID, token, `{"title":"b"}`).want(t, http.StatusOK, "")
	s.call("PUT", "/github/credentials/"+oauth.ID, token, `{"type":"oauth2","access_token":"s3cret","username":"eve","scopes":["read"]}`).want(t, http.StatusOK, "")
	for provider, id := range map[string]string{"example": host.ID, "github": oauth.ID, "gitlab": none.ID} {
		resolved := s.resolve(alice, provider, id)
		if resolved.status != http.StatusOK || !strings.Contains(resolved.body, "s3cret") {
			t.Errorf("%s: resolve says %d %s", provider, resolved.status, resolved.body)
		}
	}

	s.setAttribute(alice, "example", host.ID, "host", "evil.example")
	s.setAttribute(alice, "github", oauth.ID, "username", "mallory")
	s.setAttribute(alice, "gitlab", none.ID, "scopes", "admin")
	for provider, id := range map[string]string{"example": host.ID, "github": oauth.ID, "gitlab": none.ID} {
		out, err := s.Host.Invoke(t.Context(), "resolve-credential",
			[]byte(`{"user_id":"`+alice+`","provider":"`+provider+`","credential_id":"`+id+`"}`))
		if err == nil {
			t.Errorf("%s: resolve says %s", provider, out)
		}
	}
	if !s.logsThat(func(log string) bool { return strings.Count(log, `"OpenFieldsChanged":1`) == 3 }) {
		t.Error("not each change was counted once")
	}
}

// The version before this one can read what this one writes by default, and this one says what it
// cannot vouch for.
func TestByDefaultTheHostIsNotSealedAndTheAuditLineSaysSo(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)
	host := s.create(token, "example", `{"type":"host_scoped","host":"example.com","headers":{"X-Key":"s3cret"}}`)
	key := s.create(token, "openai", `{"type":"api_key","api_key":"s3cret"}`)
	s.resolve(alice, "example", host.ID).want(t, http.StatusOK, "")
	s.resolve(alice, "openai", key.ID).want(t, http.StatusOK, "")
	for id, want := range map[string]string{host.ID: `"open_proven":false`, key.ID: `"open_proven":true`} {
		released := func(log string) bool {
			return slices.ContainsFunc(strings.Split(log, "\n"), func(line string) bool {
				return strings.Contains(line, "secret released") && strings.Contains(line, id) && strings.Contains(line, want)
			})
		}
		if !s.logsThat(released) {
			t.Errorf("no audit line says %s", want)
		}
	}
}
