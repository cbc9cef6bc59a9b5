package store

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// dueIndex is the sparse index of the items with work left.
const dueIndex = "due"

// Cursor is a position in a shard's due work; nil is the start, and the end.
type Cursor map[string]types.AttributeValue

// Due returns the keys of a shard's items with work due at the time now, the longest due first, at
// most limit of them, from the cursor on, and where to go on. The index is eventually consistent: a
// key may be missing for a moment, or be due no more.
func (s *Store) Due(ctx context.Context, shard string, now time.Time, limit int32, from Cursor) ([]Key, Cursor, error) {
	in := s.dueQuery(shard, now)
	in.Limit, in.ExclusiveStartKey = &limit, from
	out, err := s.db.Query(ctx, in)
	if err != nil {
		return nil, nil, fmt.Errorf("querying due work: %w", err)
	}
	keys := make([]Key, len(out.Items))
	for i, item := range out.Items {
		keys[i] = keyOf(item)
	}
	return keys, out.LastEvaluatedKey, nil
}

// Wait is how a slot waits until there is work to do.
type Wait struct {
	// State is the slot's from then on.
	State State
	// Reason is why there is work left.
	Reason string
	DueAt  time.Time
}

// Postpone has a slot wait, if it still is as it was read. Nothing is written otherwise: an
// unconditional update would bring back a slot that has gone. It returns ErrStale then. A slot that
// is to wait for its org key is nobody's any more if it may be claimed: a worker that was killed
// may have left its name.
func (s *Store) Postpone(ctx context.Context, slot Slot, w Wait) error {
	return s.postpone(ctx, slot, w, slot.Tries)
}

// PutOff is Postpone for work that could not be begun. It counts as a try, so that its pauses grow.
func (s *Store) PutOff(ctx context.Context, slot Slot, dueAt time.Time) error {
	return s.postpone(ctx, slot, Wait{slot.State, slot.Reason, dueAt}, slot.Tries+1)
}

func (s *Store) postpone(ctx context.Context, slot Slot, w Wait, tries int) error {
	values := args{}
	condition := slot.asRead(values) + " AND attribute_exists(#pk)"
	waiting := slot
	waiting.State, waiting.Reason = w.State, w.Reason
	free := w.Reason == ReasonNoKey && slot.Owner != "" && slot.Claimable(s.now())
	if free {
		waiting.Owner = ""
	}
	expression := "SET #due_at = " + values.time("due", w.DueAt) +
		", #due_shard = " + values.str("shard", waiting.shard()) +
		", #state = " + values.str("state", string(w.State)) +
		", #reason = " + values.str("reason", w.Reason)
	if tries != slot.Tries {
		expression += ", #tries = " + values.num("tries", int64(tries))
	}
	if free {
		expression += " REMOVE #owner"
	}
	err := s.update(ctx, slot.Key(), expression, condition, values)
	return outcome(err, ErrStale, "postponing the slot")
}

// Report makes a ready slot that was just read due at once, because somebody was refused with its
// key, and notes for how long no further report of that key is taken. It returns ErrStale if the
// slot is not as it was read, or was reported since.
func (s *Store) Report(ctx context.Context, slot Slot, pause time.Duration) error {
	values := args{}
	condition := slot.asRead(values) + " AND attribute_exists(#pk) AND "
	if slot.ReportFrom.IsZero() {
		condition += "attribute_not_exists(#report_from)"
	} else {
		condition += "#report_from = " + values.time("was_from", slot.ReportFrom)
	}
	now := s.now()
	expression := "SET #due_at = " + values.time("due", now) +
		", #due_shard = " + values.str("shard", slot.shard()) +
		", #reason = " + values.str("reason", ReasonReported) +
		", #report_from = " + values.time("from", now.Add(pause)) +
		", #report_pause = " + values.num("pause", pause.Milliseconds())
	err := s.update(ctx, slot.Key(), expression, condition, values)
	return outcome(err, ErrStale, "noting the report")
}

// Rotate asks for another key of a ready slot that was just read, and that nobody works on: due at
// once, with the time for which the stored key is to serve on beside it. It takes an attempt's
// number, so that nobody who read the slot before can claim it and overlook that. A key that
// retires already does so now. It returns ErrStale if the slot is not as it was read. A repeat asks
// anew, as long as no other key was made.
func (s *Store) Rotate(ctx context.Context, slot Slot, overlap time.Duration) error {
	return s.rotate(ctx, slot, overlap, args{}, "")
}

// Replace is Rotate because the slot's user asks for it. The caller gives AskFrom and AskPause as
// they are to be from then on.
func (s *Store) Replace(ctx context.Context, slot Slot, overlap time.Duration) error {
	values := args{}
	return s.rotate(ctx, slot, overlap, values, ", "+slot.asked(values))
}

// rotate writes the wish for another key, and with it what else is to be set.
func (s *Store) rotate(ctx context.Context, slot Slot, overlap time.Duration, values args, set string) error {
	condition := slot.asRead(values) + " AND attribute_exists(#pk)"
	now := values.time("now", s.now())
	wished := slot
	wished.Reason = ReasonRotation
	expression := "SET #rotate = " + values.num("overlap", overlap.Milliseconds()) +
		", #attempt = " + values.num("attempt", slot.Attempt+1) +
		", #due_at = " + now +
		", #due_shard = " + values.str("shard", wished.shard()) +
		", #reason = " + values.str("reason", wished.Reason) + set
	if slot.Retiring.KeyID != "" {
		expression += ", #retire_at = " + now
	}
	err := s.update(ctx, slot.Key(), expression, condition, values)
	return outcome(err, ErrStale, "asking for a rotation")
}

// PostponeUndecodable moves the due time of an item that cannot be decoded, of which only v and
// due_at are taken for what they are: if it still has both as they were read, and is due. Refused,
// which is no error, where another version of the code has been at it. Safe to repeat.
func (s *Store) PostponeUndecodable(ctx context.Context, key Key, dueAt time.Time) error {
	items, err := s.read(ctx, "#pk, #sk, #v, #due_at", key)
	if err != nil {
		return fmt.Errorf("reading the item that cannot be decoded: %w", err)
	}
	was := items[key]
	if was[attrDueAt] == nil {
		return nil
	}
	values := args{":was_due": was[attrDueAt]}
	condition := "#due_at = :was_due AND #due_at <= " + values.time("now", s.now()) + " AND "
	if was[attrVersion] == nil {
		condition += "attribute_not_exists(#v)"
	} else {
		values[":was_v"] = was[attrVersion]
		condition += "#v = :was_v"
	}
	err = s.update(ctx, key, "SET #due_at = "+values.time("due", dueAt), condition, values)
	return outcome(err, nil, "postponing the item that cannot be decoded")
}
