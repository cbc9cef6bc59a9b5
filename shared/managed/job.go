package managed

import (
	"context"
	"errors"
	"time"

	"managed-credentials/shared/store"
)

// jobLease is how long a claim of a job holds: longer than an invocation lasts, so that two never
// work on it at once, and short enough that one which died is soon taken over.
const jobLease = 2 * time.Minute

// goOn has work go on with a job from where it stands, under a claim, for as long as ctx leaves
// time, and notes where it stands then: in the job's cursor and progress, which work changes.
// wanted says of the job as it is whether there is anything to do.
//
// It returns the job as it is now, as far as it knows. What a run that died has done since it
// claimed the job is done again by the next one, so work has to be safe to repeat.
func (e *Engine) goOn(ctx context.Context, name string, wanted func(store.Job) bool, work func(context.Context, *store.Job)) (store.Job, error) {
	job, err := e.cfg.Store.Job(ctx, name)
	if err != nil || !wanted(job) {
		return job, err
	}
	claimed, err := e.cfg.Store.ClaimJob(ctx, job, e.cfg.Now().Add(jobLease))
	if errors.Is(err, store.ErrStale) { // somebody else works on it
		return job, nil
	}
	if err != nil {
		return job, err
	}
	inTime, cancel := context.WithTimeout(ctx, jobLease)
	defer cancel()
	work(inTime, &claimed)
	wctx, cancel := writing(ctx)
	defer cancel()
	return claimed, e.cfg.Store.EndJob(wctx, claimed)
}
