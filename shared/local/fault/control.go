package fault

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"managed-credentials/shared/local/respond"
)

// ControlPrefix begins the paths by which a fake is looked at and told what to do. They meet no
// fault.
const ControlPrefix = "/_fake/"

// Refusal makes the error that a third party answers with: one of its codes, a status with the code
// that belongs to it, or a code with an unusual status. What is zero or empty is not said.
type Refusal func(status int, code string) Fault

// Front puts the rules before the routes of a fake third party, and adds the control of them over
// HTTP ([Rules.Control]). An operation's name is its route's pattern, such as
// "DELETE /v1/keys/{id}".
func (r *Rules) Front(routes *http.ServeMux, refuse Refusal) http.Handler {
	known := func(op string) bool {
		method, path, _ := strings.Cut(op, " ")
		asked, err := http.NewRequest(method, path, http.NoBody)
		if err != nil {
			return false
		}
		_, pattern := routes.Handler(asked)
		return pattern == op
	}
	r.Control(routes, known, refuse)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.Settle()
		if strings.HasPrefix(req.URL.Path, ControlPrefix) {
			routes.ServeHTTP(w, req)
			return
		}
		// The whole body is read before anything waits: only then does net/http notice a client
		// who leaves.
		body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		_, pattern := routes.Handler(req)
		call := &Call{Op: pattern, Time: r.now(), Method: req.Method, URL: req.URL, Header: req.Header, Body: body}
		r.Enter(call, func(ctx context.Context, c *Call) (*Answer, error) {
			served := &Answer{Status: http.StatusOK, Header: http.Header{}}
			forwarded := req.Clone(ctx)
			forwarded.Body = io.NopCloser(bytes.NewReader(c.Body))
			routes.ServeHTTP(recorder{served}, forwarded)
			return served, nil
		})
		call.Meet(req.Context()).Write(w)
	})
}

// recorder is the http.ResponseWriter that makes an Answer.
type recorder struct{ answer *Answer }

func (r recorder) Header() http.Header { return r.answer.Header }

func (r recorder) WriteHeader(status int) { r.answer.Status = status }

func (r recorder) Write(body []byte) (int, error) {
	r.answer.Body = append(r.answer.Body, body...)
	return len(body), nil
}

// Control adds the control of the rules over HTTP to a fake's paths. Bodies are JSON; a duration is
// a string such as "1.5s".
//
//	POST   /_fake/faults               adds a rule, answers {"id"}
//	POST   /_fake/faults/{id}/release  see [Rules.Release]
//	DELETE /_fake/faults[/{id}]        see [Rules.ClearFaults], [Rules.RemoveFault]
//
// A rule is {"operation","about","skip","times"}, which are those of [Rule], and what happens, in
// this order: "before", a duration to wait, or "released" for [Hold]; "instead", an answer in place
// of carrying the request out, with "late", a duration or "released" for [Later], by itself after a
// dropped connection; "after", a duration to wait before the answer; and "then", what is made of
// the true answer. Answers have the members of [Answered].
func (r *Rules) Control(routes *http.ServeMux, known func(op string) bool, refuse Refusal) {
	routes.HandleFunc("POST "+ControlPrefix+"faults", func(w http.ResponseWriter, req *http.Request) {
		var in ruleBody
		if !ReadControl(w, req, &in) {
			return
		}
		rule, err := in.rule(known, refuse)
		if err != nil {
			controlAnswer(w, http.StatusBadRequest, "message", err.Error())
			return
		}
		controlAnswer(w, http.StatusOK, "id", r.Inject(rule))
	})
	routes.HandleFunc("DELETE "+ControlPrefix+"faults", func(w http.ResponseWriter, _ *http.Request) {
		r.ClearFaults()
		w.WriteHeader(http.StatusNoContent)
	})
	routes.HandleFunc("DELETE "+ControlPrefix+"faults/{id}", func(w http.ResponseWriter, req *http.Request) {
		found(w, r.RemoveFault(req.PathValue("id")))
	})
	routes.HandleFunc("POST "+ControlPrefix+"faults/{id}/release", func(w http.ResponseWriter, req *http.Request) {
		found(w, r.Release(req.PathValue("id")))
	})
}

func found(w http.ResponseWriter, ok bool) {
	if !ok {
		controlAnswer(w, http.StatusNotFound, "message", "no such fault")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// ReadControl decodes the body of a control request, and answers if it cannot. A member that does
// not exist is an error: it would be a fault that never happens.
func ReadControl(w http.ResponseWriter, req *http.Request, into any) bool {
	decoder := json.NewDecoder(req.Body)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err != nil {
		controlAnswer(w, http.StatusBadRequest, "message", err.Error())
	}
	return err == nil
}

func controlAnswer(w http.ResponseWriter, status int, name, text string) {
	respond.JSON(w, status, map[string]string{name: text})
}

// ruleBody is a Rule as JSON.
type ruleBody struct {
	Operation string    `json:"operation"`
	About     string    `json:"about"`
	Skip      int       `json:"skip"`
	Times     int       `json:"times"`
	Before    Duration  `json:"before"`
	Instead   *Answered `json:"instead"`
	Late      Duration  `json:"late"`
	After     Duration  `json:"after"`
	Then      *Answered `json:"then"`
}

// Answered says over HTTP what a client gets. The first of Drop, Body, and Status or Code that is
// set decides; with none of them it is the true answer, or an empty object where there is none. Set
// and Omit then change it, errors included: see [Reshape].
type Answered struct {
	// Drop closes the connection without any answer.
	Drop bool `json:"drop"`
	// Body is sent exactly as it is, with Status or else 200.
	Body string `json:"body"`
	// Status, from 400 on, and Code are those of a refusal. Zero and empty: those that belong
	// together.
	Status int    `json:"status"`
	Code   string `json:"code"`
	// RetryAfter is the Retry-After header. Empty: the third party's own.
	RetryAfter string         `json:"retry_after"`
	Set        map[string]any `json:"set"`
	Omit       []string       `json:"omit"`
}

func (in ruleBody) rule(known func(string) bool, refuse Refusal) (Rule, error) {
	if in.Operation != "" && !known(in.Operation) {
		return Rule{}, fmt.Errorf("no operation is called %q", in.Operation)
	}
	if in.Instead != nil && in.Then != nil {
		return Rule{}, errors.New("of instead and then only one can be: the request is carried out, or it is not")
	}
	f, err := in.fault(refuse)
	if err != nil {
		return Rule{}, err
	}
	if in.Late > 0 {
		f = Later(time.Duration(in.Late), f)
	}
	if in.After > 0 {
		f = After(For(time.Duration(in.After)), f)
	}
	switch {
	case time.Duration(in.Before) == UntilReleased:
		f = Hold(f)
	case in.Before > 0:
		f = Before(For(time.Duration(in.Before)), f)
	}
	return Rule{Op: in.Operation, About: in.About, Skip: in.Skip, Times: in.Times, Fault: f}, nil
}

// fault is what is answered; nil for the true answer.
func (in ruleBody) fault(refuse Refusal) (Fault, error) {
	switch {
	case in.Then != nil:
		f, err := in.Then.fault(refuse)
		if f != nil {
			f = Delivered(f)
		}
		return Reshape(f, in.Then.Set, in.Then.Omit...), err
	case in.Instead != nil:
		f, err := in.Instead.fault(refuse)
		if f == nil {
			f = RespondJSON(http.StatusOK, "{}")
		}
		return Reshape(f, in.Instead.Set, in.Instead.Omit...), err
	case in.Late > 0:
		return Drop(), nil
	}
	return nil, nil
}

// fault is the answer in place of the true one; nil if it is that one.
func (a Answered) fault(refuse Refusal) (Fault, error) {
	switch {
	case a.Drop:
		return Drop(), nil
	case a.Status != 0 && (a.Status < 200 || a.Status > 599 || a.Status < 400 && a.Body == ""):
		return nil, fmt.Errorf("%d is not the status of a refusal", a.Status)
	case a.Body != "":
		return a.retry(RespondJSON(cmp.Or(a.Status, http.StatusOK), a.Body)), nil
	case a.Status != 0 || a.Code != "":
		return a.retry(refuse(a.Status, a.Code)), nil
	}
	return nil, nil
}

func (a Answered) retry(f Fault) Fault {
	if a.RetryAfter == "" {
		return f
	}
	return func(ctx context.Context, c *Call) (*Answer, error) {
		answer, err := f(ctx, c)
		if answer != nil {
			answer.Header.Set("Retry-After", a.RetryAfter)
		}
		return answer, err
	}
}

// Duration is a time.Duration as text. [UntilReleased] is "released".
type Duration time.Duration

const releasedText = "released"

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) {
	if time.Duration(d) == UntilReleased {
		return []byte(releasedText), nil
	}
	return []byte(time.Duration(d).String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	if string(text) == releasedText {
		*d = Duration(UntilReleased)
		return nil
	}
	parsed, err := time.ParseDuration(string(text))
	*d = Duration(parsed)
	return err
}
