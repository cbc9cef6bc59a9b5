package gateway

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
)

// answer is what a function returned, as HTTP.
type answer struct {
	status  int
	header  http.Header
	cookies []string
	body    []byte
}

// parseAnswer reads a function's answer of payload format 2.0. JSON without a statusCode is the
// body of a 200. See
// https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html.
func parseAnswer(out []byte) (answer, error) {
	var parsed struct {
		StatusCode      *int
		Headers         map[string]any
		Cookies         []string
		Body            string
		IsBase64Encoded bool
	}
	var members map[string]json.RawMessage
	isObject := json.Unmarshal(out, &members) == nil
	_, hasStatus := members["statusCode"]
	switch {
	case !json.Valid(out):
		return answer{}, errors.New("the function's answer is not JSON")
	case !isObject || !hasStatus:
		return answer{status: http.StatusOK, header: http.Header{"Content-Type": {"application/json"}}, body: out}, nil
	}
	err := json.Unmarshal(out, &parsed)
	if err != nil {
		return answer{}, fmt.Errorf("reading the function's answer: %w", err)
	}
	if parsed.StatusCode == nil || *parsed.StatusCode < 200 || *parsed.StatusCode > 599 {
		return answer{}, errors.New("the function's answer has no status code from 200 to 599")
	}
	a := answer{status: *parsed.StatusCode, header: http.Header{}, cookies: parsed.Cookies, body: []byte(parsed.Body)}
	for name, value := range parsed.Headers {
		switch value.(type) {
		case string, float64, bool:
			a.header.Set(name, fmt.Sprint(value))
		default:
			return answer{}, fmt.Errorf("the function's answer has a header %s that is no string", name)
		}
	}
	if parsed.IsBase64Encoded {
		a.body, err = base64.StdEncoding.DecodeString(parsed.Body)
		if err != nil {
			return answer{}, fmt.Errorf("decoding the body of the function's answer: %w", err)
		}
	}
	return a, nil
}

func (a answer) write(w http.ResponseWriter) {
	h := w.Header()
	if len(a.body) > 0 {
		h.Set("Content-Type", "text/plain; charset=utf-8")
	}
	maps.Copy(h, a.header)
	// How the answer is framed is the server's business.
	for _, name := range []string{"Connection", "Content-Length", "Transfer-Encoding"} {
		h.Del(name)
	}
	for _, cookie := range a.cookies {
		h.Add("Set-Cookie", cookie)
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // The client has gone if this fails, and nobody is left to tell.
}
