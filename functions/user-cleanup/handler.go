package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/gateway"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/store"
	"managed-credentials/shared/userpool"
)

// function is user-cleanup.
type function struct {
	engine *managed.Engine
	// pool is the user pool, and poolID its id; nil and "" if there is none.
	pool   *userpool.Pool
	poolID string
	log    *slog.Logger
}

// httpTime is how long a request may take: API Gateway itself gives up after 30 s.
const httpTime = 20 * time.Second

// event is each of the four events that the function takes, told apart by what they have.
type event struct {
	// API Gateway
	RouteKey string `json:"routeKey"`

	// EventBridge, a CloudTrail event
	DetailType string      `json:"detail-type"`
	Detail     *cloudTrail `json:"detail"`

	// the shape of a Cognito trigger
	TriggerSource string `json:"triggerSource"`
	UserPoolID    string `json:"userPoolId"`
	Request       struct {
		UserAttributes struct {
			Sub string `json:"sub"`
		} `json:"userAttributes"`
	} `json:"request"`

	// a direct call
	UserID *string `json:"user_id"`
}

// cloudTrail is a Cognito call as CloudTrail records it. The record of these two calls is not published: every place is optional.
type cloudTrail struct {
	EventSource       string `json:"eventSource"`
	EventName         string `json:"eventName"`
	ErrorCode         string `json:"errorCode"`
	RequestParameters struct {
		UserPoolID string `json:"userPoolId"`
		Username   string `json:"username"`
	} `json:"requestParameters"`
	AdditionalEventData struct {
		UserPoolID string `json:"userPoolId"`
		Sub        string `json:"sub"`
	} `json:"additionalEventData"`
}

// result is the answer to everything but API Gateway.
type result struct {
	// Ignored says why an event that names another pool, or a refused call, led to nothing.
	Ignored string `json:"ignored,omitempty"`
	// Pending is what is still to be revoked; reconcile goes on with it.
	Pending []pending `json:"pending"`
}

type pending struct {
	Provider string      `json:"provider"`
	State    store.State `json:"state"`
	// RetryAt is in Unix seconds.
	RetryAt int64 `json:"retry_at"`
}

// errUnidentified: the event names nobody whose account could be deleted. It goes to the dead-letter queue, for an operator to look at.
var errUnidentified = errors.New("the event does not say whose account to delete")

// Invoke implements lambda.Handler. An error of it is retried by whoever sent the event, and then goes to the dead-letter queue.
func (f *function) Invoke(ctx context.Context, raw []byte) ([]byte, error) {
	var e event
	err := json.Unmarshal(raw, &e)
	if err != nil {
		return nil, fmt.Errorf("reading the event: %w", err)
	}
	if e.RouteKey != "" {
		return gateway.NewHandler(f.log, map[string]gateway.Route{"DELETE /account": f.deleteAccount}).Invoke(ctx, raw)
	}
	answer, err := f.handle(ctx, e)
	if err != nil {
		return nil, err
	}
	return json.Marshal(answer)
}

// deleteAccount answers a user's own request, and has their Cognito user removed.
func (f *function) deleteAccount(ctx context.Context, r gateway.Request) (gateway.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, httpTime)
	defer cancel()
	left, err := f.engine.DeleteAccount(ctx, r.User, r.Username)
	if err != nil {
		return gateway.Response{}, err
	}
	if len(left) == 0 {
		return gateway.Response{Status: http.StatusNoContent}, nil
	}
	return gateway.Response{Status: http.StatusAccepted, Body: result{Pending: listed(left)}}, nil
}

func (f *function) handle(ctx context.Context, e event) (result, error) {
	user, ignored, err := f.identify(ctx, e)
	if err != nil {
		return result{}, err
	}
	if ignored != "" {
		f.log.InfoContext(ctx, "the event is ignored", "reason", ignored)
		return result{Ignored: ignored, Pending: []pending{}}, nil
	}
	if !credential.ValidUserID(user) || user == hidden {
		return result{}, errUnidentified
	}
	left, err := f.engine.DeleteAccount(ctx, user, "")
	if err != nil {
		return result{}, err
	}
	return result{Pending: listed(left)}, nil
}

// identify says whose account to delete, or why the event is to be ignored.
func (f *function) identify(ctx context.Context, e event) (user, ignored string, err error) {
	switch {
	case e.Detail != nil:
		return f.identifyByTrail(ctx, *e.Detail)
	case e.TriggerSource != "":
		if e.TriggerSource != "AccountDeletion" {
			return "", "", fmt.Errorf("the trigger %q deletes no account: only AccountDeletion does", e.TriggerSource)
		}
		if f.isOtherPool(e.UserPoolID) {
			return "", "another user pool", nil
		}
		return e.Request.UserAttributes.Sub, "", nil
	case e.UserID != nil:
		return *e.UserID, "", nil
	default:
		return "", "", errUnidentified
	}
}

// identifyByTrail goes by the sub. Only where the record has none does it go by the username, and only if nobody has that name now:
// else somebody who named themselves after another user's sub could have that user's account deleted.
func (f *function) identifyByTrail(ctx context.Context, trail cloudTrail) (user, ignored string, err error) {
	parameters, additional := trail.RequestParameters, trail.AdditionalEventData
	switch {
	case trail.EventSource != "cognito-idp.amazonaws.com", trail.EventName != "AdminDeleteUser" && trail.EventName != "DeleteUser":
		return "", "", fmt.Errorf("the call %s of %s deletes no account", trail.EventName, trail.EventSource)
	case trail.ErrorCode != "":
		return "", "the call was refused", nil
	case f.isOtherPool(parameters.UserPoolID), f.isOtherPool(additional.UserPoolID):
		return "", "another user pool", nil
	case additional.Sub != "":
		return additional.Sub, "", nil
	case parameters.Username == "" || parameters.Username == hidden || f.pool == nil:
		return "", "", errUnidentified
	}
	exists, err := f.pool.Exists(ctx, parameters.Username)
	if err != nil {
		return "", "", err
	}
	if exists {
		return "", "", errUnidentified
	}
	return parameters.Username, "", nil
}

// hidden is what CloudTrail writes for a username that may be an address. It is nobody's id.
const hidden = "HIDDEN_DUE_TO_SECURITY_REASONS"

// isOtherPool reports whether an event's pool is known and not ours.
func (f *function) isOtherPool(id string) bool { return id != "" && f.poolID != "" && id != f.poolID }

func listed(left []managed.Pending) []pending {
	all := make([]pending, len(left))
	for i, p := range left {
		all[i] = pending{p.Provider, p.State, p.RetryAt.Unix()}
	}
	return all
}
