package functions_test

import (
	"net/http"
	"strings"
	"testing"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/template"
)

// A path that begins with a fixed name would take requests away from the provider of that name.
func TestNoRouteTakesAProvidersRequests(t *testing.T) {
	t.Parallel()
	deployed, err := template.Load(".")
	if err != nil {
		t.Fatal(err)
	}
	first := map[string]bool{}
	for _, f := range deployed.Functions {
		for _, route := range f.Routes {
			segments := strings.Split(strings.TrimPrefix(route.Path, "/"), "/")
			first[segments[0]] = true
			if len(segments) > 1 && credential.ValidProvider(segments[0]) {
				t.Errorf("%s %s takes requests about the provider %s", route.Method, route.Path, segments[0])
			}
		}
	}
	s := start(t, nil)
	token := s.token(alice)
	for provider := range first {
		if !credential.ValidProvider(provider) {
			continue
		}
		made := s.create(token, provider, `{"type":"api_key","api_key":"mine"}`)
		a := s.call("GET", "/"+provider+"/credentials", token, "")
		a.want(t, http.StatusOK, "")
		if !strings.Contains(a.body, made.ID) {
			t.Errorf("%s: the list is %s", provider, a.body)
		}
	}
}
