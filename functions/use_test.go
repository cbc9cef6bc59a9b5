package functions_test

import (
	"net/http"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/provider/agentmail"
)

// usedOn is the day of the last use that the list shows of a credential.
func (s *service) usedOn(token, id string) string {
	s.t.Helper()
	for _, m := range s.list(token) {
		if m.ID == id && m.LastUsedOn != nil {
			return *m.LastUsedOn
		}
	}
	return ""
}

func TestTheDayOfTheLastUseIsShown(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)
	s.list(token)
	own := s.create(token, "github", `{"type":"api_key","api_key":"not-a-real-key"}`)
	for provider, id := range map[string]string{agentmail.Name: credential.ManagedID(agentmail.Name, alice), "github": own.ID} {
		if day := s.usedOn(token, id); day != "" {
			t.Errorf("%s is used before it is: %s", provider, day)
		}
		before := time.Now().UTC().Format(time.DateOnly)
		var day string
		for day == "" { // a write that the machine is too busy for is left out
			s.resolve(alice, provider, id).want(t, http.StatusOK, "")
			day = s.usedOn(token, id)
		}
		if day != before && day != time.Now().UTC().Format(time.DateOnly) {
			t.Errorf("%s was used on %s", provider, day)
		}
		a := s.call("GET", "/"+provider+"/credentials/"+id, token, "")
		if m := decode[credential.Metadata](t, a.body); m.LastUsedOn == nil || *m.LastUsedOn != day {
			t.Errorf("of %s GET shows %+v", provider, m)
		}
	}
}

// What cannot be noted keeps nobody from the secret.
func TestASecretIsHandedOutThoughItsUseCannotBeNoted(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)
	own := s.create(token, "github", `{"type":"api_key","api_key":"not-a-real-key"}`)
	s.Faults.DynamoDB.SetHook(func(c *fault.Call) fault.Fault {
		if c.Op == "UpdateItem" {
			return fault.AWSError(http.StatusBadRequest, "AccessDeniedException", "no")
		}
		return nil
	})
	s.resolve(alice, "github", own.ID).want(t, http.StatusOK, "")
	s.Faults.DynamoDB.SetHook(nil)
	if day := s.usedOn(token, own.ID); day != "" {
		t.Errorf("it is noted: %s", day)
	}
	if !s.logs(`"UsesNotNoted":1`) {
		t.Error("it is not counted")
	}
}
