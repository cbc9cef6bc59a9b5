package stack

import (
	"reflect"
	"strings"
	"testing"

	"managed-credentials/shared/local/template"
)

func TestFunctionIsGivenTheTemplatesVariablesAndTheEndpoints(t *testing.T) {
	t.Parallel()
	env := newEnvironment(map[string]string{"LEASE": "30s"})
	env.values["AWS_ENDPOINT_URL_KMS"] = "http://127.0.0.1:1"
	got, err := env.functions([]template.Function{{
		Name: "f", Variables: []string{"LEASE"}, Constants: map[string]string{"GOMEMLIMIT": "80MiB"},
	}}, map[string]string{"f": "dist/f/bootstrap"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"LEASE": "30s", "GOMEMLIMIT": "80MiB", "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_ENDPOINT_URL_KMS": "http://127.0.0.1:1",
	}
	if !reflect.DeepEqual(got[0].Env, want) || got[0].Bootstrap != "dist/f/bootstrap" {
		t.Fatalf("got %+v, want the environment %v", got[0], want)
	}
	_, err = env.functions([]template.Function{{Name: "f", Variables: []string{"NEW"}}}, nil)
	if err == nil || !strings.Contains(err.Error(), "NEW") {
		t.Fatalf("err = %v, want one that names the variable", err)
	}
}
