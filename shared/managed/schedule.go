package managed

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

// ScheduledAudit is where the audits of a provider stand that a schedule has made.
type ScheduledAudit struct {
	Provider string `json:"provider"`
	AuditStatus
}

// AuditStatus is what is known of them.
type AuditStatus struct {
	// UnderWay is the one that goes on with the next invocation; null if none is.
	UnderWay *AuditRun `json:"under_way"`
	// Complete is the last one that got to its end; null before there was one.
	Complete *AuditRun `json:"complete"`
}

// AuditRun is one audit, from its beginning.
type AuditRun struct {
	BegunAt time.Time `json:"begun_at"`
	EndedAt time.Time `json:"ended_at,omitzero"`
	// Resources and Slots are how many were looked at, and Findings how many there were, by kind.
	Resources int                 `json:"resources"`
	Slots     int                 `json:"slots"`
	Findings  map[FindingKind]int `json:"findings"`
	// States are how many of the slots were in which state.
	States map[store.State]int `json:"states"`
	// Stopped says why the last invocation did not go on, if that was no want of time.
	Stopped string `json:"stopped,omitempty"`
	// Vain is how many invocations in a row got past no page.
	Vain int `json:"vain,omitempty"`
}

// Implausible: a scheduled audit does not go on, because more is gone than can be explained. It is
// counted with each invocation until that is over.
const Implausible FindingKind = "implausible"

// mostVain is how many invocations in a row an audit is tried at one page before it begins anew,
// an hour's: the third party may not know the place any more.
const mostVain = 60

// auditJob is the name of the job of a provider's audits.
func auditJob(provider string) string { return "AUDIT#" + provider }

// AuditsDue goes on with the audit of each provider that is under way, and begins one where the
// last was begun Config.AuditEvery ago, each provider's by itself. One that makes nothing new and
// has no org key is left out: that is no trouble there. It repairs nothing. What an audit finds is
// logged and counted, and again if the invocation ends before it has noted where the audit stands.
// It returns where they stand. An error means that the table failed.
//
// Safe to repeat, and to run twice at once: an audit goes on in one of them.
func (e *Engine) AuditsDue(ctx context.Context) ([]ScheduledAudit, error) {
	all := make([]ScheduledAudit, len(e.cfg.Providers))
	errs := make([]error, len(e.cfg.Providers))
	var lanes sync.WaitGroup
	for i, p := range e.cfg.Providers {
		lanes.Go(func() {
			all[i].Provider = p.Name()
			all[i].AuditStatus, errs[i] = e.auditDue(ctx, p)
		})
	}
	lanes.Wait()
	return all, errors.Join(errs...)
}

func (e *Engine) auditDue(ctx context.Context, p Provider) (AuditStatus, error) {
	_, keyErr := e.cfg.OrgKeys.Key(ctx, p.Name())
	blind := !e.offers(p.Name()) && isNoKey(keyErr)
	wanted := func(job store.Job) bool { return !blind && e.auditWanted(job) }
	job, err := e.goOn(ctx, auditJob(p.Name()), wanted, func(ctx context.Context, job *store.Job) { e.goOnAuditing(ctx, p, job) })
	status := auditStatus(job)
	if !blind && e.cfg.AuditEvery > 0 && err == nil {
		e.cfg.Metrics.AuditAge(p.Name(), status.age(e.cfg.Now()))
	}
	if !blind && e.cfg.AuditEvery > 0 && status.UnderWay != nil && e.cfg.Now().Sub(status.UnderWay.BegunAt) > e.cfg.AuditEvery {
		e.cfg.Metrics.Count(telemetry.AuditsOverdue, p.Name(), 1)
		e.cfg.Log.ErrorContext(ctx, "an audit is not complete, and the next one is due", "provider", p.Name(),
			"begun_at", status.UnderWay.BegunAt, "stopped", status.UnderWay.Stopped)
	}
	return status, err
}

// age is how long ago the last complete audit began: what went wrong since then, nobody has looked
// for. Before there was one it is how long the first has been under way.
func (s AuditStatus) age(now time.Time) time.Duration {
	switch {
	case s.Complete != nil:
		return now.Sub(s.Complete.BegunAt)
	case s.UnderWay != nil:
		return now.Sub(s.UnderWay.BegunAt)
	default:
		return 0
	}
}

// auditWanted reports whether an audit is under way, or to be begun.
func (e *Engine) auditWanted(job store.Job) bool {
	if e.cfg.AuditEvery == 0 {
		return false
	}
	s := auditStatus(job)
	return s.UnderWay != nil || s.Complete == nil || e.cfg.Now().Sub(s.Complete.BegunAt) >= e.cfg.AuditEvery
}

// auditStatus is what a job has noted. What cannot be read is as if nothing had been: then the
// audit begins anew.
func auditStatus(job store.Job) AuditStatus {
	var s AuditStatus
	err := json.Unmarshal([]byte(job.Progress), &s)
	if err != nil {
		return AuditStatus{}
	}
	return s
}

// goOnAuditing is one invocation's part of an audit.
func (e *Engine) goOnAuditing(ctx context.Context, p Provider, job *store.Job) {
	status := auditStatus(*job)
	if status.UnderWay == nil {
		status.UnderWay, job.Cursor = &AuditRun{BegunAt: e.cfg.Now()}, ""
	}
	run, was := status.UnderWay, job.Cursor
	report, err := e.Audit(ctx, AuditRequest{Provider: p.Name(), Cursor: was})
	if err != nil {
		report.Next, report.Stopped = was, err.Error()
	}
	found := report.Findings[:report.passed] // the page at which it stopped is looked at again
	if report.tooMany {
		found = append(found, Finding{Kind: Implausible, Error: report.Stopped})
	}
	e.tell(ctx, p.Name(), found)
	run.add(report, found)
	job.Cursor = report.Next
	switch {
	case err == nil && report.Next == "":
		run.EndedAt = e.cfg.Now()
		status.Complete, status.UnderWay = run, nil
		e.cfg.Metrics.Count(telemetry.AuditsCompleted, p.Name(), 1)
	case report.Next == was && !report.tooMany:
		run.Vain++
	default:
		run.Vain = 0
	}
	if run.Vain >= mostVain || errors.Is(err, ErrCursor) {
		status.UnderWay, job.Cursor = &AuditRun{BegunAt: run.BegunAt, Stopped: run.Stopped}, ""
	}
	text, err := json.Marshal(status)
	if err != nil {
		panic(err) // cannot be: times, numbers and texts
	}
	job.Progress = string(text)
}

// add counts what an invocation has looked at and found.
func (r *AuditRun) add(report AuditReport, found []Finding) {
	r.Resources += report.Resources
	r.Slots += report.Slots
	r.Stopped = report.Stopped
	if r.Findings == nil {
		r.Findings = map[FindingKind]int{}
	}
	if r.States == nil {
		r.States = map[store.State]int{}
	}
	for state, n := range report.states {
		r.States[state] += n
	}
	for _, f := range found {
		r.Findings[f.Kind]++
	}
}

// tell logs and counts what was found, by kind: how many of a kind, and the first of them.
func (e *Engine) tell(ctx context.Context, provider string, found []Finding) {
	byKind := map[FindingKind][]Finding{}
	for _, f := range found {
		byKind[f.Kind] = append(byKind[f.Kind], f)
	}
	for kind, all := range byKind {
		// Whose pod is unclaimed may only not have come yet. All others want somebody to look.
		e.cfg.Metrics.CountKind(telemetry.AuditFindings, provider, string(kind), len(all), kind != Unclaimed)
		e.cfg.Log.WarnContext(ctx, "an audit has found something: count is how many findings there are of this kind, and the rest is the first of them", "provider", provider, "kind", kind,
			"count", len(all), "user", all[0].User, "resource", all[0].Resource, "key_id", all[0].KeyID, "error", all[0].Error)
	}
}
