package sam

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"managed-credentials/shared/local/dynamodb"
	"managed-credentials/shared/local/lambda"
	"managed-credentials/shared/local/template"
)

// TestEachFunctionDealsWithItsEventsWithinItsRole is of the test under SAM what needs no container.
func TestEachFunctionDealsWithItsEventsWithinItsRole(t *testing.T) {
	t.Parallel()
	root, err := template.Root(".")
	if err != nil {
		t.Fatal(err)
	}
	deployed, err := template.Load(".")
	if err != nil {
		t.Fatal(err)
	}
	database, err := dynamodb.Start(t.Context(), dynamodb.Config{Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(database.Stop)
	here := &docker{listen: "127.0.0.1", reach: "127.0.0.1"}
	roles := loadRoles(t, deployed.Functions)
	t.Run("invoke", func(t *testing.T) {
		for _, f := range deployed.Functions {
			binary := filepath.Join(root, "dist", f.Name, "bootstrap")
			_, err := os.Stat(binary)
			if err != nil {
				t.Fatalf("%s is missing: run `make build` first", binary)
			}
			for _, event := range eventsOf(t, f.Name) {
				t.Run(f.Name+"/"+event, func(t *testing.T) {
					t.Parallel()
					text, err := os.ReadFile(filepath.Join(root, "functions", f.Name, "events", event+".json"))
					if err != nil {
						t.Fatal(err)
					}
					w := newWorld(t, database, deployed.Table, here)
					w.checkEvent(t, f, event, roles[f.Name], func() ([]byte, string, error) { return w.onHost(t, f, binary, text) })
				})
			}
		}
	})
	t.Run("roles", func(t *testing.T) { allAreUsed(t, roles) })
}

// onHost invokes a function on the local Lambda host, in a process of its own. What is the
// function's own error is an answer, as it is under SAM.
func (w *world) onHost(t *testing.T, f template.Function, binary string, event []byte) (answer []byte, log string, err error) {
	env := map[string]string{"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
	maps.Copy(env, f.Constants)
	for _, name := range f.Variables {
		env[name] = w.values[name]
	}
	var written bytes.Buffer
	host := lambda.New(lambda.Config{
		Functions: []lambda.Function{{Name: f.Name, Bootstrap: binary, Timeout: f.Timeout, MemoryMB: f.MemoryMB, Env: env}},
		Log:       &written,
	})
	answer, err = host.Invoke(t.Context(), f.Name, event)
	host.Close() // and what it wrote is whole
	var failed *lambda.FunctionError
	if errors.As(err, &failed) {
		answer, err = json.Marshal(map[string]string{"errorMessage": failed.Message})
	}
	return answer, written.String(), err
}
