package lambda

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/google/uuid"

	"managed-credentials/shared/local/respond"
)

// maxPayload is what Lambda takes for one invocation
// (https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html).
const maxPayload = 6 << 20

// API is Lambda's own API, as far as invoking a function and waiting for its answer goes, so that
// the stock SDK client can invoke the host's functions
// (https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html).
func (h *Host) API() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2015-03-31/functions/{name}/invocations", h.serveInvoke)
	return mux
}

func (h *Host) serveInvoke(w http.ResponseWriter, r *http.Request) {
	payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPayload))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "RequestTooLargeException", err.Error())
		return
	}
	answer, err := h.Invoke(r.Context(), r.PathValue("name"), payload)
	var failed *FunctionError
	switch {
	case errors.Is(err, ErrUnknownFunction):
		refuse(w, http.StatusNotFound, "ResourceNotFoundException", err.Error())
		return
	case errors.As(err, &failed):
		w.Header().Set("X-Amz-Function-Error", "Unhandled")
		answer, _ = json.Marshal(map[string]string{"errorMessage": failed.Message, "errorType": failed.Type}) // texts always marshal
	case err != nil:
		refuse(w, http.StatusInternalServerError, "ServiceException", err.Error())
		return
	}
	_, _ = w.Write(answer) // The caller is gone if this fails.
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("X-Amzn-Errortype", code)
	respond.JSON(w, status, map[string]string{"Message": message})
}

// Undelivered is the record that Lambda sends to a function's failure destination once an event has
// failed for good
// (https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html).
func Undelivered(function string, event []byte) []byte {
	record, err := json.Marshal(map[string]any{
		"version":   "1.0",
		"timestamp": time.Now().UTC().Format("2006-01-02T15:04:05.000Z"),
		"requestContext": map[string]any{
			"requestId":              uuid.NewString(),
			"functionArn":            functionARN + function + ":$LATEST",
			"condition":              "RetriesExhausted",
			"approximateInvokeCount": 3,
		},
		"requestPayload":  json.RawMessage(event),
		"responseContext": map[string]any{"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
		"responsePayload": map[string]any{},
	})
	if err != nil {
		panic(err) // only an event that is not JSON cannot be written, and that Lambda takes none of
	}
	return record
}
