package fake

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"managed-credentials/shared/local/fault"
)

// apiError is a refusal by the API itself, as opposed to one by the edge in front of it.
type apiError struct {
	status int
	body   errorBody
}

func (e *apiError) Error() string { return e.body.Code + ": " + e.body.Message }

type errorBody struct {
	Name    string  `json:"name"`
	Code    string  `json:"code"`
	Message string  `json:"message"`
	Errors  []issue `json:"errors,omitempty"`
	Fix     string  `json:"fix,omitempty"`
	Docs    string  `json:"docs"`
}

// issue is one thing wrong with a request. Path names the member or parameter; it is empty when the
// body as a whole is wrong.
type issue struct {
	Code    string   `json:"code"`
	Path    []string `json:"path"`
	Message string   `json:"message"`
}

// codes are the documented error codes: https://docs.agentmail.to/errors. Clients are told to go by
// the code; a name or message that no recording shows is our own.
var codes = map[string]struct {
	status  int
	message string
	fix     string
}{
	"validation_error":      {400, "Request validation failed", "Correct the members that 'errors' names and send the request again."},
	"missing_authorization": {401, "Unauthorized", ""},
	"invalid_token_type":    {401, "Unauthorized", ""},
	"unknown_api_key":       {401, "Unauthorized", "Use a key that exists and has not been revoked."},
	"unauthorized":          {401, "Unauthorized", ""},
	"api_key_expired":       {401, "Unauthorized", "Use a key that has not expired."},
	"missing_permission":    {403, "Forbidden", "Use a key that has the permission which this call needs."},
	"permission_escalation": {403, "Forbidden", "Ask for no permission that the calling key does not have itself."},
	"forbidden":             {403, "Forbidden", ""},
	"already_exists":        {403, "Resource already exists", "Choose another identifier."},
	"limit_exceeded":        {403, "Limit exceeded", "Delete something of this kind, or raise the limit."},
	"account_suspended":     {403, "Account suspended", ""},
	"not_found":             {404, "Not found", "Check the identifier, and that the key's scope includes it."},
	"cannot_delete":         {409, "Cannot delete resource", "Remove what depends on it, then try again."},
	"race_condition":        {409, "Resource was changed at the same time", "Send the request again."},
	"resource_deleting":     {409, "Resource is being deleted", "Wait until the deletion has finished."},
	"conflict":              {409, "Conflict", ""},
	"unprocessable":         {422, "Unprocessable", ""},
	"rate_limit_exceeded":   {429, "Rate limit exceeded", "Wait as long as Retry-After says."},
	"internal_error":        {500, "Internal server error", ""},
	"service_unavailable":   {503, "Service unavailable", "Try again later."},
}

// statusCodes are the codes that a status stands for when a fault names none. 401 and 403 are
// missing: alone, they come from the edge.
var statusCodes = map[int]string{
	http.StatusBadRequest:          "validation_error",
	http.StatusNotFound:            "not_found",
	http.StatusConflict:            "conflict",
	http.StatusUnprocessableEntity: "unprocessable",
	http.StatusTooManyRequests:     "rate_limit_exceeded",
	http.StatusInternalServerError: "internal_error",
	http.StatusServiceUnavailable:  "service_unavailable",
}

// refuse makes the error for a documented code. An empty message stands for the code's usual one.
func refuse(code, message string) *apiError {
	c := codes[code]
	if message == "" {
		message = c.message
	}
	return &apiError{status: c.status, body: errorBody{
		Name:    errorName(code),
		Code:    code,
		Message: message,
		Fix:     c.fix,
		Docs:    "https://docs.agentmail.to/errors#" + code,
	}}
}

func invalid(code, message string, path ...string) *apiError {
	e := refuse("validation_error", "")
	e.body.Errors = []issue{{Code: code, Path: append([]string{}, path...), Message: message}}
	return e
}

// errorName gives cannot_delete the name CannotDeleteError, as recorded, and the others theirs by
// the same rule.
func errorName(code string) string {
	if code == "missing_permission" {
		return "ForbiddenError" // as documented
	}
	var name strings.Builder
	for word := range strings.SplitSeq(strings.TrimSuffix(code, "_error"), "_") {
		name.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return name.String() + "Error"
}

// edge is an answer by the gateway in front of the API, which knows nothing of codes.
func edge(status int) answer {
	return answer{status: status, body: map[string]string{"message": http.StatusText(status)}}
}

// answerTo turns a handler's error into what the caller gets.
func answerTo(err error) answer {
	var refused *apiError
	if !errors.As(err, &refused) {
		refused = refuse("internal_error", "")
	}
	return answer{status: refused.status, body: refused.body}
}

// Status is a fault that answers with the error that belongs to a status, and does nothing else.
// 401 and 403 are the edge's, and 429 comes with Retry-After: 1.
func Status(status int) fault.Fault { return refusal(status, "") }

// Code is a fault that answers with the error of this code, and does nothing else.
func Code(code string) fault.Fault { return refusal(0, code) }

// refusal is a [fault.Refusal].
func refusal(status int, code string) fault.Fault {
	return func(context.Context, *fault.Call) (*fault.Answer, error) {
		return refusalOf(status, code).encode(), nil
	}
}

// refusalOf is the error that a status and a code stand for.
func refusalOf(status int, code string) answer {
	if code == "" {
		code = statusCodes[status]
	}
	if code == "" {
		return edge(status)
	}
	refused := answerTo(refuse(code, ""))
	refused.status = cmp.Or(status, refused.status, http.StatusInternalServerError) // the last for a code that is not documented
	if refused.status == http.StatusTooManyRequests {
		refused.retryAfter = "1"
	}
	return refused
}

// decode reads a request's body, which may be absent where all its members may be.
func decode(body []byte, into any) error {
	if len(body) == 0 {
		return nil
	}
	err := json.Unmarshal(body, into)
	var wrongType *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrongType):
		var path []string
		if wrongType.Field != "" {
			path = strings.Split(wrongType.Field, ".")
		}
		return invalid("invalid_type", fmt.Sprintf("Invalid input: expected %s, received %s", wrongType.Type.Kind(), wrongType.Value), path...)
	default:
		return invalid("invalid_format", "Invalid JSON string")
	}
}
