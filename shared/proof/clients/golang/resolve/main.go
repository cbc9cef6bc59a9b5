// Command resolve is an executor in Go: resolve <user> <provider> [<attempt that was rejected>].
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
)

// credential is a managed API key. Attempt says which one, for a report.
type credential struct {
	APIKey  string `json:"api_key"`
	Attempt int64  `json:"attempt"`
}

// refused is the service's own answer: to ask again at once does not help.
type refused struct {
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

func (r refused) Error() string { return fmt.Sprintf("%d: %s", r.Status, r.Detail) }

// invoke returns what resolve-credential answers. A failed invocation is safe to repeat.
func invoke(ctx context.Context, functions *lambda.Client, request map[string]any) ([]byte, error) {
	payload, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	for _, pause := range []time.Duration{200 * time.Millisecond, time.Second, 5 * time.Second, 0} {
		answer, err := functions.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String("resolve-credential"), Payload: payload})
		if err != nil {
			return nil, err
		}
		if answer.FunctionError == nil {
			return answer.Payload, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
	return nil, fmt.Errorf("resolve-credential fails")
}

// resolve returns the user's managed key at a provider.
func resolve(ctx context.Context, functions *lambda.Client, user, provider string) (credential, error) {
	said, err := invoke(ctx, functions, map[string]any{"user_id": user, "provider": provider})
	if err != nil {
		return credential{}, err
	}
	var no refused
	err = json.Unmarshal(said, &no)
	if err != nil || no.Status != 0 {
		return credential{}, no
	}
	var c credential
	err = json.Unmarshal(said, &c)
	return c, err
}

// report says that the third party has refused the managed key of this attempt. 202: it is being
// checked, resolve again in a minute. 409: it has been replaced, resolve again now. 429: it was
// reported before, and works by all that the service knows.
func report(ctx context.Context, functions *lambda.Client, user, provider string, attempt int64) (int, error) {
	said, err := invoke(ctx, functions, map[string]any{"user_id": user, "provider": provider, "rejected_attempt": attempt})
	if err != nil {
		return 0, err
	}
	var answer refused
	err = json.Unmarshal(said, &answer)
	return answer.Status, err
}

func main() {
	ctx := context.Background()
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRetryMaxAttempts(4))
	check(err)
	functions := lambda.NewFromConfig(cfg)
	if len(os.Args) == 4 {
		attempt, err := strconv.ParseInt(os.Args[3], 10, 64)
		check(err)
		status, err := report(ctx, functions, os.Args[1], os.Args[2], attempt)
		check(err)
		fmt.Println(status)
		return
	}
	c, err := resolve(ctx, functions, os.Args[1], os.Args[2])
	check(err)
	fmt.Println(c.APIKey, c.Attempt)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
