// Package gateway turns API Gateway HTTP API events (payload format 2.0) into requests, and answers
// and errors into responses. Who is asking comes from the claims that API Gateway's JWT authorizer
// has verified, or from what the function authorize has, and from nothing else in the event.
package gateway

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/aws/aws-lambda-go/events"

	"managed-credentials/shared/catalogue"
	"managed-credentials/shared/clock"
	"managed-credentials/shared/credential"
)

// Request is what a route's handler gets.
type Request struct {
	// User is the verified token's sub.
	User string
	// Username is the user's name in the user pool, "" if the token is not of one.
	Username string
	// Provider and ID are the path's parameters, "" where the route has none. They are as the
	// client sent them.
	Provider, ID string
	// Match are the revisions that If-Match names; nil without the header, and for "*".
	Match []string
	// IdempotencyKey is the header of that name; nil if there is none.
	IdempotencyKey *string
	// Body is the request's, decoded from base64 if it came so; at most MaxBody bytes.
	Body []byte
}

// Response is an answer.
type Response struct {
	Status int
	Header map[string]string
	// Body is marshalled to JSON; nil for none.
	Body any
}

// Route answers a request. What its errors come to stands in the table of refusals.
type Route func(context.Context, Request) (Response, error)

// Handler serves the routes of one function, by API Gateway's route key, such as "GET
// /credentials".
type Handler struct {
	routes map[string]Route
	log    *slog.Logger
	users  *limiter
}

// NewHandler returns a handler of the given routes.
func NewHandler(log *slog.Logger, routes map[string]Route) *Handler {
	return &Handler{routes: routes, log: log, users: newLimiter()}
}

// MaxBody is how large a request's body may be, in bytes.
const MaxBody = 64 << 10

// Invoke implements lambda.Handler. Its error is always nil: what went wrong is in the response.
func (h *Handler) Invoke(ctx context.Context, event []byte) ([]byte, error) {
	return json.Marshal(h.respond(ctx, event))
}

func (h *Handler) respond(ctx context.Context, raw []byte) events.APIGatewayV2HTTPResponse {
	var e event
	err := credential.Decode("event", raw, &e)
	if err != nil {
		return encode(Response{Status: http.StatusBadRequest, Body: detail{"The event is not one of an API Gateway HTTP API."}})
	}
	route, ok := h.routes[e.RouteKey]
	if !ok {
		return encode(Response{Status: http.StatusNotFound, Body: message{"Not Found"}})
	}
	request, err := read(e)
	if err != nil {
		return encode(h.problem(ctx, e.RouteKey, err))
	}
	if !h.users.take(request.User, clock.Now()) {
		return encode(Response{
			Status: http.StatusTooManyRequests,
			Header: map[string]string{"retry-after": "1"},
			Body:   detail{"There are too many requests of yours. Please wait a moment."},
		})
	}
	response, err := route(ctx, request)
	if err != nil {
		return encode(h.problem(ctx, e.RouteKey, err))
	}
	return encode(response)
}

// event is what is read of an event.
type event struct {
	RouteKey       string `json:"routeKey"`
	PathParameters struct {
		Provider string `json:"provider"`
		ID       string `json:"id"`
	} `json:"pathParameters"`
	Headers struct {
		IfMatch        string  `json:"if-match"`
		IdempotencyKey *string `json:"idempotency-key"`
	} `json:"headers"`
	Body            string `json:"body"`
	IsBase64Encoded bool   `json:"isBase64Encoded"`
	RequestContext  struct {
		Authorizer struct {
			JWT struct {
				Claims json.RawMessage `json:"claims"`
			} `json:"jwt"`
			// Lambda is the context that the function authorize has given.
			Lambda json.RawMessage `json:"lambda"`
		} `json:"authorizer"`
	} `json:"requestContext"`
}

// claims are those that are used. The others may hold anything: a pool's own hook can add more, of
// whatever type.
type claims struct {
	Issuer   string `json:"iss"`
	Sub      string `json:"sub"`
	TokenUse string `json:"token_use"`
	Username string `json:"username"`
	ClientID string `json:"client_id"`
}

// identify says who is asking: a user with an access token. A token for a client by itself has the
// client as its sub (https://www.rfc-editor.org/rfc/rfc9068#section-2.2).
func identify(raw json.RawMessage) (claims, error) {
	var c claims
	err := credential.Decode("claims", raw, &c)
	if err != nil || !credential.ValidUserID(c.Sub) || c.Sub == c.ClientID {
		return claims{}, credential.ErrUnauthenticated
	}
	if c.ofCognito() && (c.TokenUse != "access" || c.Username == "") {
		return claims{}, credential.ErrUnauthenticated
	}
	return c, nil
}

// ofCognito reports whether a token is of a user pool, whose ID tokens pass the authorizer, too,
// and whose tokens for a client by itself have no username
// (https://docs.aws.amazon.com/cognito/latest/developerguide/amazon-cognito-user-pools-using-the-access-token.html).
// Other issuers know no token_use. What names no issuer is held to the stricter rule.
func (c claims) ofCognito() bool {
	return c.Issuer == "" || strings.HasPrefix(c.Issuer, "https://cognito-idp.")
}

// read takes a request out of an event.
func read(e event) (Request, error) {
	verified := e.RequestContext.Authorizer.JWT.Claims
	if verified == nil {
		verified = e.RequestContext.Authorizer.Lambda
	}
	user, err := identify(verified)
	if err != nil {
		return Request{}, err
	}
	r := Request{
		User:     user.Sub,
		Username: user.Username,
		Provider: e.PathParameters.Provider,
		ID:       e.PathParameters.ID,
		Match:    revisions(e.Headers.IfMatch),
		Body:     []byte(e.Body),

		IdempotencyKey: e.Headers.IdempotencyKey,
	}
	if e.IsBase64Encoded {
		r.Body, err = base64.StdEncoding.DecodeString(e.Body)
		if err != nil {
			return Request{}, &credential.FieldError{Field: "body", Problem: "is not valid base64"}
		}
	}
	if len(r.Body) > MaxBody {
		return Request{}, errBody
	}
	return r, nil
}

// revisions reads If-Match (RFC 9110, section 13.1.1). What is no strong ETag matches nothing.
func revisions(header string) []string {
	if header == "" || header == "*" {
		return nil
	}
	all := []string{}
	for _, tag := range strings.Split(header, ",") {
		tag = strings.TrimSpace(tag)
		if len(tag) > 2 && tag[0] == '"' && tag[len(tag)-1] == '"' && len(all) < mostRevisions {
			all = append(all, tag[1:len(tag)-1])
		}
	}
	return all
}

// mostRevisions is how many ETags of an If-Match are looked at.
const mostRevisions = 10

// Show answers with a credential, and with its ETag if it is one of the user's own.
func Show(status int, m credential.Metadata) Response {
	r := Response{Status: status, Body: m}
	if m.Revision != "" {
		r.Header = map[string]string{"etag": `"` + m.Revision + `"`}
	}
	return r
}

// The two forms of an error's body: the API's own, and API Gateway's.
type detail struct {
	Detail string `json:"detail"`
}

type message struct {
	Message string `json:"message"`
}

// retryAfter is what a client is told to wait after a fault, in seconds.
const retryAfter = "5"

// problem is the answer for an error. A fault is logged, and the client learns no more than that a
// repeat may help.
func (h *Handler) problem(ctx context.Context, route string, err error) Response {
	if errors.Is(err, credential.ErrUnauthenticated) {
		return Response{Status: http.StatusUnauthorized, Body: message{"Unauthorized"}}
	}
	method, _, _ := strings.Cut(route, " ")
	told, ok := refused(err, method)
	if ok {
		return Response{Status: told.Status, Body: detail{told.Detail}}
	}
	h.log.ErrorContext(ctx, "the request failed", "route", route, "error", err)
	return Response{
		Status: http.StatusServiceUnavailable,
		Header: map[string]string{"retry-after": retryAfter},
		Body:   detail{"The service cannot answer right now. Please try again."},
	}
}

func encode(r Response) events.APIGatewayV2HTTPResponse {
	out := events.APIGatewayV2HTTPResponse{
		StatusCode: r.Status,
		Headers:    map[string]string{"cache-control": "no-store", "x-content-type-options": "nosniff"},
	}
	for name, value := range r.Header {
		out.Headers[name] = value
	}
	if r.Body != nil {
		body, _ := json.Marshal(r.Body) // metadata and texts always marshal
		out.Headers["content-type"] = "application/json"
		out.Body = string(body)
	}
	return out
}

// CheckProvider returns a *credential.FieldError for a provider's name that is malformed.
func CheckProvider(name string) error {
	if !credential.ValidProvider(name) {
		return &credential.FieldError{Field: "provider", Problem: "must match [a-z0-9_]{1,64}" + meant(name)}
	}
	return nil
}

// meant is a hint at the provider that somebody probably meant, such as google_drive by "Google
// Drive", or openai by "Open AI", which the catalogue knows; "" if there is none.
func meant(name string) string {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return !('a' <= r && r <= 'z' || '0' <= r && r <= '9') })
	slug := cmp.Or(catalogue.Meant(name), strings.Join(words, "_"))
	if !credential.ValidProvider(slug) {
		return ""
	}
	return "; " + slug + " is probably meant"
}

// Guard answers what needs no look into the table about a change to one credential: the system's
// cannot be changed, and a malformed name or id is nobody's. system is keyed by provider.
func Guard(r Request, system map[string]string) error {
	for provider := range system {
		if r.ID == credential.SystemID(provider) {
			return credential.ErrSystem
		}
	}
	if !credential.ValidProvider(r.Provider) || !credential.ValidID(r.ID) {
		return credential.ErrNotFound
	}
	return nil
}
