// Function integrations-page serves the page on which users see their credentials, and the page's configuration.
//
// The page is made of web/ by `make build`, which leaves it in page/, from where it is embedded. A function that was built without it
// starts, and says so.
package main

import (
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	handler, err := newHandler(pages, settings{
		ManagedLoginURL: os.Getenv("MANAGED_LOGIN_URL"),
		ClientID:        os.Getenv("USER_POOL_CLIENT_ID"),
		SignInAs:        os.Getenv("SIGN_IN_AS"),
	})
	if err != nil {
		slog.Error("the page cannot be served", "error", err)
		os.Exit(1)
	}
	lambda.Start(handler)
}
