package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/gateway"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/telemetry"
	"managed-credentials/shared/userpool"
)

// function is user-cleanup.
type function struct {
	engine *managed.Engine
	// pool is the user pool, and poolID its id; nil and "" if there is none.
	pool    *userpool.Pool
	poolID  string
	log     *slog.Logger
	metrics *telemetry.Metrics
	// http answers API Gateway.
	http *gateway.Handler
}

// httpTime is how long a request may take: API Gateway itself gives up after 30 s.
const httpTime = 20 * time.Second

// event is each of the events that the function takes, told apart by what they have.
type event struct {
	// API Gateway
	RouteKey string `json:"routeKey"`

	// EventBridge, a CloudTrail event
	DetailType string      `json:"detail-type"`
	Detail     *cloudTrail `json:"detail"`

	// the shape of a Cognito trigger
	TriggerSource string `json:"triggerSource"`
	UserPoolID    string `json:"userPoolId"`
	UserName      string `json:"userName"`
	Request       struct {
		UserAttributes struct {
			Sub string `json:"sub"`
		} `json:"userAttributes"`
	} `json:"request"`

	// a direct call
	UserID *string `json:"user_id"`
}

// cloudTrail is a Cognito call as CloudTrail records it. The record of these calls is not
// published: every place is optional.
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
	// Known says whether the table knew anything of the user, be it that they were deleted before.
	// nil where nobody is asked for.
	Known *bool `json:"known,omitempty"`
	// Disabled says whether the user is disabled in the user pool. nil where nobody looked.
	Disabled *bool `json:"disabled,omitempty"`
}

type pending struct {
	Provider string               `json:"provider"`
	State    managed.PendingState `json:"state"`
	// RetryAt is in Unix seconds.
	RetryAt int64 `json:"retry_at"`
}

// errUnidentified: the event names nobody whose account could be deleted or looked at. It goes to
// the dead-letter queue, for an operator to look at.
var errUnidentified = errors.New("the event does not say whose account it is about")

// Invoke implements lambda.Handler. An error of it is retried by whoever sent the event, and then
// goes to the dead-letter queue.
func (f *function) Invoke(ctx context.Context, raw []byte) ([]byte, error) {
	var e event
	err := credential.Decode("event", raw, &e)
	if err != nil {
		return nil, fmt.Errorf("reading the event: %w", err)
	}
	if e.RouteKey != "" {
		return f.http.Invoke(ctx, raw)
	}
	answer, err := f.handle(ctx, e)
	if err != nil {
		return nil, err
	}
	if e.TriggerSource != "" {
		return answered(raw, answer)
	}
	return json.Marshal(answer)
}

// answered is the event of a trigger with its response filled, as a trigger has to return it
// (https://docs.aws.amazon.com/cognito/latest/developerguide/cognito-user-pools-working-with-lambda-triggers.html).
func answered(raw []byte, answer result) ([]byte, error) {
	all, err := credential.ReadObject("event", raw)
	if err != nil {
		return nil, err
	}
	all["response"], err = json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	return json.Marshal(all)
}

// deleteAccount answers a user's own request, and has their Cognito user removed.
func (f *function) deleteAccount(ctx context.Context, r gateway.Request) (gateway.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, httpTime)
	defer cancel()
	left, _, err := f.engine.DeleteAccount(ctx, r.User, r.Username)
	if err != nil {
		return gateway.Response{}, err
	}
	if len(left) == 0 {
		return gateway.Response{Status: http.StatusNoContent}, nil
	}
	return gateway.Response{Status: http.StatusAccepted, Body: result{Pending: listed(left)}}, nil
}

func (f *function) handle(ctx context.Context, e event) (result, error) {
	if e.Detail != nil && e.Detail.switches() {
		return f.followPool(ctx, *e.Detail)
	}
	user, ignored, err := f.identify(ctx, e)
	if err != nil {
		return result{}, err
	}
	if ignored != "" {
		return f.ignore(ctx, ignored), nil
	}
	left, known, err := f.engine.DeleteAccount(ctx, user, "")
	if err != nil {
		return result{}, err
	}
	if !known && e.UserID != nil {
		f.metrics.Count(telemetry.DeletionsOfUnknown, "", 1)
		f.log.WarnContext(ctx, "an account was deleted that the table did not know: compare the user id with the user's sub", "user", user)
	}
	return result{Pending: listed(left), Known: &known}, nil
}

func (f *function) ignore(ctx context.Context, reason string) result {
	f.log.InfoContext(ctx, "the event is ignored", "reason", reason)
	return result{Ignored: reason, Pending: []pending{}}
}

// followPool has the user suspended, or not, as the user pool says now. The event only says whose
// state may have changed.
func (f *function) followPool(ctx context.Context, trail cloudTrail) (result, error) {
	ignored := f.ignores(trail)
	if ignored != "" {
		return f.ignore(ctx, ignored), nil
	}
	user, err := f.switched(ctx, trail)
	if err != nil {
		return result{}, err
	}
	if user == "" {
		return f.ignore(ctx, "there is no such user"), nil
	}
	disabled, err := f.engine.FollowPool(ctx, user)
	if errors.Is(err, managed.ErrSuspensionOff) {
		return f.ignore(ctx, "suspension is off"), nil
	}
	if err != nil {
		return result{}, err
	}
	return result{Pending: []pending{}, Disabled: &disabled}, nil
}

// switched is the user who was disabled or enabled; "" if there is none any more. It goes by the
// sub, and where the record has none by whoever has that name or sub now: nothing is written of
// anybody but what the pool says of them.
func (f *function) switched(ctx context.Context, trail cloudTrail) (string, error) {
	if trail.AdditionalEventData.Sub != "" {
		return byID(trail.AdditionalEventData.Sub)
	}
	name := trail.RequestParameters.Username
	if name == "" || name == hidden {
		return "", errUnidentified
	}
	sub, err := f.pool.Sub(ctx, name)
	if err != nil || sub == "" {
		return "", err
	}
	return byID(sub)
}

// identify says whose account to delete, or why the event is to be ignored.
func (f *function) identify(ctx context.Context, e event) (user, ignored string, err error) {
	switch {
	case e.Detail != nil:
		return f.identifyByTrail(ctx, *e.Detail)
	case e.TriggerSource != "":
		if e.TriggerSource != "AccountDeletion" && !strings.HasPrefix(e.TriggerSource, "PostDelete") {
			return "", "", fmt.Errorf("the trigger %q does not delete an account: AccountDeletion does, and whatever begins with PostDelete", e.TriggerSource)
		}
		if f.isOtherPool(e.UserPoolID) {
			return "", "another user pool", nil
		}
		sub := e.Request.UserAttributes.Sub
		if sub == "" {
			user, err = f.byFreeName(ctx, e.UserName)
			return user, "", err
		}
		user, err = byID(sub)
		return user, "", err
	case e.UserID != nil:
		user, err = byID(*e.UserID)
		return user, "", err
	default:
		return "", "", errUnidentified
	}
}

// byFreeName is the user whose name, in a trigger without a sub, has a sub's form. Whoever has that
// name now may have named themselves after another user's sub.
func (f *function) byFreeName(ctx context.Context, name string) (string, error) {
	user, err := bySub(name)
	if err != nil || f.pool == nil {
		return user, err
	}
	exists, err := f.pool.Exists(ctx, name)
	if err != nil {
		return "", err
	}
	if exists {
		return "", errUnidentified
	}
	return user, nil
}

// byID is the user with that id.
func byID(id string) (string, error) {
	user, err := credential.UserID(id)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errUnidentified, err)
	}
	if user == hidden {
		return "", errUnidentified
	}
	return user, nil
}

// bySub is the user with that name, if it has the form of a sub: in a pool whose users sign in by
// an address, the name is the sub. Any other name is nobody's id, and a deletion by it would be
// called done.
func bySub(name string) (string, error) {
	user, err := credential.UserID(name)
	if err != nil || !credential.IsSub(user) {
		return "", errUnidentified
	}
	return user, nil
}

// identifyByTrail goes by the sub. Only where the record has none does it go by the username, if
// that has a sub's form, and only if nobody has that name or sub now: else somebody who named
// themselves after another user's sub could have that user's account deleted.
func (f *function) identifyByTrail(ctx context.Context, trail cloudTrail) (user, ignored string, err error) {
	additional, ignored := trail.AdditionalEventData, f.ignores(trail)
	switch {
	case trail.EventSource != cognito, trail.EventName != "AdminDeleteUser" && trail.EventName != "DeleteUser":
		return "", "", fmt.Errorf("the call %s of %s neither deletes an account nor disables or enables its user", trail.EventName, trail.EventSource)
	case ignored != "":
		return "", ignored, nil
	case additional.Sub != "":
		user, err = byID(additional.Sub)
		return user, "", err
	}
	user, err = bySub(trail.RequestParameters.Username)
	if err != nil {
		return "", "", err
	}
	exists, err := f.pool.Exists(ctx, user)
	if err != nil {
		return "", "", err
	}
	if exists {
		return "", "", errUnidentified
	}
	return user, "", nil
}

const cognito = "cognito-idp.amazonaws.com"

// switches reports whether the call disables or enables a user.
func (c cloudTrail) switches() bool {
	return c.EventSource == cognito && (c.EventName == "AdminDisableUser" || c.EventName == "AdminEnableUser")
}

// ignores says why a call is to be ignored, whoever it is about; "" if it is not.
func (f *function) ignores(trail cloudTrail) string {
	switch {
	case trail.ErrorCode != "":
		return "the call was refused"
	case f.isOtherPool(trail.RequestParameters.UserPoolID), f.isOtherPool(trail.AdditionalEventData.UserPoolID):
		return "another user pool"
	case f.pool == nil:
		// Somebody else's pool, then: its subs say nothing about the users here.
		return "there is no user pool"
	default:
		return ""
	}
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
