package functions_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/template"
)

// One bucket for all would let those who write, or load the page, use up what those who read need.
func TestEachRouteHasARateOfItsOwn(t *testing.T) {
	t.Parallel()
	root, err := template.Root(".")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Resources struct {
			Api struct {
				Properties struct {
					RouteSettings map[string]struct {
						Rate  string `yaml:"ThrottlingRateLimit"`
						Burst string `yaml:"ThrottlingBurstLimit"`
					} `yaml:"RouteSettings"`
				} `yaml:"Properties"`
			} `yaml:"Api"`
		} `yaml:"Resources"`
	}
	err = yaml.Unmarshal(text, &document)
	if err != nil {
		t.Fatal(err)
	}
	deployed, err := template.Load(".")
	if err != nil {
		t.Fatal(err)
	}
	settings := document.Resources.Api.Properties.RouteSettings
	for _, f := range deployed.Functions {
		for _, route := range f.Routes {
			key := route.Method + " " + route.Path
			got, ok := settings[key]
			delete(settings, key)
			rate, burst := "ApiRateLimit", "ApiBurstLimit"
			if route.Method != "GET" {
				rate, burst = "ApiWriteRateLimit", "ApiWriteBurstLimit"
			}
			if ok == route.Public || ok && (got.Rate != rate || got.Burst != burst) {
				t.Errorf("%s has the rate %q and the burst %q", key, got.Rate, got.Burst)
			}
		}
	}
	for key := range settings {
		t.Errorf("there is no route %s", key)
	}
}

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
