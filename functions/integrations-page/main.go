// Function integrations-page serves the page on which users see their credentials.
package main

import (
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	handler, err := newHandler(pages)
	if err != nil {
		slog.Error("the page cannot be served", "error", err)
		os.Exit(1)
	}
	lambda.Start(handler)
}
