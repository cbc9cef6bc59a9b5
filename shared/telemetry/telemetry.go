// Package telemetry is how the functions are seen from outside: structured logs and metrics, one
// JSON line each on stdout. Neither ever carries a secret: types that hold one redact themselves,
// and metrics have a name, a provider and a kind only.
package telemetry

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"managed-credentials/shared/clock"
)

// Namespace is the CloudWatch namespace of every metric.
const Namespace = "ManagedCredentials"

// The metrics, all of them counts but for the last three.
const (
	CredentialsProvisioned = "CredentialsProvisioned"
	ProvisioningFailed     = "ProvisioningFailed"
	// OrgKeyUnavailable: lists that went without a managed credential because its secret
	// holds no key for its provider, or could not be read.
	OrgKeyUnavailable = "OrgKeyUnavailable"
	// SweepsStuck: checks of a ready slot that have failed many times, so that a key of ours may
	// live beside the stored one. They go on.
	SweepsStuck = "SweepsStuck"
	// CredentialsLost: managed credentials whose key or resource was found to be gone at the third
	// party. They are made anew.
	CredentialsLost    = "CredentialsLost"
	CredentialsRevoked = "CredentialsRevoked"
	RevocationFailed   = "RevocationFailed"
	// RevocationsParked: a revocation that cannot succeed without an operator, or has failed many
	// times. It is still tried, slowly.
	RevocationsParked = "RevocationsParked"
	// AccountsDeleted: tombstones that were written, one an account.
	AccountsDeleted = "AccountsDeleted"
	// DeletionsOfUnknown: direct calls to delete an account of which the table knew nothing. Either
	// the user never listed here, or the user id is not theirs.
	DeletionsOfUnknown = "DeletionsOfUnknown"
	// PoolUsersRemoved: users that this service removed from the user pool, each of which comes
	// back as an event of a deletion.
	PoolUsersRemoved = "PoolUsersRemoved"
	// DeletionsOverdue: accounts that were deleted more than a day ago, and of which something is
	// still left. Counted at each try.
	DeletionsOverdue = "DeletionsOverdue"
	// RevocationsForced: parked revocations that an operator has declared done.
	RevocationsForced = "RevocationsForced"
	// OrgKeyExpiring: an org key that expires within 30 days. Counted by each process once an hour.
	OrgKeyExpiring = "OrgKeyExpiring"
	// SettingsRefused: a third party refused what this service is configured to ask for, so that
	// nothing can be made there.
	SettingsRefused = "SettingsRefused"
	// OrgKeyRejected: a third party rejected the organisation's key, also after it was fetched
	// anew.
	OrgKeyRejected = "OrgKeyRejected"
	// OpenFieldsChanged: secrets that were not handed out, because what stands beside them in the
	// clear is not what they were sealed with.
	OpenFieldsChanged = "OpenFieldsChanged"
	// UsesNotNoted: secrets that were handed out, and of which it could not be noted on which day.
	UsesNotNoted = "UsesNotNoted"
	// CircuitOpened: a process leaves a third party alone for a while, after several slots in a row
	// failed there; without provider, KMS.
	CircuitOpened = "CircuitOpened"
	// CallsRefused: calls that a third party refused because there were too many.
	CallsRefused = "CallsRefused"
	// ClaimsConflicted: lists that could not claim a slot for as long as their budget lasted,
	// because DynamoDB was writing it or short of capacity.
	ClaimsConflicted = "ClaimsConflicted"
	// ItemsUndecodable: items that were left out because this version cannot read them.
	ItemsUndecodable = "ItemsUndecodable"
	// AuditFindings: what scheduled audits have found, by kind; in all, what an operator has to
	// look at.
	AuditFindings = "AuditFindings"
	// AuditsCompleted: scheduled audits of a provider that got to their end.
	AuditsCompleted = "AuditsCompleted"
	// RotationsAsked: keys of which a rotation of all keys of a provider has asked for another one.
	// RotationsOfAllEnded: those that came to their end.
	RotationsAsked      = "RotationsAsked"
	RotationsOfAllEnded = "RotationsOfAllEnded"
	// DrainingAsked: credentials whose removal a draining of a provider has asked for.
	// DrainingsEnded: drainings that came to their end, or were ended by another mode.
	DrainingAsked  = "DrainingAsked"
	DrainingsEnded = "DrainingsEnded"
	// KeysTooOld: keys of which a walk has asked for another one, because of their age.
	KeysTooOld = "KeysTooOld"
	// KeysExpiring: tries to replace a key ahead of its expiry.
	KeysExpiring = "KeysExpiring"
	// KeysRejected: keys of which another one was asked for, because they were reported and are
	// there.
	KeysRejected = "KeysRejected"
	// KeysUnusable: looks at a key which found that it is there and does not work.
	KeysUnusable = "KeysUnusable"
	// AuditsOverdue: scheduled audits that are under way when the next one is due. Counted with
	// each invocation.
	AuditsOverdue = "AuditsOverdue"
	// WorkDue: how many items are due when a round of reconcile has ended, by kind: "live" is what
	// living users wait for, "dead" what is left of deleted accounts.
	WorkDue = "WorkDue"
	// OldestWork: for how many seconds the longest due of them has been due, 0 if none is; by kind,
	// and the longest of both.
	OldestWork = "OldestWork"
	// AuditAge: how many seconds ago the last complete audit of a provider began, or the first one
	// that is not complete yet; the longest of all providers, too.
	AuditAge = "AuditAge"
)

// Logger returns a logger of JSON lines, in the form that Lambda expects, with the request's id in
// each.
func Logger(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(handler{slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: lambdacontext.ReplaceAttr})})
}

// Audit writes down an act before it is done. An error means that it is not on record, and must not
// be done.
func Audit(ctx context.Context, log *slog.Logger, act string, attrs ...any) error {
	record := slog.NewRecord(clock.Now(), slog.LevelInfo, act, 0)
	record.Add("audit", true)
	record.Add(attrs...)
	err := log.Handler().Handle(ctx, record)
	if err != nil {
		return fmt.Errorf("writing the audit line, without which nothing is done: %w", err)
	}
	return nil
}

type handler struct{ slog.Handler }

func (h handler) Handle(ctx context.Context, record slog.Record) error {
	lc, ok := lambdacontext.FromContext(ctx)
	if ok {
		record.AddAttrs(slog.String("requestId", lc.AwsRequestID))
	}
	return h.Handler.Handle(ctx, record)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs)}
}

func (h handler) WithGroup(name string) slog.Handler { return handler{h.Handler.WithGroup(name)} }

// Metrics writes metrics in CloudWatch's embedded metric format
// (https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html).
// It is safe for concurrent use.
type Metrics struct {
	mu sync.Mutex
	w  io.Writer
}

// NewMetrics returns metrics that are written to w.
func NewMetrics(w io.Writer) *Metrics { return &Metrics{w: w} }

// Count adds n to a metric, once in all and, unless provider is empty, once for the provider:
// CloudWatch takes no empty dimension.
func (m *Metrics) Count(name, provider string, n int) {
	dimensions := [][]string{{}}
	members := map[string]any{}
	if provider != "" {
		dimensions = append(dimensions, []string{"provider"})
		members["provider"] = provider
	}
	m.write(name, "Count", n, dimensions, members)
}

// CountKind adds n to a metric, once for the kind and, with inAll, once in all. The line also says
// of which provider.
func (m *Metrics) CountKind(name, provider, kind string, n int, inAll bool) {
	dimensions := [][]string{{"kind"}}
	if inAll {
		dimensions = append(dimensions, []string{})
	}
	m.write(name, "Count", n, dimensions, map[string]any{"provider": provider, "kind": kind})
}

// Backlog says how much work of a kind is due, and for how long the longest due of it has been.
func (m *Metrics) Backlog(kind string, items int, oldest time.Duration) {
	m.write(WorkDue, "Count", items, [][]string{{"kind"}}, map[string]any{"kind": kind})
	m.write(OldestWork, "Seconds", int(oldest.Seconds()), [][]string{{"kind"}, {}}, map[string]any{"kind": kind})
}

// AuditAge says how long ago the last complete audit of a provider began.
func (m *Metrics) AuditAge(provider string, age time.Duration) {
	m.write(AuditAge, "Seconds", int(age.Seconds()), [][]string{{"provider"}, {}}, map[string]any{"provider": provider})
}

// write writes one metric, with the members beside it that its dimensions name.
func (m *Metrics) write(name, unit string, n int, dimensions [][]string, members map[string]any) {
	members[name] = n
	members["_aws"] = map[string]any{
		"Timestamp": clock.Now().UnixMilli(),
		"CloudWatchMetrics": []any{map[string]any{
			"Namespace":  Namespace,
			"Dimensions": dimensions,
			"Metrics":    []any{map[string]any{"Name": name, "Unit": unit}},
		}},
	}
	line, _ := json.Marshal(members) // texts and numbers always marshal
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _ = m.w.Write(append(line, '\n'))
}
