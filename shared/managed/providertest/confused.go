package providertest

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
)

// another is a user whom the third party takes the examinee for.
const another = "user-3"

// refusesOthersAnswers has the third party answer as if another user had been asked about.
func (s suite) refusesOthersAnswers(t *testing.T) {
	for name, check := range map[string]func(suite, *testing.T){
		"a create": suite.refusesOthersGrant, "a deletion": suite.deletesOwn, "an audit": suite.inspectsOwn,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(s, t)
		})
	}
}

// refusesOthersGrant answers each create with what the other user's was answered with.
func (s suite) refusesOthersGrant(t *testing.T) {
	eachOf(t, func(nth int) bool {
		b := s.bench(t)
		var answers []*fault.Answer
		b.Proxy.SetHook(func(c *fault.Call) fault.Fault {
			if !creating(b, c) {
				return nil
			}
			return func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
				answer, err := c.Forward(ctx)
				answers = append(answers, answer)
				return answer, err
			}
		})
		theirs := b.mustProvision(b.attemptFor(another, 1, credential.Resource{}, false))
		confused := fault.Delivered(func(context.Context, *fault.Call) (*fault.Answer, error) { return answers[nth-1], nil })
		a := b.attempt(1, credential.Resource{}, false)
		var g managed.Grant
		struck, err := b.suffer(nth, trouble{strikes: creating, fault: simply(confused)}, func(ctx context.Context) (err error) {
			g, err = b.provision(ctx, a)
			return err
		})
		if !struck {
			return false
		}
		if err == nil || a.Settled() {
			t.Errorf("create %d was answered as another user's: %v, settled: %t, granted %+v", nth, err, a.Settled(), g.Resource)
		}
		b.wantRecovery(a, g, err, false)
		b.wantOne(another, theirs, 1)
		return true
	})
}

// confuse answers what is asked about one resource and its key with what there is to say about the
// other.
func (b *bench) confuse(of, with credential.Resource) {
	var pairs []string
	for _, pair := range [][2]string{{of.KeyID, with.KeyID}, {of.ID, with.ID}} {
		pairs = append(pairs, url.PathEscape(pair[0]), url.PathEscape(pair[1]), url.QueryEscape(pair[0]), url.QueryEscape(pair[1]))
	}
	swap := strings.NewReplacer(pairs...)
	b.Proxy.SetHook(func(c *fault.Call) fault.Fault {
		if c.Method != http.MethodGet {
			return nil
		}
		return func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
			target, err := url.ParseRequestURI(swap.Replace(c.URL.RequestURI()))
			if err != nil {
				return nil, err
			}
			about := *c
			about.URL = target
			return about.Forward(ctx)
		}
	})
}

func (s suite) deletesOwn(t *testing.T) {
	b := s.bench(t)
	mine := b.mustProvision(b.attempt(1, credential.Resource{}, false)).Resource
	theirs := b.mustProvision(b.attemptFor(another, 1, credential.Resource{}, false))
	b.fill()
	b.confuse(mine, theirs.Resource)
	a := b.attempt(2, mine, false)
	err := b.deprovision(t.Context(), a)
	if (err == nil || class(err) == managed.Gone) && len(b.Resources(examinee)) > 0 {
		t.Errorf("it was told of another user's, and deleted nothing: %v", err)
	}
	b.Proxy.SetHook(nil)
	b.wantOne(another, theirs, 1)
	b.wantDeleted(a, mine, err, false)
}

// inspectsOwn: a key is not there because another one is.
func (s suite) inspectsOwn(t *testing.T) {
	b := s.bench(t)
	mine := b.mustProvision(b.attempt(1, credential.Resource{}, false)).Resource
	theirs := b.mustProvision(b.attemptFor(another, 1, credential.Resource{}, false))
	b.must(b.discard(t.Context(), mine))
	b.confuse(mine, theirs.Resource)
	keys, err := b.Provider.Inspect(t.Context(), b.OrgKey, examinee, mine)
	b.Proxy.SetHook(nil)
	if slices.ContainsFunc(keys, func(k managed.HeldKey) bool { return k.ID == mine.KeyID }) {
		t.Errorf("an audit sees a key that is not there: %v, %v", keys, b.checked(err))
	}
	b.wantOne(another, theirs, 1)
}
