// Command lifecycle is a credential's whole life, by the client that oapi-codegen makes of
// docs/openapi.yaml.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"slices"

	"github.com/google/uuid"

	"clients/api"
)

func main() {
	ctx := context.Background()
	client, err := api.NewClientWithResponses(os.Getenv("API_URL"), api.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+os.Getenv("TOKEN"))
		return nil
	}))
	check(err)

	// The same key with the same body makes no second credential, however often it is sent.
	var body api.NewCredential
	title := "Work"
	check(body.FromNewApiKey(api.NewApiKey{ApiKey: "ghp_example", Title: &title}))
	key := uuid.NewString()
	made, err := client.CreateCredentialWithResponse(ctx, "github", &api.CreateCredentialParams{IdempotencyKey: &key}, body)
	expect(made, err, http.StatusCreated)
	again, err := client.CreateCredentialWithResponse(ctx, "github", &api.CreateCredentialParams{IdempotencyKey: &key}, body)
	expect(again, err, http.StatusCreated)
	mine := made.JSON201.Id
	require(again.JSON201.Id == mine)

	listed, err := client.ListCredentialsWithResponse(ctx)
	expect(listed, err, http.StatusOK)
	all := *listed.JSON200
	require(slices.ContainsFunc(all, func(c api.Credential) bool { return c.Id == mine }))
	managed := all[slices.IndexFunc(all, func(c api.Credential) bool { return c.IsManaged })]

	// A change that somebody else has overtaken is a 412, and changes nothing.
	shown, err := client.GetCredentialWithResponse(ctx, "github", mine)
	expect(shown, err, http.StatusOK)
	old := shown.HTTPResponse.Header.Get("ETag")
	update := func(title string) *api.UpdateCredentialResponse {
		var change api.CredentialChange
		check(change.FromTitleChange(api.TitleChange{Title: title}))
		changed, err := client.UpdateCredentialWithResponse(ctx, "github", mine, &api.UpdateCredentialParams{IfMatch: &old}, change)
		check(err)
		return changed
	}
	changed := update("Home")
	expect(changed, nil, http.StatusOK)
	require(*changed.JSON200.Title == "Home")
	expect(update("Late"), nil, http.StatusPreconditionFailed)

	check(body.FromNewHostScoped(api.NewHostScoped{Host: "example.com", Headers: api.Headers{"X-Key": "example"}}))
	other, err := client.CreateCredentialWithResponse(ctx, "intranet", nil, body)
	expect(other, err, http.StatusCreated)
	require(slices.Equal(*other.JSON201.Stored, []string{"headers.X-Key"}))

	etag := changed.HTTPResponse.Header.Get("ETag")
	gone, err := client.DeleteCredentialWithResponse(ctx, "github", mine, &api.DeleteCredentialParams{IfMatch: &etag})
	expect(gone, err, http.StatusOK)
	missing, err := client.GetCredentialWithResponse(ctx, "github", mine)
	expect(missing, err, http.StatusNotFound)
	refused, err := client.DeleteCredentialWithResponse(ctx, managed.Provider, managed.Id, nil)
	expect(refused, err, http.StatusForbidden)
	fmt.Println("done")
}

// expect ends the program unless the answer has this status.
func expect(answer interface{ StatusCode() int }, err error, status int) {
	check(err)
	if answer.StatusCode() != status {
		log.Fatalf("the answer is %d, not %d", answer.StatusCode(), status)
	}
}

func require(holds bool) {
	if !holds {
		log.Panic("the answer is another one")
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
