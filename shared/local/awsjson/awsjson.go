// Package awsjson serves the AWS JSON 1.1 protocol: every operation is a POST, named by the
// X-Amz-Target header, with one JSON object each way. The stand-ins for AWS services are built on
// it.
//
// It checks no signature. A parameter that an operation's input does not name is refused rather
// than ignored, so that nobody comes to rely on something that a stand-in does not do.
package awsjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/google/uuid"
)

// maxBody is far above the largest request of the services that are stood in for: a 64 KB secret.
const maxBody = 1 << 20

// Service is the http.Handler of one AWS service.
type Service struct {
	// Target is the part of X-Amz-Target before the dot, such as "TrentService".
	Target string
	// Operations are what the service can do, by name. Any other answers UnknownOperationException.
	Operations map[string]Operation
}

// An Operation takes the JSON object of a request and gives that of the answer; nil stands for an
// answer without a body. A failure that the service would report is an *Error; any other error
// becomes a 500.
type Operation func(input []byte) (any, error)

// Op makes an Operation of a function with a typed input.
func Op[In any](f func(In) (any, error)) Operation {
	return func(input []byte) (any, error) {
		var in In
		dec := json.NewDecoder(bytes.NewReader(input))
		dec.DisallowUnknownFields()
		err := dec.Decode(&in)
		if err != nil {
			return nil, Errorf("SerializationException", "the stand-in cannot take this input: %v", err)
		}
		return f(in)
	}
}

// Error is a refusal as AWS words it. It is answered with status 400, which is what these services
// use for all of them.
type Error struct {
	// Code is the exception's name, such as "NotFoundException".
	Code string `json:"__type"`
	// Message may be empty: some exceptions come without one.
	Message string `json:"message,omitempty"`
}

// Errorf makes an Error with a formatted message.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func (s Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out, err := s.call(w, r)
	w.Header().Set("X-Amzn-Requestid", uuid.NewString())
	if err != nil {
		writeError(w, err)
		return
	}
	if out == nil {
		return
	}
	writeJSON(w, http.StatusOK, out)
}

func (s Service) call(w http.ResponseWriter, r *http.Request) (any, error) {
	target, name, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	operation, ok := s.Operations[name]
	if r.Method != http.MethodPost || target != s.Target || !ok {
		return nil, &Error{Code: "UnknownOperationException"}
	}
	input, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, Errorf("SerializationException", "reading the request: %v", err)
	}
	return operation(input)
}

func writeError(w http.ResponseWriter, err error) {
	var refusal *Error
	if !errors.As(err, &refusal) {
		w.Header().Set("X-Amzn-Errortype", "InternalFailure")
		writeJSON(w, http.StatusInternalServerError, Errorf("InternalFailure", "%v", err))
		return
	}
	w.Header().Set("X-Amzn-Errortype", refusal.Code)
	writeJSON(w, http.StatusBadRequest, refusal)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // The client is gone if this fails, and nobody is left to tell.
}
