// Package gateway stands in for the API Gateway HTTP API in front of the functions: it checks
// tokens, matches routes, turns requests into events of payload format 2.0 and the functions'
// answers back, and refuses with the texts of the real one. Beside the API it serves /local/*, by
// which a person or a test does what other AWS services would.
//
// What it does is taken from
// https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api.html and the pages below
// it, and where these say nothing from what others measured. It knows neither throttling nor
// authorization scopes.
package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/google/uuid"

	"managed-credentials/shared/local/respond"
	"managed-credentials/shared/local/template"
)

// Config says what is behind the gateway.
type Config struct {
	// Functions are the functions with their routes.
	Functions []template.Function
	// Invoke gives an event to a function and returns its answer: lambda.Host's.
	// context.DeadlineExceeded in the chain of an error stands for a function that took longer than
	// ctx allows.
	Invoke func(ctx context.Context, function string, payload []byte) ([]byte, error)
	// Verify returns the claims of a token that may pass, or an error that says what is wrong with
	// it.
	Verify func(token string) (map[string]any, error)
	// Issuer is whose tokens the function authorize verifies, in place of Verify. "" means
	// nobody's.
	Issuer string
	// Origins are those whose pages may call the API from a browser, and CORS says what they may
	// do. No origins means that the API has no CORS.
	Origins []string
	CORS    template.CORS
	// Local is what is behind /local/*.
	Local Local
	// Prefix stands before the path of each request, such as "/prod": a stage's name, or what a
	// custom domain maps to the API. Events have it in their paths, and routes do not. "" means
	// none.
	Prefix string
	// Timeout is how long the API waits for a function. 0 means 30 s, as on AWS.
	Timeout time.Duration
	// Log gets a line for each request that was answered with 5xx on account of a function. Nil
	// means none.
	Log io.Writer
}

const (
	defaultTimeout = 30 * time.Second
	maxBody        = 10 << 20 // https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html
)

// Gateway is an http.Handler. It is safe for concurrent use.
type Gateway struct {
	cfg    Config
	routes []route
	local  map[string]http.HandlerFunc
}

// New returns a gateway. It fails if two routes are the same but for the names of their path
// variables.
func New(cfg Config) (*Gateway, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	g := &Gateway{cfg: cfg}
	seen := map[string]bool{}
	for _, f := range cfg.Functions {
		for _, r := range f.Routes {
			compiled := compile(f.Name, r)
			shape := compiled.shape()
			if seen[shape] {
				return nil, fmt.Errorf("routing %s: there are two of it", shape)
			}
			seen[shape] = true
			g.routes = append(g.routes, compiled)
		}
	}
	g.local = g.localHandlers()
	return g, nil
}

func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	local, ok := g.local[r.Method+" "+r.URL.Path]
	if ok {
		local(w, r)
		return
	}
	g.serveAPI(w, r)
}

// serveAPI does what API Gateway does: route, authorizer, integration.
func (g *Gateway) serveAPI(w http.ResponseWriter, r *http.Request) {
	requestID := uuid.NewString()
	w.Header().Set("Apigw-Requestid", requestID)
	if r.Method == http.MethodOptions && len(g.cfg.Origins) > 0 {
		g.answerPreflight(w, r)
		return
	}
	m, ok := match(g.routes, g.cfg.Prefix, r)
	if !ok {
		refuse(w, http.StatusNotFound, "Not Found")
		return
	}
	var who *authorizer
	if !m.route.Public {
		who, ok = g.authorize(w, r, m)
		if !ok {
			return
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			refuse(w, http.StatusRequestEntityTooLarge, "Request Entity Too Large")
			return
		}
		panic(http.ErrAbortHandler) // The client has gone.
	}
	payload, err := json.Marshal(newEvent(r, m, requestID, who, body))
	if err != nil {
		g.fail(w, r, m, http.StatusInternalServerError, err)
		return
	}
	// A caller who hangs up does not stop the function.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), g.cfg.Timeout)
	defer cancel()
	out, err := g.cfg.Invoke(ctx, m.route.function, payload)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		g.fail(w, r, m, http.StatusServiceUnavailable, err)
		return
	case err != nil:
		g.fail(w, r, m, http.StatusInternalServerError, err)
		return
	}
	a, err := parseAnswer(out)
	if err != nil {
		g.fail(w, r, m, http.StatusInternalServerError, err)
		return
	}
	g.allowOrigin(&a, r)
	a.write(w)
}

// fail answers for a function that did not, in API Gateway's own words, which do not say why. The
// log does.
func (g *Gateway) fail(w http.ResponseWriter, r *http.Request, m matched, status int, err error) {
	_, _ = fmt.Fprintf(g.cfg.Log, "%s %s: %d: %v\n", r.Method, m.route.Path, status, err)
	refuse(w, status, http.StatusText(status))
}

// refuse answers as API Gateway itself does.
func refuse(w http.ResponseWriter, status int, message string) {
	respond.JSON(w, status, map[string]string{"message": message})
}
