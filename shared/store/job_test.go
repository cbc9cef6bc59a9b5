package store_test

import (
	"errors"
	"testing"
	"time"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/store"
)

const walk = "WALK#agent_mail"

var jobKey = store.Key{PK: "JOB", SK: walk}

// job reads the job.
func (tb *table) job() store.Job {
	tb.t.Helper()
	j, err := tb.past(now).Job(tb.t.Context(), walk)
	if err != nil {
		tb.t.Fatal(err)
	}
	return j
}

// claimed has another process claim the job, as it was read, at a time.
func (tb *table) claimed(j store.Job, at time.Time) store.Job {
	tb.t.Helper()
	j, err := tb.past(at).ClaimJob(tb.t.Context(), j, at.Add(time.Minute))
	if err != nil {
		tb.t.Fatal(err)
	}
	return j
}

func TestAJobGoesOnWhereItWasLeft(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	if j := tb.job(); j != (store.Job{Name: walk}) || !j.Claimable(now) {
		t.Errorf("before its first run it is %+v", j)
	}
	for n, cursor := range []string{"a", "b", ""} {
		j := tb.claimed(tb.job(), now)
		if got := tb.job(); got != j || got.Attempt != int64(n+1) || got.Claimable(now.Add(time.Minute+store.SkewMargin)) {
			t.Errorf("claimed it is %+v, and the claim says %+v", got, j)
		}
		j.Cursor, j.Progress = cursor, "progress "+cursor
		for range 2 { // the answer may be lost
			err := tb.EndJob(t.Context(), j)
			if err != nil {
				t.Fatal(err)
			}
		}
		want := store.Job{Name: walk, Attempt: j.Attempt, Cursor: cursor, Progress: "progress " + cursor}
		if got := tb.job(); got != want {
			t.Errorf("it is %+v, want %+v", got, want)
		}
	}
}

func TestAJobIsClaimedByOneAlone(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	fresh := tb.job()
	first := tb.claimed(fresh, now)
	left := now.Add(time.Minute + store.SkewMargin)
	for name, claim := range map[string]func() (store.Job, error){
		"before its first run": func() (store.Job, error) { return tb.ClaimJob(t.Context(), fresh, now.Add(time.Minute)) },
		"claimed":              func() (store.Job, error) { return tb.past(left).ClaimJob(t.Context(), first, left) },
	} {
		_, err := claim()
		if !errors.Is(err, store.ErrStale) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	second := tb.claimed(first, left.Add(time.Millisecond))
	_, err := tb.past(left.Add(time.Millisecond)).ClaimJob(t.Context(), first, left.Add(time.Minute))
	if !errors.Is(err, store.ErrStale) || tb.job() != second {
		t.Errorf("a third one: %v, the job is %+v", err, tb.job())
	}
}

// Who was given up came back, and is past some of what the next one was to do.
func TestAJobIsClaimedOnlyAsItWasRead(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	slow := tb.claimed(tb.job(), now)
	late := now.Add(time.Hour)
	read := tb.job()
	slow.Cursor = "further"
	err := tb.EndJob(t.Context(), slow)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tb.past(late).ClaimJob(t.Context(), read, late.Add(time.Minute))
	if !errors.Is(err, store.ErrStale) || tb.job().Cursor != "further" {
		t.Errorf("got %v, the job is %+v", err, tb.job())
	}
}

func TestWhoLostAJobsClaimDoesNotMoveItsCursor(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	slow := tb.claimed(tb.job(), now)
	next := tb.claimed(slow, now.Add(time.Hour))
	slow.Cursor, slow.Progress = "far back", "of before"
	err := tb.EndJob(t.Context(), slow)
	if !errors.Is(err, store.ErrLost) || tb.job() != next {
		t.Errorf("under way: %v, the job is %+v", err, tb.job())
	}
	next.Cursor = "further"
	err = tb.EndJob(t.Context(), next)
	if err != nil {
		t.Fatal(err)
	}
	err = tb.EndJob(t.Context(), slow)
	if !errors.Is(err, store.ErrLost) || tb.job().Cursor != "further" {
		t.Errorf("ended: %v, the job is %+v", err, tb.job())
	}
}

func TestAJobThatCannotBeReadOrWrittenIsAnError(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(jobKey, attributes{"attempt": "many"})
	_, err := tb.Job(t.Context(), walk)
	if !errors.Is(err, store.ErrUndecodable) {
		t.Errorf("got %v", err)
	}
	tb.on("BatchGetItem", fault.Throttled(), fault.Throttled(), fault.Throttled())
	_, err = tb.Job(t.Context(), walk)
	if err == nil {
		t.Error("a job that was not read is no job")
	}
	tb.on("UpdateItem", fault.Throttled(), fault.Throttled(), fault.Throttled())
	_, err = tb.ClaimJob(t.Context(), store.Job{Name: walk}, now)
	if err == nil || errors.Is(err, store.ErrStale) {
		t.Errorf("a claim that failed: %v", err)
	}
	tb.on("UpdateItem", fault.Throttled(), fault.Throttled(), fault.Throttled())
	err = tb.EndJob(t.Context(), store.Job{Name: walk})
	if err == nil || errors.Is(err, store.ErrLost) {
		t.Errorf("an end that failed: %v", err)
	}
}
