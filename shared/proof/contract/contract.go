// Package contract holds the service to docs/openapi.yaml. Tests put it around the service's API:
// every request and every answer then goes through it, whoever sent it, and what the contract does
// not say is a failure. It remembers which answers it has seen, so that a test can demand each one
// that is documented.
package contract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"managed-credentials/shared/local/template"
)

// Contract is docs/openapi.yaml. It is safe for concurrent use.
type Contract struct {
	doc    *openapi3.T
	router routers.Router

	mu   sync.Mutex
	seen map[string]bool // by answerKey
}

// Load reads the docs/openapi.yaml of the repository that dir is in. It returns an error if that is
// no valid OpenAPI document, or an example in it does not fit its own schema.
func Load(dir string) (*Contract, error) {
	root, err := template.Root(dir)
	if err != nil {
		return nil, err
	}
	doc, err := openapi3.NewLoader().LoadFromFile(filepath.Join(root, "docs", "openapi.yaml"))
	if err != nil {
		return nil, fmt.Errorf("reading the contract: %w", err)
	}
	return newContract(doc)
}

func newContract(doc *openapi3.T) (*Contract, error) {
	err := doc.Validate(context.Background())
	if err != nil {
		return nil, fmt.Errorf("checking the contract: %w", err)
	}
	for name, header := range doc.Components.Headers { // The library checks every example but these.
		if header.Value.Example == nil {
			continue
		}
		err := header.Value.Schema.Value.VisitJSON(header.Value.Example, openapi3.EnableJSONSchema2020())
		if err != nil {
			return nil, fmt.Errorf("checking the example of header %s: %w", name, err)
		}
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		return nil, fmt.Errorf("reading the contract's routes: %w", err)
	}
	return &Contract{doc: doc, router: router, seen: map[string]bool{}}, nil
}

// Around returns what a test puts around the service's API: stack.Config.Around. What the contract
// does not allow fails t.
func Around(t testing.TB) func(http.Handler) http.Handler {
	t.Helper()
	c, err := Load(".")
	if err != nil {
		t.Fatal(err)
	}
	return c.Around(func(err error) { t.Error(err) })
}

// Around returns what to put around the service's API. It passes requests and answers on as they
// are, and reports what the contract does not allow: an answer that is not documented, a success of
// a request that the contract forbids, a 422 to one that it allows.
func (c *Contract) Around(report func(error)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				panic(http.ErrAbortHandler) // The client has gone.
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			answer := httptest.NewRecorder()
			next.ServeHTTP(answer, r)

			err = c.check(r, body, answer)
			if err != nil {
				what, _, _ := strings.Cut(err.Error(), "\nSchema:") // The library goes on with the whole schema.
				report(fmt.Errorf("docs/openapi.yaml: %s %.200s was answered with %d %.200q: %s", r.Method, r.URL.Path, answer.Code, answer.Body, what))
			}
			maps.Copy(w.Header(), answer.Header())
			w.WriteHeader(answer.Code)
			_, _ = w.Write(answer.Body.Bytes()) // The client has gone if this fails, and nobody is left to tell.
		})
	}
}

func (c *Contract) check(r *http.Request, body []byte, answer *httptest.ResponseRecorder) error {
	r = r.Clone(context.Background())
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json") // The service does not look at it, and says so.

	if r.Method == http.MethodOptions && answer.Code == http.StatusNoContent { // A preflight; the contract's introduction says how it is answered.
		return c.checkAnswer(r, c.doc.Components.Responses["Preflight"], answer)
	}
	if r.Method == http.MethodHead { // Of the page's paths; the contract's introduction says how it is answered.
		get := r.Clone(r.Context())
		get.Method = http.MethodGet
		route, _, err := c.router.FindRoute(get)
		if err == nil && slices.Contains(route.Operation.Tags, "page") {
			return c.checkAnswerOf(get, route.Operation.Responses.Status(answer.Code), answer, true)
		}
	}
	route, params, err := c.router.FindRoute(r)
	if err != nil && strings.HasPrefix(r.URL.Path, "/local/") {
		return nil // The local gateway's own.
	}
	if err != nil {
		return c.checkAnswer(r, c.doc.Components.Responses["NoSuchRoute"], answer)
	}
	c.see(answerKey(route.Method, route.Path, fmt.Sprint(answer.Code)))
	forbidden := openapi3filter.ValidateRequest(r.Context(), &openapi3filter.RequestValidationInput{
		Request: r, PathParams: params, Route: route, Options: &openapi3filter.Options{AuthenticationFunc: hasToken},
	})
	switch {
	case answer.Code < 400 && forbidden != nil:
		return fmt.Errorf("the contract forbids the request: %w", forbidden)
	case answer.Code == http.StatusUnprocessableEntity && forbidden == nil && !beyondSchema.MatchString(answer.Body.String()):
		return errors.New("the contract allows the request")
	}
	return c.checkAnswer(r, route.Operation.Responses.Status(answer.Code), answer)
}

// beyondSchema is in the 422s of what a schema cannot say, and of what does not fit the stored
// credential; the descriptions say it.
var beyondSchema = regexp.MustCompile(`a character that can be seen|but the credential's is|would lose |begins with .{1,2}Bearer |is in the past|one name twice, in whatever case|was sent with another body before`)

// hasToken is whether a request has what may be a token: whether it passes is the authorizer's to
// say.
func hasToken(_ context.Context, input *openapi3filter.AuthenticationInput) error {
	if input.RequestValidationInput.Request.Header.Get("Authorization") == "" {
		return errors.New("there is no token")
	}
	return nil
}

// checkAnswer compares an answer with the one that is documented for it.
func (c *Contract) checkAnswer(r *http.Request, documented *openapi3.ResponseRef, answer *httptest.ResponseRecorder) error {
	return c.checkAnswerOf(r, documented, answer, false)
}

// checkAnswerOf leaves out the body of an answer to HEAD, which has to be empty.
func (c *Contract) checkAnswerOf(r *http.Request, documented *openapi3.ResponseRef, answer *httptest.ResponseRecorder, head bool) error {
	if head && answer.Body.Len() > 0 {
		return errors.New("an answer to HEAD has a body")
	}
	if documented == nil {
		return errors.New("this status is not documented")
	}
	got := answer.Result()
	for name := range got.Header {
		if name != "Content-Type" && !hasHeader(documented.Value, name) && !isForOrigin(r, got.Header, name) { // OpenAPI has the type in the content.
			return fmt.Errorf("the header %s is not documented", name)
		}
	}
	if len(documented.Value.Content) == 0 && answer.Body.Len() > 0 {
		return errors.New("a body is not documented")
	}
	// The library leaves 304 out. It is asked about a 200 that is documented in the same way.
	const status = http.StatusOK
	return openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, Route: &routers.Route{
			Spec: c.doc, Operation: &openapi3.Operation{Responses: openapi3.NewResponses(openapi3.WithStatus(status, documented))},
		}},
		Status:  status,
		Header:  got.Header,
		Body:    got.Body,
		Options: &openapi3filter.Options{ExcludeResponseBody: head},
	})
}

// isForOrigin is whether a header tells the browser what the page of another origin that asked may
// read, which the contract's introduction has for all answers.
func isForOrigin(r *http.Request, header http.Header, name string) bool {
	origin := r.Header.Get("Origin")
	return origin != "" && header.Get("Access-Control-Allow-Origin") == origin &&
		(name == "Access-Control-Allow-Origin" || name == "Access-Control-Expose-Headers")
}

func hasHeader(documented *openapi3.Response, name string) bool {
	for each := range documented.Headers {
		if strings.EqualFold(each, name) {
			return true
		}
	}
	return false
}

func (c *Contract) see(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[key] = true
}

// Unseen returns the answers that are documented and that nobody has got so far, sorted, each as
// "GET /credentials 200".
func (c *Contract) Unseen() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for path, item := range c.doc.Paths.Map() {
		for method, operation := range item.Operations() {
			for status := range operation.Responses.Map() {
				key := answerKey(method, path, status)
				if !c.seen[key] {
					all = append(all, key)
				}
			}
		}
	}
	slices.Sort(all)
	return all
}

func answerKey(method, path, status string) string { return method + " " + path + " " + status }
