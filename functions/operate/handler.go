package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
)

// function is operate.
type function struct {
	engine *managed.Engine
	queue  deadLetters
}

// request is the event. Which fields a command takes is said at the commands.
type request struct {
	Command  string `json:"command"`
	Provider string `json:"provider"`
	UserID   string `json:"user_id"`
	All      bool   `json:"all"`
	Cursor   string `json:"cursor"`
	Repair   int    `json:"repair"`
	By       string `json:"by"`
	Reason   string `json:"reason"`
	// Organization is for accept_organization.
	Organization string `json:"organization"`
	// Overlap is for rotate and rotate_all, a duration such as 8h.
	Overlap string `json:"overlap"`
}

// commands are by name.
var commands = map[string]func(*function, context.Context, request) (any, error){
	"audit": (*function).audit,
	// what the schedule asks for
	"audit_due": (*function).auditDue,
	"parked":    (*function).parked,
	"force":     (*function).force,
	"redrive":   (*function).redrive,
	// what a deletion holds back goes at once
	"end_holdback": (*function).endHoldback,
	"retry":        (*function).retry,
	// which deployment this is, and in which organisations it makes things
	"providers":           (*function).providers,
	"accept_organization": (*function).acceptOrganization,
	// another key for a user
	"rotate": (*function).rotate,
	// another key for all users of a provider
	"rotate_all":   (*function).rotateAll,
	"end_rotation": (*function).endRotation,
	"rotations":    (*function).rotations,
	// what all users have at a provider is removed
	"drain":     (*function).drain,
	"end_drain": (*function).endDrain,
	// a user who is disabled and not deleted
	"suspend": (*function).suspend,
	"enable":  (*function).enable,
}

func (f *function) run(ctx context.Context, event []byte) (any, error) {
	var r request
	err := credential.Decode("event", event, &r)
	var field *credential.FieldError
	if errors.As(err, &field) && field.Field == "repair" {
		return nil, errRepair
	}
	if err != nil {
		return nil, err
	}
	command, ok := commands[r.Command]
	if !ok {
		return nil, &credential.FieldError{Field: "command", Problem: "must be one of audit, audit_due, parked, force, redrive, end_holdback, retry, providers, accept_organization, rotate, rotate_all, end_rotation, rotations, drain, end_drain, suspend, enable"}
	}
	return command(f, ctx, r)
}

// errRepair refuses a repair that says no number.
var errRepair = &credential.FieldError{Field: "repair", Problem: "must be a number: how many findings may be repaired at most"}

// audit compares what the third party lists with the table:
// {"command":"audit","provider":"agent_mail"}. It changes nothing without "repair":N, which has at
// most N findings repaired, and wants "by", too. Where the report has a "next", the audit goes on
// with that as "cursor".
func (f *function) audit(ctx context.Context, r request) (any, error) {
	if r.Provider == "" {
		return nil, &credential.FieldError{Field: "provider", Problem: "is required: one of those that the command providers shows"}
	}
	if r.Repair < 0 {
		return nil, errRepair
	}
	if r.Repair > 0 && r.By == "" {
		return nil, &credential.FieldError{Field: "by", Problem: "is required for a repair: who asks for it"}
	}
	return f.engine.Audit(ctx, managed.AuditRequest{Provider: r.Provider, Cursor: r.Cursor, Repair: r.Repair, By: r.By})
}

// auditDue goes on with the audits that are due, with the rotations of all keys and the drainings
// that are under way, and with the walks for keys that are too old, and shows where they stand:
// {"command":"audit_due"}. The schedule asks for it every few minutes; whoever does beside it does
// no harm.
func (f *function) auditDue(ctx context.Context, _ request) (any, error) {
	var audits []managed.ScheduledAudit
	var auditErr error
	var drainings []managed.DrainStatus
	var drainErr error
	var others sync.WaitGroup
	others.Go(func() { audits, auditErr = f.engine.AuditsDue(ctx) })
	others.Go(func() { drainings, drainErr = f.engine.DrainsDue(ctx) })
	rotations, err := f.engine.RotationsDue(ctx)
	others.Wait()
	err = errors.Join(auditErr, drainErr, err)
	if err != nil {
		return nil, err
	}
	return struct {
		Audits    []managed.ScheduledAudit `json:"audits"`
		Rotations []managed.RotationStatus `json:"rotations"`
		Drainings []managed.DrainStatus    `json:"drainings"`
	}{audits, rotations, drainings}, nil
}

// parked lists the revocations that are parked: {"command":"parked"}.
func (f *function) parked(ctx context.Context, _ request) (any, error) {
	all, more, err := f.engine.Parked(ctx)
	if err != nil {
		return nil, err
	}
	return struct {
		Parked []managed.ParkedRevocation `json:"parked"`
		More   bool                       `json:"more"`
	}{append([]managed.ParkedRevocation{}, all...), more}, nil
}

// force declares a parked revocation done:
// {"command":"force","user_id":"…","provider":"…","by":"…","reason":"…"}.
func (f *function) force(ctx context.Context, r request) (any, error) {
	user, err := credential.UserID(r.UserID)
	if err != nil {
		return nil, err
	}
	if !credential.ValidProvider(r.Provider) {
		return nil, errProvider
	}
	err = r.named()
	if err != nil {
		return nil, err
	}
	err = f.engine.Force(ctx, user, r.Provider, r.order())
	if err != nil {
		return nil, err
	}
	return struct {
		Forced bool `json:"forced"`
	}{true}, nil
}

// endHoldback has what a deletion holds back go at once, of one user or, with "all":true, of all;
// of one provider, if it is named: {"command":"end_holdback","user_id":"…","by":"…","reason":"…"}.
func (f *function) endHoldback(ctx context.Context, r request) (any, error) {
	ask := managed.HoldbackRequest{Provider: r.Provider, Order: r.order()}
	switch {
	case r.All == (r.UserID != ""):
		return nil, &credential.FieldError{Field: "user_id", Problem: "is required, unless \"all\" is true"}
	case r.Provider != "" && !credential.ValidProvider(r.Provider):
		return nil, errProvider
	}
	if r.UserID != "" {
		user, err := credential.UserID(r.UserID)
		if err != nil {
			return nil, err
		}
		ask.User = user
	}
	err := r.named()
	if err != nil {
		return nil, err
	}
	ended, more, err := f.engine.EndHoldback(ctx, ask)
	if err != nil {
		return nil, err
	}
	return struct {
		Ended int  `json:"ended"`
		More  bool `json:"more"`
	}{ended, more}, nil
}

// named refuses a request that does not say who asks for it, and why.
func (r request) named() error {
	for _, field := range []struct{ name, value string }{{"by", r.By}, {"reason", r.Reason}} {
		if field.value == "" {
			return &credential.FieldError{Field: field.name, Problem: "is required"}
		}
	}
	return nil
}

// order is who asks for it, and why.
func (r request) order() managed.Order { return managed.Order{By: r.By, Reason: r.Reason} }

// redrive sends the account deletions that failed for good on their way again:
// {"command":"redrive"}.
func (f *function) redrive(ctx context.Context, _ request) (any, error) { return f.queue.redrive(ctx) }

// retry makes due at once what waits for a later try: {"command":"retry","by":"…"}, of one user
// with "user_id", at one provider with "provider".
func (f *function) retry(ctx context.Context, r request) (any, error) {
	if r.By == "" {
		return nil, &credential.FieldError{Field: "by", Problem: "is required"}
	}
	user := r.UserID
	if user != "" {
		var err error
		user, err = credential.UserID(user)
		if err != nil {
			return nil, err
		}
	}
	retried, more, err := f.engine.Retry(ctx, managed.RetryRequest{Provider: r.Provider, User: user, By: r.By})
	if err != nil {
		return nil, err
	}
	return struct {
		Retried int  `json:"retried"`
		More    bool `json:"more"`
	}{retried, more}, nil
}

// providers shows how each provider stands: its mode, its org key and whose that is, this
// deployment's id and the organisation in which it makes things, the slots by state, the work that
// is left, the last failure, and where the scheduled audits stand: {"command":"providers"}. With
// "more" not all of the work was counted.
func (f *function) providers(ctx context.Context, _ request) (any, error) {
	all, more, err := f.engine.ProviderStatuses(ctx)
	if err != nil {
		return nil, err
	}
	return struct {
		Providers []managed.ProviderStatus `json:"providers"`
		More      bool                     `json:"more"`
	}{all, more}, nil
}

// acceptOrganization has things made in the organisation that the org key is of now:
// {"command":"accept_organization","provider":"…","organization":"…","by":"…","reason":"…"}.
func (f *function) acceptOrganization(ctx context.Context, r request) (any, error) {
	if r.Organization == "" {
		return nil, &credential.FieldError{Field: "organization", Problem: "is required: the key_organization that providers shows"}
	}
	err := r.named()
	if err != nil {
		return nil, err
	}
	err = f.engine.AcceptOrganization(ctx, r.Provider, r.Organization, r.order())
	if err != nil {
		return nil, err
	}
	return struct {
		Accepted bool `json:"accepted"`
	}{true}, nil
}

// rotate has another key made for a user, under the same id. The one that they have serves on for
// the overlap, a day if none is given; 0s ends it as soon as the new one is there:
// {"command":"rotate","user_id":"…","provider":"…","overlap":"8h","by":"…","reason":"…"}.
func (f *function) rotate(ctx context.Context, r request) (any, error) {
	user, err := credential.UserID(r.UserID)
	if err != nil {
		return nil, err
	}
	if !credential.ValidProvider(r.Provider) {
		return nil, errProvider
	}
	overlap, err := r.overlap()
	if err != nil {
		return nil, err
	}
	err = r.named()
	if err != nil {
		return nil, err
	}
	err = f.engine.Rotate(ctx, managed.Rotation{User: user, Provider: r.Provider, Overlap: overlap, Order: r.order()})
	if err != nil {
		return nil, err
	}
	return struct {
		Rotating bool `json:"rotating"`
	}{true}, nil
}

// overlap is for how long a replaced key is to serve on.
func (r request) overlap() (time.Duration, error) {
	if r.Overlap == "" {
		return managed.DefaultOverlap, nil
	}
	overlap, err := time.ParseDuration(r.Overlap)
	if err != nil || overlap < 0 || overlap > managed.LongestOverlap {
		return 0, &credential.FieldError{Field: "overlap", Problem: "must be a duration from 0s to 720h, such as 8h or 30m"}
	}
	return overlap, nil
}

// rotateAll has all keys of a provider replaced that users have now, as rotate does with one:
// {"command":"rotate_all","provider":"…","overlap":"0s","by":"…","reason":"…"}. The schedule goes
// on with it; one at a time. It shows where that stands.
func (f *function) rotateAll(ctx context.Context, r request) (any, error) {
	if !credential.ValidProvider(r.Provider) {
		return nil, errProvider
	}
	overlap, err := r.overlap()
	if err != nil {
		return nil, err
	}
	err = r.named()
	if err != nil {
		return nil, err
	}
	return f.engine.RotateAll(ctx, managed.RotationOfAll{Provider: r.Provider, Overlap: overlap, Order: r.order()})
}

// endRotation ends the replacing of all keys of a provider before its time; what was asked for is
// done: {"command":"end_rotation","provider":"…","by":"…","reason":"…"}.
func (f *function) endRotation(ctx context.Context, r request) (any, error) {
	if !credential.ValidProvider(r.Provider) {
		return nil, errProvider
	}
	err := r.named()
	if err != nil {
		return nil, err
	}
	return f.engine.EndRotation(ctx, r.Provider, r.order())
}

// rotations shows where the replacing of all keys stands: {"command":"rotations"}.
func (f *function) rotations(ctx context.Context, _ request) (any, error) {
	all, err := f.engine.Rotations(ctx)
	if err != nil {
		return nil, err
	}
	return struct {
		Rotations []managed.RotationStatus `json:"rotations"`
	}{all}, nil
}

// drain has removed what all users have at a provider, whose mode has to be draining, with all that
// is in it: {"command":"drain","provider":"…","by":"…","reason":"…"}. The schedule goes on with it.
// It shows where that stands, as providers does.
func (f *function) drain(ctx context.Context, r request) (any, error) {
	o, err := r.drainOrder()
	if err != nil {
		return nil, err
	}
	return f.engine.Drain(ctx, o)
}

// endDrain ends a draining before its time; what was asked for is removed:
// {"command":"end_drain","provider":"…","by":"…","reason":"…"}.
func (f *function) endDrain(ctx context.Context, r request) (any, error) {
	o, err := r.drainOrder()
	if err != nil {
		return nil, err
	}
	return f.engine.EndDrain(ctx, o)
}

// drainOrder is the provider that a request is about, which says who asks for it, and why.
func (r request) drainOrder() (managed.DrainOrder, error) {
	if !credential.ValidProvider(r.Provider) {
		return managed.DrainOrder{}, errProvider
	}
	return managed.DrainOrder{Provider: r.Provider, Order: r.order()}, r.named()
}

// errProvider refuses a name that no provider can have.
var errProvider = &credential.FieldError{Field: "provider", Problem: "must match [a-z0-9_]{1,64}"}

// suspend disables a user, of whom nothing is removed:
// {"command":"suspend","user_id":"…","by":"…","reason":"…"}.
func (f *function) suspend(ctx context.Context, r request) (any, error) {
	user, err := r.ofUser()
	if err != nil {
		return nil, err
	}
	err = f.engine.Suspend(ctx, user, r.order())
	if err != nil {
		return nil, err
	}
	return struct {
		Suspended bool `json:"suspended"`
	}{true}, nil
}

// enable ends what suspend began, and brings everything back under the same ids:
// {"command":"enable","user_id":"…","by":"…","reason":"…"}.
func (f *function) enable(ctx context.Context, r request) (any, error) {
	user, err := r.ofUser()
	if err != nil {
		return nil, err
	}
	err = f.engine.Enable(ctx, user, r.order())
	if err != nil {
		return nil, err
	}
	return struct {
		Enabled bool `json:"enabled"`
	}{true}, nil
}

// ofUser is the user whom a request is about that says who asks for it, and why.
func (r request) ofUser() (string, error) {
	user, err := credential.UserID(r.UserID)
	if err != nil {
		return "", err
	}
	return user, r.named()
}
