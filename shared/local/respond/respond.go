// Package respond writes what the stand-ins for AWS and for third parties answer.
package respond

import (
	"encoding/json"
	"net/http"
)

// JSON answers with v, as application/json unless the header names another type. Nothing follows
// the JSON, so that an answer that is cut short cannot be read. That the client has gone is no
// error: nobody is left to tell.
func JSON(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // cannot be: plain members
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(status)
	_, _ = w.Write(text)
}
