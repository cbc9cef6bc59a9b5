// Package standin stands in for the services of AWS that the functions call, as far as they call
// them: KMS, Secrets Manager, the administration of a Cognito user pool, and SQS. Each is an
// http.Handler in the shapes of the real service, so that the stock SDK client talks to it. Nothing
// is kept beyond the process.
//
// They speak AWS's JSON protocol: every operation is a POST, named by the X-Amz-Target header, with
// one JSON object each way. No signature is checked. An operation, or a parameter of one, that a
// stand-in does not have is refused rather than ignored, so that nobody comes to rely on it.
package standin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"managed-credentials/shared/local/respond"
)

// Region and Account are where everything here is. They are part of ARNs.
const (
	Region  = "us-east-1"
	Account = "000000000000"
)

// maxBody is far above the largest request of the services that are stood in for: a 64 KB secret.
const maxBody = 1 << 20

// service is the http.Handler of one AWS service.
type service struct {
	// target is the part of X-Amz-Target before the dot, such as "TrentService".
	target string
	// operations are what the service can do, by name. Any other answers UnknownOperationException.
	operations map[string]operation
}

// An operation takes the JSON object of a request and gives that of the answer; nil stands for an
// answer without a body. A failure that the service would report is a *refusal; any other error
// becomes a 500.
type operation func(input []byte) (any, error)

// op makes an operation of a function with a typed input.
func op[In any](f func(In) (any, error)) operation {
	return func(input []byte) (any, error) {
		var in In
		dec := json.NewDecoder(bytes.NewReader(input))
		dec.DisallowUnknownFields()
		err := dec.Decode(&in)
		if err != nil {
			return nil, refuse("SerializationException", "the stand-in cannot take this input: %v", err)
		}
		return f(in)
	}
}

// refusal is one as AWS words it. It is answered with status 400, which is what these services
// use for all of them.
type refusal struct {
	// Code is the exception's name, such as "NotFoundException".
	Code string `json:"__type"`
	// Message may be empty: some exceptions come without one.
	Message string `json:"message,omitempty"`
}

// refuse makes a refusal with a formatted message.
func refuse(code, format string, args ...any) *refusal {
	return &refusal{Code: code, Message: fmt.Sprintf(format, args...)}
}

func (e *refusal) Error() string { return e.Code + ": " + e.Message }

func (s service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out, err := s.call(w, r)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Requestid", uuid.NewString())
	if err != nil {
		writeError(w, err)
		return
	}
	if out == nil {
		return
	}
	respond.JSON(w, http.StatusOK, out)
}

func (s service) call(w http.ResponseWriter, r *http.Request) (any, error) {
	target, name, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	operation, ok := s.operations[name]
	if r.Method != http.MethodPost || target != s.target || !ok {
		return nil, &refusal{Code: "UnknownOperationException"}
	}
	input, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, refuse("SerializationException", "reading the request: %v", err)
	}
	return operation(input)
}

func writeError(w http.ResponseWriter, err error) {
	var said *refusal
	if !errors.As(err, &said) {
		w.Header().Set("X-Amzn-Errortype", "InternalFailure")
		respond.JSON(w, http.StatusInternalServerError, refuse("InternalFailure", "%v", err))
		return
	}
	w.Header().Set("X-Amzn-Errortype", said.Code)
	respond.JSON(w, http.StatusBadRequest, said)
}

// seconds is a time as the protocol writes it: seconds since 1970.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
