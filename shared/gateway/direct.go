package gateway

import (
	"context"
	"encoding/json"
)

// Direct answers calls that are made directly, under IAM, in place of API Gateway: an event in, an
// answer out. What is refused is an answer, too, a [Status]; to repeat the call would not help. A
// fault is a function error. It implements lambda.Handler.
type Direct func(ctx context.Context, event []byte) (any, error)

// Status is the answer to a direct call that is not granted, with an HTTP status that says why, or
// that has nothing else to say.
type Status struct {
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

// Invoke implements lambda.Handler.
func (d Direct) Invoke(ctx context.Context, event []byte) ([]byte, error) {
	answer, err := d(ctx, event)
	if err != nil {
		told, ok := refused(err, direct)
		if !ok {
			return nil, err
		}
		answer = told
	}
	return json.Marshal(answer)
}
