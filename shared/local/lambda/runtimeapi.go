package lambda

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"managed-credentials/shared/local/respond"
)

// maxAnswer is the most that an answer may hold, in bytes:
// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html.
const maxAnswer = 6 << 20

// runtimeAPI is what the process talks to.
func (i *instance) runtimeAPI() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", i.serveNext)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", i.serveResponse)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", i.serveError)
	mux.HandleFunc("POST /2018-06-01/runtime/init/error", i.serveInitError)
	return mux
}

// serveNext holds the process's request until there is an event for it.
func (i *instance) serveNext(w http.ResponseWriter, r *http.Request) {
	select {
	case i.ready <- struct{}{}:
	case <-r.Context().Done():
		return
	}
	select {
	case e := <-i.events:
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Lambda-Runtime-Aws-Request-Id", e.id)
		h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(e.deadline.UnixMilli(), 10))
		h.Set("Lambda-Runtime-Invoked-Function-Arn", i.function.arn)
		h.Set("Lambda-Runtime-Trace-Id", newTraceID())
		_, _ = w.Write(e.payload)
	case <-r.Context().Done():
	}
}

func (i *instance) serveResponse(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAnswer))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		message := fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", maxAnswer)
		if i.settle(w, r, outcome{err: i.fail(TooLarge, message)}) {
			reply(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", message)
		}
	case err != nil:
		reply(w, http.StatusBadRequest, "InvalidRequest", err.Error())
	case i.settle(w, r, outcome{answer: body}):
		accept(w)
	}
}

func (i *instance) serveError(w http.ResponseWriter, r *http.Request) {
	if i.settle(w, r, outcome{err: i.reported(r)}) {
		accept(w)
	}
}

func (i *instance) serveInitError(w http.ResponseWriter, r *http.Request) {
	reported := i.reported(r)
	i.mu.Lock()
	i.initError = reported
	i.mu.Unlock()
	accept(w)
}

// reported reads an error as a runtime sends it.
func (i *instance) reported(r *http.Request) *FunctionError {
	var body struct {
		ErrorType    string `json:"errorType"`
		ErrorMessage string `json:"errorMessage"`
	}
	err := json.NewDecoder(io.LimitReader(r.Body, maxAnswer)).Decode(&body)
	if err != nil || body.ErrorType == "" {
		body.ErrorType = r.Header.Get("Lambda-Runtime-Function-Error-Type")
	}
	return &FunctionError{Function: i.function.Name, Type: body.ErrorType, Message: body.ErrorMessage}
}

func (i *instance) setCurrent(e *event) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.current = e
}

// settle hands over the outcome of what the process works on. An outcome for anything else is
// answered with an error, and reported as false.
func (i *instance) settle(w http.ResponseWriter, r *http.Request, o outcome) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.current == nil || i.current.id != r.PathValue("id") {
		reply(w, http.StatusBadRequest, "InvalidRequestID", "Invalid request ID")
		return false
	}
	i.current.outcome <- o
	i.current = nil
	return true
}

func accept(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"status":"OK"}`)
}

func reply(w http.ResponseWriter, status int, kind, message string) {
	respond.JSON(w, status, map[string]string{"errorType": kind, "errorMessage": message})
}

// newTraceID is what X-Ray calls a tracing header:
// https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html.
func newTraceID() string {
	return fmt.Sprintf("Root=1-%08x-%s;Parent=%s;Sampled=0", time.Now().Unix(), randomHex(12), randomHex(8))
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // It never fails.
	return hex.EncodeToString(b)
}
