package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"managed-credentials/shared/local/lambda"
	"managed-credentials/shared/local/respond"
	"managed-credentials/shared/local/standin"
)

// Local is what is behind the paths under /local/, which exist on one machine alone.
type Local struct {
	// UserPoolID is the pool that deletions are told of.
	UserPoolID string
	// Token returns a valid access token of a user.
	Token func(sub, username string) (string, error)
	// ES256Token returns a valid access token of a user, of the issuer that is not Cognito. Nil if
	// there is none.
	ES256Token func(sub string) (string, error)
	// AddUser puts a user into the pool, if it is not there.
	AddUser func(sub, username string)
	// RemoveUser takes a user out of the pool, if it is there, without telling anybody.
	RemoveUser func(ctx context.Context, sub string) error
	// SwitchUser disables or enables a user of the pool, without telling anybody, and reports
	// whether they are there.
	SwitchUser func(sub string, enabled bool) bool
	// Dashboard shows the functions' metrics.
	Dashboard http.Handler
}

// maxLocalBody is the most that a request under /local/ may hold, in bytes.
const maxLocalBody = 64 << 10

// localHandlers are by method and path.
func (g *Gateway) localHandlers() map[string]http.HandlerFunc {
	handlers := map[string]http.HandlerFunc{
		"POST /local/token":        g.serveToken,
		"POST /local/delete-user":  g.serveDeleteUser,
		"POST /local/disable-user": g.serveSwitchUser(false),
		"POST /local/enable-user":  g.serveSwitchUser(true),
		"POST /local/reconcile":    g.serveReconcile,
		"POST /local/resolve":      g.serveResolve,
		"POST /local/operate":      g.serveOperate,
		"GET /local/dashboard":     func(w http.ResponseWriter, r *http.Request) { g.cfg.Local.Dashboard.ServeHTTP(w, r) },
	}
	for path, handler := range handlers {
		handlers[path] = fromHere(handler)
	}
	return handlers
}

// fromHere keeps out what a page on the web has a developer's browser send: these paths ask for no
// token, and hand out secrets. A page of another origin is refused by that, and one that claims
// this machine's address for its own name by the name.
func fromHere(next http.Handler) http.HandlerFunc {
	sameOrigin := http.NewCrossOriginProtection().Handler(next)
	return func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		ip := net.ParseIP(strings.Trim(host, "[]"))
		if host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			detail(w, http.StatusForbidden, "this is for callers on this machine")
			return
		}
		sameOrigin.ServeHTTP(w, r)
	}
}

type userRequest struct {
	Sub      string `json:"sub"`
	Username string `json:"username"`
	// Algorithm is that of the token's signature: ES256, or else Cognito's.
	Algorithm string `json:"algorithm"`
}

func (g *Gateway) serveToken(w http.ResponseWriter, r *http.Request) {
	user, ok := readUser(w, r)
	if !ok {
		return
	}
	var token string
	var err error
	switch {
	case user.Algorithm == "" || user.Algorithm == "RS256":
		g.cfg.Local.AddUser(user.Sub, user.Username)
		token, err = g.cfg.Local.Token(user.Sub, user.Username)
	case user.Algorithm == "ES256" && g.cfg.Local.ES256Token != nil:
		token, err = g.cfg.Local.ES256Token(user.Sub)
	default:
		detail(w, http.StatusUnprocessableEntity, "there is no issuer that signs with this algorithm: RS256 and ES256 are there, ES256 unless JWT_ISSUER is set")
		return
	}
	if err != nil {
		detail(w, http.StatusInternalServerError, err.Error())
		return
	}
	respond.JSON(w, http.StatusOK, map[string]string{"access_token": token})
}

func (g *Gateway) serveDeleteUser(w http.ResponseWriter, r *http.Request) {
	user, ok := readUser(w, r)
	if !ok {
		return
	}
	err := g.cfg.Local.RemoveUser(r.Context(), user.Sub)
	if err != nil {
		detail(w, http.StatusInternalServerError, err.Error())
		return
	}
	out, ok := g.invoke(w, r, "user-cleanup", UserDeleted(g.cfg.Local.UserPoolID, user.Sub, time.Now()))
	if ok {
		respond.JSON(w, http.StatusOK, out)
	}
}

// serveSwitchUser disables or enables a user in the pool, and delivers the event of it.
func (g *Gateway) serveSwitchUser(enabled bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		user, ok := readUser(w, r)
		if !ok {
			return
		}
		if !g.cfg.Local.SwitchUser(user.Sub, enabled) {
			detail(w, http.StatusNotFound, "User does not exist.")
			return
		}
		out, ok := g.invoke(w, r, "user-cleanup", UserSwitched(g.cfg.Local.UserPoolID, user.Sub, enabled, time.Now()))
		if ok {
			respond.JSON(w, http.StatusOK, out)
		}
	}
}

func (g *Gateway) serveReconcile(w http.ResponseWriter, r *http.Request) {
	_, ok := readBody(w, r)
	if !ok {
		return
	}
	out, ok := g.invoke(w, r, "reconcile", Scheduled(time.Now()))
	if ok {
		respond.JSON(w, http.StatusOK, out)
	}
}

// serveOperate does as an operator does: the body is the function's event.
func (g *Gateway) serveOperate(w http.ResponseWriter, r *http.Request) {
	body, ok := readBody(w, r)
	if ok {
		g.direct(w, r, "operate", body)
	}
}

// serveResolve does as an executor does. Without a credential's id the user's managed credential at
// the provider is meant.
func (g *Gateway) serveResolve(w http.ResponseWriter, r *http.Request) {
	body, ok := readBody(w, r)
	if !ok {
		return
	}
	var request struct {
		Sub             string `json:"sub"`
		Provider        string `json:"provider"`
		CredentialID    string `json:"credential_id"`
		RejectedAttempt int64  `json:"rejected_attempt"`
	}
	err := json.Unmarshal(body, &request)
	if err != nil {
		detail(w, http.StatusUnprocessableEntity, `the body has to be {"sub": "…", "provider": "…"}, optionally with a "credential_id" or a "rejected_attempt"`)
		return
	}
	payload, _ := json.Marshal(map[string]any{ // Texts and numbers can always be written.
		"user_id": request.Sub, "provider": request.Provider, "credential_id": request.CredentialID, "rejected_attempt": request.RejectedAttempt,
	})
	g.direct(w, r, "resolve-credential", payload)
}

// direct invokes a function that no route leads to, and turns its answer into HTTP: one with a
// status is a refusal, or an acceptance.
func (g *Gateway) direct(w http.ResponseWriter, r *http.Request, function string, payload []byte) {
	out, ok := g.invoke(w, r, function, payload)
	if !ok {
		return
	}
	var said struct {
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}
	err := json.Unmarshal(out, &said)
	switch {
	case err != nil:
		detail(w, http.StatusBadGateway, function+" gave an answer of another shape")
	case said.Status == 0:
		respond.JSON(w, http.StatusOK, out)
	case said.Status != http.StatusAccepted && (said.Status < 400 || said.Status > 599):
		detail(w, http.StatusBadGateway, fmt.Sprintf("%s answered with the status %d", function, said.Status))
	default:
		detail(w, said.Status, said.Detail)
	}
}

// invoke calls a function for as long as it takes. If it fails, invoke answers the request, without
// the function's message, which may hold anything, and reports false.
func (g *Gateway) invoke(w http.ResponseWriter, r *http.Request, function string, payload []byte) (json.RawMessage, bool) {
	out, err := g.cfg.Invoke(r.Context(), function, payload)
	var failed *lambda.FunctionError
	switch {
	case errors.As(err, &failed):
		detail(w, http.StatusBadGateway, function+" failed with "+failed.Type+", see its log")
	case err != nil:
		detail(w, http.StatusBadGateway, function+" could not be invoked")
	case !json.Valid(out):
		detail(w, http.StatusBadGateway, function+" gave an answer that is not JSON")
	default:
		return out, true
	}
	return nil, false
}

// readUser reads a request that names a user. A user without a name of its own is called by its
// sub, as in a pool that signs in by e-mail address.
func readUser(w http.ResponseWriter, r *http.Request) (userRequest, bool) {
	body, ok := readBody(w, r)
	if !ok {
		return userRequest{}, false
	}
	var user userRequest
	err := json.Unmarshal(body, &user)
	if err != nil || user.Sub == "" {
		detail(w, http.StatusUnprocessableEntity, `the body has to be {"sub": "…"}, the user's id, optionally with a "username"`)
		return userRequest{}, false
	}
	if user.Username == "" {
		user.Username = user.Sub
	}
	return user, true
}

// readBody reads a JSON object. No body stands for an empty one.
func readBody(w http.ResponseWriter, r *http.Request) (json.RawMessage, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxLocalBody))
	if err != nil {
		detail(w, http.StatusRequestEntityTooLarge, "the body is too large")
		return nil, false
	}
	if len(body) == 0 {
		return json.RawMessage("{}"), true
	}
	var object map[string]json.RawMessage
	err = json.Unmarshal(body, &object)
	if err != nil || object == nil {
		detail(w, http.StatusUnprocessableEntity, "the body has to be a JSON object")
		return nil, false
	}
	return body, true
}

// UserDeleted is what EventBridge delivers once CloudTrail has recorded that an administrator
// deleted a user of a pool. AWS does not publish the event's exact shape; this one has what is
// known of it, and the user name hidden, as it mostly is.
func UserDeleted(userPoolID, sub string, at time.Time) []byte {
	return administered("AdminDeleteUser", userPoolID, sub, at)
}

// UserSwitched is the same of a user who was disabled or enabled.
func UserSwitched(userPoolID, sub string, enabled bool, at time.Time) []byte {
	if enabled {
		return administered("AdminEnableUser", userPoolID, sub, at)
	}
	return administered("AdminDisableUser", userPoolID, sub, at)
}

func administered(call, userPoolID, sub string, at time.Time) []byte {
	region, _, _ := strings.Cut(userPoolID, "_")
	return bridged("aws.cognito-idp", "AWS API Call via CloudTrail", region, at, map[string]any{
		"eventVersion": "1.11",
		"userIdentity": map[string]any{"type": "AWSAccount", "principalId": standin.Account, "accountId": standin.Account},
		"eventTime":    at.UTC().Format(time.RFC3339),
		"eventSource":  "cognito-idp.amazonaws.com",
		"eventName":    call,
		"awsRegion":    region,
		"requestParameters": map[string]any{
			"userPoolId": userPoolID,
			"username":   "HIDDEN_DUE_TO_SECURITY_REASONS",
		},
		"responseElements":    nil,
		"additionalEventData": map[string]any{"sub": sub},
		"requestID":           uuid.NewString(),
		"eventID":             uuid.NewString(),
		"readOnly":            false,
		"eventType":           "AwsApiCall",
		"managementEvent":     true,
		"recipientAccountId":  standin.Account,
		"eventCategory":       "Management",
	})
}

// Scheduled is what EventBridge delivers on a schedule.
func Scheduled(at time.Time) []byte {
	return bridged("aws.events", "Scheduled Event", standin.Region, at, map[string]any{})
}

func bridged(source, detailType, region string, at time.Time, detail map[string]any) []byte {
	event, err := json.Marshal(map[string]any{
		"version":     "0",
		"id":          uuid.NewString(),
		"source":      source,
		"detail-type": detailType,
		"account":     standin.Account,
		"region":      region,
		"time":        at.UTC().Format(time.RFC3339),
		"resources":   []string{},
		"detail":      detail,
	})
	if err != nil {
		panic(err) // Strings, booleans and maps of them can always be written.
	}
	return event
}

func detail(w http.ResponseWriter, status int, text string) {
	respond.JSON(w, status, map[string]string{"detail": text})
}
