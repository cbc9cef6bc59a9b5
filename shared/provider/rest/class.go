package rest

import (
	"errors"
	"net/http"
	"slices"

	"managed-credentials/shared/managed"
)

// Outcome says what is known of a create that ended with err. An answer that is not what the API
// promises says nothing.
func Outcome(err error) managed.Outcome {
	var refusal *Refusal
	switch {
	case err == nil, errors.Is(err, ErrNotSent):
		return managed.Known
	case errors.As(err, &refusal) && refusal.Status >= 400 && refusal.Status < 500 && refusal.Status != http.StatusRequestTimeout:
		return managed.Known
	default:
		return managed.Unknown
	}
}

// IsGone reports whether what a call was about was not found. An error that has its class says more
// than that.
func IsGone(err error) bool {
	var classed *managed.Error
	var refusal *Refusal
	return !errors.As(err, &classed) && errors.As(err, &refusal) && refusal.Status == http.StatusNotFound
}

// Classify gives an error its class, unless it has one: what the provider's Explain says of it, or
// what its status does.
func Classify(err error) error {
	var classed *managed.Error
	var refusal *Refusal
	if err == nil || errors.As(err, &classed) {
		return err
	}
	if !errors.As(err, &refusal) {
		return &managed.Error{Class: managed.Transient, Err: err}
	}
	return &managed.Error{Class: refusal.class(), RetryAfter: refusal.RetryAfter, Err: err}
}

func (e *Refusal) class() managed.Class {
	if e.Class != "" {
		return e.Class
	}
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return managed.Rejected
	case http.StatusPaymentRequired:
		return managed.Quota
	case http.StatusTooManyRequests:
		return managed.RateLimited
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return managed.Permanent
	default:
		return managed.Transient
	}
}

// urgency is in which order errors of several classes decide about a pass: first what an operator
// has to see, then what a repeat can mend.
var urgency = []managed.Class{
	managed.Rejected, managed.Foreign, managed.Mismatch, managed.RateLimited, managed.Transient, managed.Quota, managed.Permanent, managed.NotYet,
}

// Worst is the error that decides about a pass in which several things went wrong, of which there
// is at least one.
func Worst(errs []*managed.Error) *managed.Error {
	return slices.MinFunc(errs, func(a, b *managed.Error) int {
		return slices.Index(urgency, a.Class) - slices.Index(urgency, b.Class)
	})
}
