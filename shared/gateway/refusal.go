package gateway

import (
	"errors"
	"net/http"

	"managed-credentials/shared/credential"
)

// refusals are the errors of which callers are told what they say. Any other is a fault. Each has
// its status over HTTP and in a direct call, 0 where it is a fault there, and its text for a
// request with the given method. (What API Gateway itself would refuse is answered as it answers.)
var refusals = []struct {
	http, direct int
	tells        func(err error, method string) (text string, ok bool)
}{
	{http.StatusUnauthorized, 0, says(credential.ErrAccountDeleted, "This account has been deleted.")},
	{0, http.StatusGone, says(credential.ErrAccountDeleted, "The account has been deleted")},
	{http.StatusForbidden, 0, says(credential.ErrAccountSuspended, "This account is suspended.")},
	{0, http.StatusForbidden, says(credential.ErrAccountSuspended, "The account is suspended")},
	{http.StatusForbidden, 0, says(credential.ErrForged, "AutoGPT-managed credentials cannot be created by users")},
	{http.StatusForbidden, 0, forbids(credential.ErrManaged, "AutoGPT-managed")},
	{http.StatusForbidden, 0, forbids(credential.ErrSystem, "System-managed")},
	{http.StatusNotFound, http.StatusNotFound, says(credential.ErrNotFound, "Credentials not found")},
	{http.StatusNotFound, 0, says(credential.ErrNotOffered, "No managed credential is offered there.")},
	{http.StatusForbidden, 0, says(credential.ErrKept, "This managed credential cannot be removed.")},
	{0, http.StatusNotFound, says(credential.ErrNoProvider, "No such provider is registered")},
	{http.StatusConflict, 0, itself[*credential.LimitError]},
	{0, http.StatusConflict, itself[*credential.ConflictError]},
	{0, http.StatusConflict, says(credential.ErrNotUsable, "The credential cannot be used now")},
	{http.StatusPreconditionFailed, 0, says(credential.ErrChanged, "The credential was changed elsewhere: see what is there now.")},
	{http.StatusRequestEntityTooLarge, 0, says(errBody, "The body exceeds 64 KB.")},
	{http.StatusRequestEntityTooLarge, 0, says(credential.ErrTooLarge, "The secret fields together exceed 4,096 bytes.")},
	{http.StatusRequestEntityTooLarge, 0, says(credential.ErrOpenTooLarge, "The username and scopes together exceed 3,072 bytes: "+
		"all of a credential that is not secret, its title included, may have 4 KB.")},
	{http.StatusUnprocessableEntity, 0, says(credential.ErrRepeated, "Idempotency-Key: was sent with another body before: send a new one with this")},
	{http.StatusUnprocessableEntity, 0, differs},
	{http.StatusUnprocessableEntity, http.StatusUnprocessableEntity, itself[*credential.FieldError]},
}

var errBody = errors.New("the body is too large")

// says is for one error, with its text.
func says(of error, text string) func(error, string) (string, bool) {
	return func(err error, _ string) (string, bool) { return text, errors.Is(err, of) }
}

// itself is for errors of a type that hold their text.
func itself[E error](err error, _ string) (string, bool) {
	var told E
	if !errors.As(err, &told) {
		return "", false
	}
	return told.Error(), true
}

// forbids is for a change of a credential that is not the user's own.
func forbids(of error, whose string) func(error, string) (string, bool) {
	verbs := map[string]string{http.MethodPut: "updated", http.MethodDelete: "deleted"}
	return func(err error, method string) (string, bool) {
		return whose + " credentials cannot be " + verbs[method], errors.Is(err, of)
	}
}

// differs is for a change that is of another type than the credential.
func differs(err error, _ string) (string, bool) {
	var e *credential.TypeError
	if !errors.As(err, &e) {
		return "", false
	}
	return "type: is " + string(e.Change) + ", but the credential's is " + string(e.Stored) + ": make a new credential instead", true
}

// direct is the method of a request that does not come over HTTP.
const direct = ""

// refused is what the caller is told of an error; ok is false for a fault.
func refused(err error, method string) (answer Status, ok bool) {
	for _, r := range refusals {
		status := r.http
		if method == direct {
			status = r.direct
		}
		text, ok := r.tells(err, method)
		if ok && status != 0 {
			return Status{status, text}, true
		}
	}
	return Status{}, false
}
