package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/proof/bench/byhand"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

// sides makes two sides that are so far away from AgentMail: ours, and what is beside it.
func (b *bench) sides(ctx context.Context, away time.Duration) (ours, other *side, closes func(), err error) {
	ours, closeOurs, err := b.side(ctx, away)
	if err != nil {
		return nil, nil, nil, err
	}
	other, closeOther, err := b.side(ctx, away)
	if err != nil {
		closeOurs()
		return nil, nil, nil, err
	}
	return ours, other, func() { closeOurs(); closeOther() }, nil
}

// provide has a user listed until they have their key, as a page does that polls.
func provide(ctx context.Context, e *managed.Engine, user string) error {
	for ctx.Err() == nil {
		l, err := e.List(ctx, user, byhand.Provider)
		if err != nil {
			return err
		}
		if len(l.Credentials) > 0 {
			return nil
		}
	}
	return ctx.Err()
}

// patience is how long all callers together may take.
const patience = time.Minute

// workers are what one process has of the service, and one beside it of a lock, and how to let them
// go.
func workers(ctx context.Context, ours, other *side) (e *managed.Engine, l *locked, release func(), err error) {
	e, err = ours.engine()
	if err != nil {
		return nil, nil, nil, err
	}
	l, err = other.locked()
	if err != nil {
		return nil, nil, nil, err
	}
	return e, l, func() { _ = l.locks.CloseWithContext(ctx) }, nil
}

// creations are those of a new user's key, each by one caller: guarded by a claim, and beside that
// by a lock of dynamolock's.
func (b *bench) creations(ctx context.Context) ([]Figure, error) {
	progress("guarded creations")
	ours, other, closes, err := b.sides(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer closes()
	e, l, release, err := workers(ctx, ours, other)
	if err != nil {
		return nil, err
	}
	defer release()
	another := func(provide func(context.Context, string) error) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			user, _ := b.user()
			return timed(func() error { return provide(ctx, user) })
		}
	}
	figure, err := pairs("guarded creation, beside dynamolock's", b.rounds(200),
		another(func(ctx context.Context, user string) error { return provide(ctx, e, user) }), another(l.provide))
	return []Figure{figure}, err
}

// races are those of callers, each in a process of its own, who all want one new user's key:
// guarded by a claim, and beside that by a lock of dynamolock's.
func (b *bench) races(ctx context.Context) ([]Figure, error) {
	var all []Figure
	for _, n := range []int{64, 256} {
		progress("%d callers for one new user", n)
		figures, err := b.race(ctx, n)
		if err != nil {
			return nil, err
		}
		all = append(all, figures...)
	}
	return all, nil
}

func (b *bench) race(ctx context.Context, n int) ([]Figure, error) {
	ours, other, closes, err := b.sides(ctx, far)
	if err != nil {
		return nil, err
	}
	defer closes()
	var providers [2][]func(context.Context, string) error
	for range n {
		e, l, release, err := workers(ctx, ours, other)
		if err != nil {
			return nil, err
		}
		defer release()
		providers[0] = append(providers[0], func(ctx context.Context, user string) error { return provide(ctx, e, user) })
		providers[1] = append(providers[1], l.provide)
	}
	var half, last, calls [2][]float64
	for round := range b.rounds(12) + 1 { // the first one is for connections, and what a process learns once
		for j := range 2 {
			i := (round + j) % 2
			s := []*side{ours, other}[i]
			before := s.dynamoDBCalls.Load()
			took, err := s.together(ctx, providers[i])
			if err != nil {
				return nil, fmt.Errorf("%d callers: %w", n, err)
			}
			if round == 0 {
				continue
			}
			half[i] = append(half[i], quantile(took, 0.5))
			last[i] = append(last[i], slices.Max(took))
			calls[i] = append(calls[i], float64(s.dynamoDBCalls.Load()-before)/float64(n))
		}
	}
	of := fmt.Sprintf("of %d callers for one user, beside dynamolock's", n)
	return []Figure{
		newFigure("half "+of, milliseconds, half[0], half[1]),
		newFigure("the last "+of, milliseconds, last[0], last[1]),
		newFigure("calls to DynamoDB by each "+of, count, calls[0], calls[1]),
	}, nil
}

// together has all of them provide for one new user at once, and returns how long each took, in
// milliseconds. What they made has to be one pod with one key.
func (s *side) together(ctx context.Context, providers []func(context.Context, string) error) ([]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	user, _ := s.user()
	took := make([]float64, len(providers))
	begin := make(chan struct{})
	var work errgroup.Group
	for i, provide := range providers {
		work.Go(func() error {
			<-begin
			d, err := timed(func() error { return provide(ctx, user) })
			took[i] = d.Seconds() * 1000
			return err
		})
	}
	close(begin)
	err := work.Wait()
	if err != nil {
		return nil, err
	}
	pod, ok := s.AgentMail.Pod(user)
	if !ok || len(pod.Keys) != 1 {
		return nil, fmt.Errorf("%s has the pod %+v", user, pod)
	}
	return took, nil
}

// deletions are those of accounts that have a key, with as many under way at once as a round of
// reconcile has: first each account's own deletion, and then, when it is time for it, the look
// which finds that all of it is gone. Beside them is what deletes the same by hand, and looks at
// nothing again.
func (b *bench) deletions(ctx context.Context) ([]Figure, error) {
	progress("deletions")
	ours, other, closes, err := b.sides(ctx, far)
	if err != nil {
		return nil, err
	}
	defer closes()
	e, l, release, err := workers(ctx, ours, other)
	if err != nil {
		return nil, err
	}
	defer release()
	const accounts = 32
	byService := func(users []string) error {
		err := eight(users, func(user string) error {
			_, _, err := e.DeleteAccount(ctx, user, "")
			return err
		})
		if err != nil {
			return err
		}
		ours.ahead.Add(int64(managed.LastLook + time.Second))
		return ours.reconcile(ctx, e)
	}
	sides := []struct {
		*side
		provide func(context.Context, string) error
		remove  func(users []string) error
	}{
		{ours, func(ctx context.Context, user string) error { return provide(ctx, e, user) }, byService},
		{other, l.provide, func(users []string) error {
			return eight(users, func(user string) error { return l.remove(ctx, user) })
		}},
	}
	var rate, table, mail [2][]float64
	for round := range b.rounds(5) {
		for j := range 2 {
			i := (round + j) % 2
			s := sides[i]
			var users []string
			for range accounts {
				user, _ := b.user()
				users = append(users, user)
			}
			err := eight(users, func(user string) error { return s.provide(ctx, user) })
			if err != nil {
				return nil, err
			}
			dynamoDB, agentMail := s.dynamoDBCalls.Load(), s.mailCalls.Load()
			d, err := timed(func() error { return s.remove(users) })
			if err != nil {
				return nil, err
			}
			rate[i] = append(rate[i], accounts/d.Seconds())
			table[i] = append(table[i], float64(s.dynamoDBCalls.Load()-dynamoDB)/accounts)
			mail[i] = append(mail[i], float64(s.mailCalls.Load()-agentMail)/accounts)
			for _, user := range users {
				pod, there := b.AgentMail.Pod(user)
				if there {
					return nil, fmt.Errorf("%s is deleted, and has the pod %+v", user, pod)
				}
			}
		}
	}
	return []Figure{
		newFigure("deletions", perSecond, rate[0], rate[1]),
		newFigure("calls to DynamoDB of a deletion", count, table[0], table[1]),
		newFigure("calls to AgentMail of a deletion", count, mail[0], mail[1]),
	}, nil
}

// eight does it for each, eight at once.
func eight[T any](all []T, do func(T) error) error {
	var work errgroup.Group
	work.SetLimit(8)
	for _, one := range all {
		work.Go(func() error { return do(one) })
	}
	return work.Wait()
}

// reconcile lets rounds pass until nothing is due.
func (s *side) reconcile(ctx context.Context, e *managed.Engine) error {
	for {
		report, err := e.Reconcile(ctx)
		if err != nil {
			return err
		}
		if report.Failed > 0 {
			return fmt.Errorf("a round has failed at %d of %d", report.Failed, report.Done)
		}
		if report.Done == 0 {
			return nil
		}
	}
}

// idle is how many users there are in the table of whom nothing is due.
const idle = 10_000

// reconciles are rounds with so much due, among many idle users, and beside that in a table with
// nothing else.
func (b *bench) reconciles(ctx context.Context) ([]Figure, error) {
	progress("%d idle users", idle)
	ours, other, closes, err := b.sides(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer closes()
	all := idle
	if b.short {
		all = 100
	}
	err = ours.settle(ctx, all)
	if err != nil {
		return nil, err
	}
	var figures []Figure
	for _, of := range []struct{ due, rounds int }{{100, 10}, {1_000, 4}, {10_000, 1}} {
		progress("rounds with %d due", of.due)
		figure, err := b.reconcileOf(ctx, ours, other, of.due, of.rounds)
		if err != nil {
			return nil, err
		}
		figures = append(figures, figure)
		if b.short {
			break
		}
	}
	return figures, nil
}

func (b *bench) reconcileOf(ctx context.Context, ours, other *side, due, rounds int) (Figure, error) {
	round := func(s *side) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			e, err := s.engine()
			if err != nil {
				return 0, err
			}
			owed := s.owe(due)
			err = s.write(ctx, owed)
			if err != nil {
				return 0, err
			}
			took, err := timed(func() error {
				report, err := e.Reconcile(ctx)
				if err == nil && (report.Done != due || report.Failed > 0 || report.More) {
					err = fmt.Errorf("the round of %d reports %+v", due, report)
				}
				return err
			})
			if err != nil {
				return 0, err
			}
			return took, s.forget(ctx, owed) // it would be due in a later round
		}
	}
	return pairs(fmt.Sprintf("a round with %d due, beside one without idle users", due), b.rounds(rounds), round(ours), round(other))
}

type item = map[string]types.AttributeValue

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func number(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

func slotOf(user string) item {
	return item{"pk": text("USER#" + user), "sk": text("CRED#" + byhand.Provider + "#" + credential.ManagedID(byhand.Provider, user))}
}

// settle puts so many users into the table of whom nothing is due.
func (s *side) settle(ctx context.Context, n int) error {
	var all []item
	for range n {
		user, _ := s.user()
		slot := slotOf(user)
		slot["secret"] = &types.AttributeValueMemberB{Value: make([]byte, 300)}
		all = append(all, slot)
	}
	return s.write(ctx, all)
}

// owe makes up so much due work: half of it deleted accounts, and the other half a slot of each of
// them, whose pod has gone already.
func (s *side) owe(n int) []item {
	now := number(s.now().UnixMilli())
	shards := slices.DeleteFunc(store.Shards(), func(shard string) bool { return !strings.HasPrefix(shard, "dead") })
	var all []item
	for i := range n / 2 {
		user, _ := s.user()
		due := item{"v": number(1), "created_at": now, "due_at": now, "due_shard": text(shards[i%len(shards)])}
		tombstone := maps.Clone(due)
		tombstone["pk"], tombstone["sk"] = text("USER#"+user), text("ACCOUNT")
		slot := slotOf(user)
		maps.Copy(slot, due)
		maps.Copy(slot, item{
			"type": text("api_key"), "title": text("due"), "autogpt_managed": &types.AttributeValueMemberBOOL{Value: true},
			"state": text(string(store.Revoking)), "attempt": number(1), "resource_id": text(uuid.NewString()), "org_id": text(fake.OrganizationID),
		})
		all = append(all, tombstone, slot)
	}
	return all
}

// write writes items, and forget deletes them.
func (s *side) write(ctx context.Context, items []item) error {
	return s.batches(ctx, items, func(i item) types.WriteRequest { return types.WriteRequest{PutRequest: &types.PutRequest{Item: i}} })
}

func (s *side) forget(ctx context.Context, items []item) error {
	return s.batches(ctx, items, func(i item) types.WriteRequest {
		return types.WriteRequest{DeleteRequest: &types.DeleteRequest{Key: item{"pk": i["pk"], "sk": i["sk"]}}}
	})
}

func (s *side) batches(ctx context.Context, items []item, request func(item) types.WriteRequest) error {
	return eight(slices.Collect(slices.Chunk(items, store.DeleteBatch)), func(batch []item) error {
		var requests []types.WriteRequest
		for _, i := range batch {
			requests = append(requests, request(i))
		}
		out, err := s.db.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{s.table: requests}})
		if err == nil && len(out.UnprocessedItems) > 0 {
			err = errors.New("DynamoDB Local left items of a batch")
		}
		return err
	})
}
