package main

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"

	"github.com/aws/aws-lambda-go/events"
)

//go:embed page
var pages embed.FS

// file is one file of the page, as it is sent.
type file struct{ contentType, body string }

// handler answers with the page's files: a function of the path alone.
type handler func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error)

// policy is what the page may do: run its own script, look as its own style says, and talk to its own origin.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// newHandler reads the page's files once. index.html is served at /, the others under /assets/.
func newHandler(source fs.FS) (handler, error) {
	files := map[string]file{}
	err := fs.WalkDir(source, "page", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := fs.ReadFile(source, name)
		if err != nil {
			return err
		}
		at := "/assets/" + strings.TrimPrefix(name, "page/")
		if name == "page/index.html" {
			at = "/"
		}
		files[at] = file{mime.TypeByExtension(path.Ext(name)), string(body)}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the page's files: %w", err)
	}
	return func(_ context.Context, e events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		f, ok := files[e.RawPath]
		if !ok {
			return answer(http.StatusNotFound, file{"application/json", `{"message":"Not Found"}`}), nil
		}
		return answer(http.StatusOK, f), nil
	}, nil
}

func answer(status int, f file) events.APIGatewayV2HTTPResponse {
	return events.APIGatewayV2HTTPResponse{
		StatusCode: status,
		Headers: map[string]string{
			"content-type":              f.contentType,
			"content-security-policy":   policy,
			"x-content-type-options":    "nosniff",
			"referrer-policy":           "no-referrer",
			"strict-transport-security": "max-age=31536000",
			"cache-control":             "no-cache",
		},
		Body: f.body,
	}
}
