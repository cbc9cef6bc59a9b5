package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/gateway"
)

func TestADirectCallIsAnsweredByWhatItReturns(t *testing.T) {
	t.Parallel()
	got, err := gateway.Direct(func(_ context.Context, event []byte) (any, error) { return string(event), nil }).Invoke(t.Context(), []byte("x"))
	if err != nil || string(got) != `"x"` {
		t.Errorf("the answer is %s, %v", got, err)
	}
}

func TestADirectCallThatIsRefusedIsToldWhy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		answer string
	}{
		{credential.ErrAccountDeleted, `{"status":410,"detail":"The account has been deleted"}`},
		{credential.ErrNotFound, `{"status":404,"detail":"Credentials not found"}`},
		{credential.ErrNoProvider, `{"status":404,"detail":"No such provider is registered"}`},
		{credential.ErrNotUsable, `{"status":409,"detail":"The credential cannot be used now"}`},
		{&credential.ConflictError{Detail: "It is being worked on"}, `{"status":409,"detail":"It is being worked on"}`},
		{&credential.FieldError{Field: "user_id", Problem: "is required"}, `{"status":422,"detail":"user_id: is required"}`},
	} {
		for _, err := range []error{c.err, fmt.Errorf("doing something: %w", c.err)} {
			got, fault := gateway.Direct(func(context.Context, []byte) (any, error) { return "ignored", err }).Invoke(t.Context(), nil)
			if fault != nil || string(got) != c.answer {
				t.Errorf("%v: the answer is %s, %v", err, got, fault)
			}
		}
	}
}

func TestAFaultOfADirectCallIsAFunctionError(t *testing.T) {
	t.Parallel()
	// The last ones are for users alone: nobody who calls directly can mend them.
	for _, fault := range []error{errors.New("the table is down"), credential.ErrManaged, credential.ErrTooLarge} {
		got, err := gateway.Direct(func(context.Context, []byte) (any, error) { return nil, fault }).Invoke(t.Context(), nil)
		if got != nil || !errors.Is(err, fault) {
			t.Errorf("the answer is %s, %v", got, err)
		}
	}
}
