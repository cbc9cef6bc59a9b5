package store

import (
	"context"
	"fmt"
	"time"
)

// Job is long work that goes on in one invocation where another one left it, such as a walk through
// all users. Its item is claimed as a slot is: by number, and for a time.
type Job struct {
	// Name is the job's, for ever.
	Name string
	// Attempt counts the claims. A number belongs to one claim for ever.
	Attempt int64
	// LeaseUntil is until when the last claim holds; zero if it was given up.
	LeaseUntil time.Time
	// Cursor is where to go on; "" is the start.
	Cursor string
	// Progress is what the job's own code has noted; "" before it has noted anything.
	Progress string
}

const jobPK = "JOB"

func jobKey(name string) Key { return Key{jobPK, name} }

// Claimable reports whether the job may be claimed at the time now: nobody works on it, or who did
// has been gone for longer than clocks may be apart.
func (j Job) Claimable(now time.Time) bool {
	return j.LeaseUntil.IsZero() || now.After(j.LeaseUntil.Add(SkewMargin))
}

// Job reads a job, consistently. One that nobody has worked on yet has a name and nothing else.
func (s *Store) Job(ctx context.Context, name string) (Job, error) {
	items, err := s.read(ctx, "#pk, #sk, #attempt, #lease_until, #cursor, #progress", jobKey(name))
	if err != nil {
		return Job{}, fmt.Errorf("reading the job %s: %w", name, err)
	}
	r := reader{item: items[jobKey(name)]}
	j := Job{
		Name: name, Attempt: r.numberOrZero(attrAttempt), LeaseUntil: r.timeOrZero(attrLeaseUntil),
		Cursor: r.textOrEmpty(attrCursor), Progress: r.textOrEmpty(attrProgress),
	}
	if r.bad {
		return Job{}, fmt.Errorf("reading the job %s: %w", name, ErrUndecodable)
	}
	return j, nil
}

// ClaimJob takes a job until a time, and returns it as it is then. It returns ErrStale if somebody
// works on it, or it is not as it was read. So is a repeat of a claim whose answer was lost: the
// job is then left alone until that time.
func (s *Store) ClaimJob(ctx context.Context, j Job, until time.Time) (Job, error) {
	if !j.Claimable(s.now()) {
		return Job{}, ErrStale
	}
	values := args{}
	condition := "attribute_not_exists(#attempt)"
	if j.Attempt > 0 {
		condition = "#attempt = " + values.num("was_attempt", j.Attempt)
	}
	if j.LeaseUntil.IsZero() {
		condition += " AND attribute_not_exists(#lease_until)"
	} else { // or who worked on it has noted meanwhile where it stands
		condition += " AND #lease_until = " + values.time("was_lease", j.LeaseUntil)
	}
	j.Attempt++
	j.LeaseUntil = until
	expression := "SET #attempt = " + values.num("attempt", j.Attempt) + ", #lease_until = " + values.time("until", until)
	err := s.update(ctx, jobKey(j.Name), expression, condition, values)
	if isRefused(err) {
		return Job{}, ErrStale
	}
	if err != nil {
		return Job{}, fmt.Errorf("claiming the job %s: %w", j.Name, err)
	}
	return j, nil
}

// SetProgress notes something under the name of a job that nobody ever claims, in place of what was
// noted there before: the last one who notes something wins. Safe to repeat.
func (s *Store) SetProgress(ctx context.Context, name, progress string) error {
	values := args{}
	err := s.update(ctx, jobKey(name), "SET #progress = "+values.str("progress", progress), "attribute_not_exists(#attempt)", values)
	return outcome(err, ErrStale, "noting "+name)
}

// EndJob notes where a claimed job stands now, and gives the claim up. It returns ErrLost if
// somebody else has claimed the job since, and goes on from where it stood before: nothing was
// written then. Safe to repeat.
func (s *Store) EndJob(ctx context.Context, j Job) error {
	values := args{}
	expression := "SET #cursor = " + values.str("cursor", j.Cursor) + ", #progress = " + values.str("progress", j.Progress) + " REMOVE #lease_until"
	condition := "#attempt = " + values.num("mine", j.Attempt)
	err := s.update(ctx, jobKey(j.Name), expression, condition, values)
	if isRefused(err) {
		return ErrLost
	}
	if err != nil {
		return fmt.Errorf("storing how far the job %s has come: %w", j.Name, err)
	}
	return nil
}
