package functions_test

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/lambda"
	"managed-credentials/shared/local/stack"
	"managed-credentials/shared/provider/agentmail"
)

// hang lets a service answer nothing any more.
func hang(services ...*fault.Proxy) {
	for _, service := range services {
		service.SetHook(func(*fault.Call) fault.Fault { return fault.Before(fault.Until(nil), fault.Drop()) })
	}
}

// answered is an error if a function that is invoked directly does not come to an end by itself, be
// it with an error.
func (s *service) answered(function, event string) error {
	_, err := s.Host.Invoke(s.t.Context(), function, []byte(event))
	var failed *lambda.FunctionError
	if err != nil && (!errors.As(err, &failed) || failed.Type == lambda.TimedOut || failed.Type == lambda.ExitError) {
		return fmt.Errorf("%s %s: %w", function, event, err)
	}
	return nil
}

// request is one to the API, and how the function answers it while something hangs.
type request struct {
	method, path, body string
	status             int
}

// Each function has the time that the template gives it. What hangs from the first call on is the
// worst for it: the SDK repeats each call for as long as it may. All calls are made at once, since
// each of them takes its time.
func TestWhateverHangsEachFunctionAnswersBeforeLambdaEndsIt(t *testing.T) {
	t.Parallel()
	const (
		own      = "/github/credentials/{id}" // alice's own credential
		material = `{"type":"api_key","api_key":"x"}`
		resolve  = `{"user_id":"` + alice + `","provider":"` + agentmail.Name + `"}`
		deletion = `{"user_id":"` + alice + `"}`
	)
	var all sync.WaitGroup
	for name, c := range map[string]struct {
		hangs    func(*stack.Faults) *fault.Proxy
		requests []request
		direct   map[string]string
	}{
		"DynamoDB": {
			hangs: func(f *stack.Faults) *fault.Proxy { return f.DynamoDB },
			requests: []request{
				{"GET", "/credentials", "", 503}, {"GET", own, "", 503}, {"POST", "/github/credentials", material, 503},
				{"PUT", own, `{"title":"x"}`, 503}, {"DELETE", own, "", 503}, {"DELETE", "/account", "", 503},
			},
			direct: map[string]string{"user-cleanup": deletion, "resolve-credential": resolve},
		},
		"KMS": {
			hangs:    func(f *stack.Faults) *fault.Proxy { return f.KMS },
			requests: []request{{"GET", "/credentials", "", 200}, {"POST", "/github/credentials", material, 503}, {"PUT", own, `{"api_key":"x"}`, 503}},
			direct:   map[string]string{"resolve-credential": resolve},
		},
		"Secrets Manager": {
			hangs:    func(f *stack.Faults) *fault.Proxy { return f.SecretsManager },
			requests: []request{{"GET", "/credentials", "", 200}},
			direct:   map[string]string{"user-cleanup": deletion},
		},
		"AgentMail": {
			hangs:    func(f *stack.Faults) *fault.Proxy { return f.AgentMail },
			requests: []request{{"GET", "/credentials", "", 200}},
			direct:   map[string]string{"user-cleanup": deletion},
		},
		"Cognito": {
			hangs:    func(f *stack.Faults) *fault.Proxy { return f.Cognito },
			requests: []request{{"DELETE", "/account", "", 202}},
		},
	} {
		s := start(t, nil)
		s.list(s.token(alice))
		id := s.create(s.token(alice), "github", material).ID
		tokens := map[int]string{http.StatusOK: s.token(bob)} // a list of somebody for whom there is something to make
		hang(c.hangs(s.Faults))
		for _, r := range c.requests {
			token, ok := tokens[r.status]
			if !ok {
				token = s.token(alice)
			}
			if r.path == own {
				r.path = "/github/credentials/" + id
			}
			all.Go(func() {
				a, err := s.send(r.method, r.path, token, r.body)
				if err != nil || a.status != r.status || a.status == 503 && a.header.Get("Retry-After") == "" {
					t.Errorf("%s hangs, and %s %s is answered with %d %s, %v", name, r.method, r.path, a.status, a.body, err)
				}
			})
		}
		for function, event := range c.direct {
			all.Go(func() {
				err := s.answered(function, event)
				if err != nil {
					t.Errorf("%s hangs: %v", name, err)
				}
			})
		}
	}
	all.Wait()
}

// With less time than the template gives them the functions end by their context, and by nothing
// else. The lease is short, or reconcile would not begin.
func TestAFunctionGivesUpBeforeLambdaEndsIt(t *testing.T) {
	t.Parallel()
	s := startWith(t, stack.Config{Timeout: 8 * time.Second, Env: map[string]string{"LEASE": "4s", "PROVISION_BUDGET": "1s"}})
	hang(s.Faults.DynamoDB)
	var all sync.WaitGroup
	for function, event := range map[string]string{
		"reconcile":          `{}`,
		"user-cleanup":       `{"user_id":"` + alice + `"}`,
		"resolve-credential": `{"user_id":"` + alice + `","provider":"` + agentmail.Name + `"}`,
		"operate":            `{"command":"force","user_id":"` + alice + `","provider":"agent_mail","by":"me","reason":"a test"}`,
	} {
		all.Go(func() {
			err := s.answered(function, event)
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
