package managed

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"managed-credentials/shared/clock"
	"managed-credentials/shared/credential"
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

// Runs is where the runs of one kind of job stand at a provider. There is one at a time.
type Runs[R any] struct {
	Provider string `json:"provider"`
	// UnderWay is the one that goes on with the next invocation; null if none is.
	UnderWay *R `json:"under_way"`
	// Ended is the last one that came to its end, or was ended; null before there was one.
	Ended *R `json:"ended"`
	// Aged is the last one that nobody asked for, because keys had become too old: under way if it
	// has not ended; null before there was one.
	Aged *R `json:"aged,omitempty"`
}

// runsOf is what a job has noted; nothing, if that cannot be read.
func runsOf[R any](provider string, job store.Job) Runs[R] {
	var s Runs[R]
	err := json.Unmarshal([]byte(job.Progress), &s)
	if err != nil {
		s = Runs[R]{}
	}
	s.Provider = provider
	return s
}

// note has a job hold where its runs stand.
func (s Runs[R]) note(job *store.Job) {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // cannot be: times, numbers and texts
	}
	job.Progress = string(text)
}

// errJobBusy: an invocation goes on with the job just now.
var errJobBusy error = &credential.ConflictError{Detail: "It is being worked on just now: try again in a minute"}

// changeRuns changes where a provider's job stands, from the start of the table, if do has no
// objection.
func changeRuns[R any](ctx context.Context, e *Engine, name, provider string, do func(*Runs[R]) error) (Runs[R], error) {
	err := errJobBusy
	job, tableErr := e.goOn(ctx, name, func(store.Job) bool { return true }, func(_ context.Context, job *store.Job) {
		status := runsOf[R](provider, *job)
		err = do(&status)
		if err == nil {
			job.Cursor = ""
			status.note(job)
		}
	})
	return runsOf[R](provider, job), cmp.Or(tableErr, err)
}

// walker is what a walk over all slots does, pass by pass over the table.
type walker interface {
	// page works on the slots of a page of the table, from an item on. It returns for how many of
	// them it asked for work, also with an error, and the item after which to go on.
	page(ctx context.Context, from store.Key) (asked int, next store.Key, err error)
	// endPass is called at the end of the table, and anew where a pass has to begin again, because
	// its place is of another version.
	endPass(ctx context.Context)
	anew()
}

// mostAskedDue is how many slots of a provider may be due, of users who live, for a walk to ask for
// more, unless Config.MostAskedDue says otherwise: what reconcile does in about three minutes.
// walkReserve is how much time has to be left for another page of the table.
const (
	mostAskedDue = 1500
	walkReserve  = 10 * time.Second
)

// walk has w ask for work from where the job stands, for as long as there is time and room for
// more, to the end of a pass at most. The page at which it fails is walked again.
func (e *Engine) walk(ctx context.Context, provider string, job *store.Job, w walker) error {
	at, err := parsePlace(job.Cursor)
	if err != nil {
		w.anew()
	}
	room, err := e.room(ctx, provider)
	for err == nil && room > 0 {
		deadline, ok := ctx.Deadline()
		if ok && clock.Until(deadline) < walkReserve {
			return nil
		}
		var asked int
		asked, at.After, err = w.page(ctx, at.After)
		room -= asked
		if err == nil {
			job.Cursor = at.String()
		}
		if err == nil && at.After == (store.Key{}) {
			job.Cursor = ""
			w.endPass(ctx)
			return nil
		}
	}
	return err
}

// askEach asks for work on those of the slots that want asking, and returns of how many it did.
// What somebody works on is met again by another pass.
func askEach(slots []store.Slot, wants func(store.Slot) bool, ask func(store.Slot) error) (int, error) {
	var asked atomic.Int64
	var work errgroup.Group
	work.SetLimit(width)
	for _, slot := range slots {
		if !wants(slot) {
			continue
		}
		work.Go(func() error {
			err := ask(slot)
			if err == nil {
				asked.Add(1)
			}
			if errors.Is(err, store.ErrStale) {
				return nil
			}
			return err
		})
	}
	err := work.Wait()
	return int(asked.Load()), err
}

// room is for how many slots a walk may ask for work: as many as are done soon, beside what the
// provider's living users wait for already.
func (e *Engine) room(ctx context.Context, provider string) (int, error) {
	room := cmp.Or(e.cfg.MostAskedDue, mostAskedDue)
	for _, shard := range store.LivingShards() {
		var from store.Cursor
		for room > 0 {
			keys, next, err := e.cfg.Store.Due(ctx, shard, e.cfg.Now(), pageSize, from)
			if err != nil {
				return 0, err
			}
			for _, key := range keys {
				if key.Provider() == provider {
					room--
				}
			}
			if next == nil {
				break
			}
			from = next
		}
	}
	return room, nil
}
