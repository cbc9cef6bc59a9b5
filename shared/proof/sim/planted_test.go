package sim_test

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/proof/sim/table"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

// bug is what a test puts in to see an observer name it: other behaviour of a provider, of the
// table or of what seals. Where a field is nil nothing is changed.
type bug struct {
	provision func(ctx context.Context, p managed.Provider, org credential.Secret, a *managed.Attempt) (managed.Grant, error)
	sweep     func(ctx context.Context, p managed.Provider, org credential.Secret, a *managed.Attempt) error
	revoke    func(ctx context.Context, p managed.Provider, org credential.Secret, a *managed.Attempt) error
	seal      func(b []byte, err error) ([]byte, error)
	transact  func(in *dynamodb.TransactWriteItemsInput) *dynamodb.TransactWriteItemsInput
	update    func(in *dynamodb.UpdateItemInput) *dynamodb.UpdateItemInput
	query     func(in *dynamodb.QueryInput, out *dynamodb.QueryOutput)
	list      func(l *managed.Listing)
}

func (b *bug) provides(p managed.Provider) managed.Provider {
	if b == nil {
		return p
	}
	return wrong{p.(mailAs), b} // a bug is planted at AgentMail
}

func (b *bug) seals(s managed.Sealer) managed.Sealer {
	if b == nil || b.seal == nil {
		return s
	}
	return wrongSealer{s, b}
}

func (b *bug) tables(api db) store.API {
	if b == nil {
		return api
	}
	return wrongTable{api, b}
}

func (b *bug) lists(l *managed.Listing) {
	if b != nil && b.list != nil {
		b.list(l)
	}
}

type wrong struct {
	mailAs
	bug *bug
}

func (w wrong) Provision(ctx context.Context, org credential.Secret, a *managed.Attempt) (managed.Grant, error) {
	if w.bug.provision == nil {
		return w.mailAs.Provision(ctx, org, a)
	}
	return w.bug.provision(ctx, w.mailAs, org, a)
}

func (w wrong) Sweep(ctx context.Context, org credential.Secret, a *managed.Attempt) error {
	if w.bug.sweep == nil {
		return w.mailAs.Sweep(ctx, org, a)
	}
	return w.bug.sweep(ctx, w.mailAs, org, a)
}

func (w wrong) Deprovision(ctx context.Context, org credential.Secret, a *managed.Attempt) error {
	if w.bug.revoke == nil {
		return w.mailAs.Deprovision(ctx, org, a)
	}
	return w.bug.revoke(ctx, w.mailAs, org, a)
}

type wrongSealer struct {
	managed.Sealer
	bug *bug
}

func (w wrongSealer) Seal(ctx context.Context, user, provider, id string, m credential.Material) ([]byte, error) {
	return w.bug.seal(w.Sealer.Seal(ctx, user, provider, id, m))
}

type wrongTable struct {
	db
	bug *bug
}

func (w wrongTable) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, o ...func(*dynamodb.Options)) (
	*dynamodb.TransactWriteItemsOutput, error,
) {
	if w.bug.transact != nil {
		in = w.bug.transact(in)
	}
	return w.db.TransactWriteItems(ctx, in, o...)
}

func (w wrongTable) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, o ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	if w.bug.update != nil {
		in = w.bug.update(in)
	}
	return w.db.UpdateItem(ctx, in, o...)
}

func (w wrongTable) Query(ctx context.Context, in *dynamodb.QueryInput, o ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	out, err := w.db.Query(ctx, in, o...)
	if err == nil && w.bug.query != nil {
		w.bug.query(in, out)
	}
	return out, err
}

// unbound is a context and an attempt that know of no lease, after a pause.
func unbound(ctx context.Context, a *managed.Attempt, pause time.Duration) (context.Context, *managed.Attempt, context.CancelFunc) {
	time.Sleep(pause)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	free := managed.NewAttempt(managed.Terms{
		User: a.User, Number: a.Number, Stored: a.Resource(), Inherited: a.Inherited(), Now: time.Now, Cutoff: time.Now().Add(time.Hour),
	})
	free.Deployment, free.Organization = a.Deployment, a.Organization
	return ctx, free, cancel
}

// planted are bugs, each with how the observer that has to see it begins what it says.
var planted = []struct {
	what, named string
	bug         bug
}{
	{"each attempt makes two keys", "I1: ", bug{
		provision: func(ctx context.Context, p managed.Provider, org credential.Secret, a *managed.Attempt) (managed.Grant, error) {
			_, _ = p.Provision(ctx, org, a)
			return p.Provision(ctx, org, a)
		},
	}},
	{"a revocation says that nothing is there", "I2: ", bug{
		revoke: func(context.Context, managed.Provider, credential.Secret, *managed.Attempt) error {
			return &managed.Error{Class: managed.Gone, Err: errors.New("nothing is there")}
		},
	}},
	{"creates do not stop at the lease's half", "I3: ", bug{
		provision: func(ctx context.Context, p managed.Provider, org credential.Secret, a *managed.Attempt) (managed.Grant, error) {
			ctx, free, cancel := unbound(ctx, a, lease/2)
			defer cancel()
			return p.Provision(ctx, org, free)
		},
	}},
	{"a revocation goes on when its lease is over", "I4: ", bug{
		revoke: func(ctx context.Context, p managed.Provider, org credential.Secret, a *managed.Attempt) error {
			ctx, free, cancel := unbound(ctx, a, 3*lease/2)
			defer cancel()
			return p.Deprovision(ctx, org, free)
		},
	}},
	{"a sweep deletes the stored key", "I4: ", bug{
		sweep: func(ctx context.Context, p managed.Provider, org credential.Secret, a *managed.Attempt) error {
			return errors.Join(p.Sweep(ctx, org, a), p.Discard(ctx, org, a.Resource()))
		},
	}},
	{"a transaction does not ask for the tombstone", "I5: ", bug{
		transact: func(in *dynamodb.TransactWriteItemsInput) *dynamodb.TransactWriteItemsInput {
			if in.TransactItems[0].ConditionCheck == nil || len(in.TransactItems) == 1 {
				return in
			}
			with := *in
			with.TransactItems = in.TransactItems[1:]
			return &with
		},
	}},
	{"a list waits for a third party as long as that takes", "I6: ", bug{
		provision: func(ctx context.Context, p managed.Provider, org credential.Secret, a *managed.Attempt) (managed.Grant, error) {
			ctx, free, cancel := unbound(ctx, a, 0)
			defer cancel()
			return p.Provision(ctx, org, free)
		},
	}},
	{"an error quotes a key", "I7: a secret is logged", bug{
		sweep: func(ctx context.Context, p managed.Provider, org credential.Secret, a *managed.Attempt) error {
			return errors.New("refused with " + org.Reveal())
		},
	}},
	{"a list shows a key", "I7: a secret is in a list", bug{
		list: func(l *managed.Listing) {
			for i := range l.Credentials {
				title := fake.OrgKey
				l.Credentials[i].Title = &title
			}
		},
	}},
	{"an id is not the user's and provider's", "I8: ", bug{
		list: func(l *managed.Listing) {
			for i := range l.Credentials {
				l.Credentials[i].ID = credential.ManagedID(l.Credentials[i].Provider, "somebody")
			}
		},
	}},
	{"what was not sealed is stored", "I9: ", bug{
		seal: func([]byte, error) ([]byte, error) { return []byte("a key"), nil },
	}},
	{"a shard of the index is never read", "liveness: two rounds", bug{
		query: func(in *dynamodb.QueryInput, out *dynamodb.QueryOutput) {
			for _, v := range in.ExpressionAttributeValues {
				if in.IndexName != nil && *in.IndexName == table.Index && strings.HasPrefix(textOf(v), "live.") {
					out.Items = []map[string]types.AttributeValue{}
				}
			}
		},
	}},
	{"a revocation is never done", "liveness: USER#", bug{
		revoke: func(context.Context, managed.Provider, credential.Secret, *managed.Attempt) error {
			return errors.New("later")
		},
	}},
	{"what is put off is put off until tomorrow", "liveness: 1h30m", bug{
		update: func(in *dynamodb.UpdateItemInput) *dynamodb.UpdateItemInput {
			n, puts := in.ExpressionAttributeValues[":due"].(*types.AttributeValueMemberN)
			if !puts {
				return in
			}
			later := *in
			later.ExpressionAttributeValues = maps.Clone(in.ExpressionAttributeValues)
			ms, _ := strconv.ParseInt(n.Value, 10, 64)
			later.ExpressionAttributeValues[":due"] = &types.AttributeValueMemberN{Value: strconv.FormatInt(ms+(24*time.Hour).Milliseconds(), 10)}
			return &later
		},
	}},
}

// mostSeeds is how many schedules may pass before a planted bug is seen.
const mostSeeds = 500

// TestEachObserverSeesWhatItIsThereFor plants a bug for each promise.
func TestEachObserverSeesWhatItIsThereFor(t *testing.T) {
	for _, b := range planted {
		t.Run(b.what, func(t *testing.T) {
			var others []string
			for seed := range uint64(mostSeeds) {
				s := schedule{seed: seed, bug: &b.bug}
				for _, v := range s.run(t, unheard).violations {
					if strings.HasPrefix(v, b.named) {
						t.Logf("seed %d: %s", seed, v)
						return
					}
					others = append(others, v)
				}
			}
			t.Errorf("nothing says %q in %d schedules; but %d times something else, first %q", b.named, mostSeeds, len(others), append(others, "")[0])
		})
	}
}
