package catalogue

import (
	"bytes"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"

	"managed-credentials/shared/credential"
)

func TestTheCataloguesEntriesAreSound(t *testing.T) {
	t.Parallel()
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var all []Entry
	err := d.Decode(&all)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(all, func(a, b Entry) int { return strings.Compare(a.Provider, b.Provider) }) {
		t.Error("they are not in the order of their providers")
	}
	names := map[string]string{}
	for _, e := range all {
		if !credential.ValidProvider(e.Provider) || e.Name == "" {
			t.Errorf("%q, %q is no provider", e.Provider, e.Name)
		}
		for _, name := range []string{squeezed(e.Provider), squeezed(e.Name)} {
			if names[name] != "" && names[name] != e.Provider {
				t.Errorf("%s and %s share the name %s", e.Provider, names[name], name)
			}
			names[name] = e.Provider
		}
		for _, kind := range e.Types {
			if !slices.Contains([]credential.Type{credential.APIKey, credential.OAuth2, credential.UserPassword, credential.HostScoped}, kind) {
				t.Errorf("%s takes a type %q", e.Provider, kind)
			}
		}
		u, err := url.Parse(e.Keys)
		if e.Keys != "" && (err != nil || u.Scheme != "https" || u.Host == "") {
			t.Errorf("%s has its keys at %q", e.Provider, e.Keys)
		}
		if e.Loses != "" && !strings.HasSuffix(e.Loses, ".") {
			t.Errorf("what is lost at %s is no sentence: %q", e.Provider, e.Loses)
		}
		if slices.Contains(e.Begins, "") {
			t.Errorf("a key of %s begins with nothing", e.Provider)
		}
	}
}

func TestWhatPeopleCallAProviderLeadsToIt(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"GitHub": "github", "Open AI": "openai", "open-router": "open_router", "OpenRouter": "open_router", "AGENT MAIL": "agent_mail", "nobody": "", "": "",
	} {
		if got := Meant(name); got != want {
			t.Errorf("%q means %q, want %q", name, got, want)
		}
	}
}
