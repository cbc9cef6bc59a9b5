package config_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"managed-credentials/shared/config"
	"managed-credentials/shared/credential"
)

func FuzzSystemCredentials(f *testing.F) {
	for _, value := range []string{
		``, `null`, `{}`, `[]`, `{"openai":"Use Credits for OpenAI","groq":""}`, `{"openai":7}`, `{"openai":null}`, `{"Open AI":"x"}`, `{"":"x"}`,
		`{"openai":"a","openai":"b"}`, `{"openai":"a"} {}`, "{\"openai\":\"\xff\"}", `{"\u006fpenai":"\ud800"}`,
	} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if strings.ContainsRune(value, 0) {
			t.Skip("no environment holds it")
		}
		t.Setenv("SYSTEM_CREDENTIALS", value)
		env := config.Environ()
		titles := env.SystemCredentials()
		if env.Err() != nil {
			return
		}
		for provider := range titles {
			if !credential.ValidProvider(provider) {
				t.Errorf("%q was taken for a provider", provider)
			}
		}
		again, err := json.Marshal(titles)
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("SYSTEM_CREDENTIALS", string(again))
		if reread := config.Environ().SystemCredentials(); !maps.Equal(reread, titles) {
			t.Errorf("%v became %v", titles, reread)
		}
	})
}
