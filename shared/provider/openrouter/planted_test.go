package openrouter_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/providertest"
	"managed-credentials/shared/provider/flat"
	"managed-credentials/shared/provider/flat/flattest"
	"managed-credentials/shared/provider/openrouter"
	"managed-credentials/shared/provider/openrouter/fake"
	"managed-credentials/shared/provider/rest"
)

// planted are this provider with one fault each, such as an author in a hurry might make, and the
// promise of the suite that has to catch it.
var planted = map[string]struct {
	promise string
	plant   func(*router) managed.Provider
}{
	"takes a key for gone only where another one is listed": {
		"an organisation that has nothing else is proof enough",
		func(r *router) managed.Provider { return unproven{r.provider} },
	},
	"reads pages by plain offsets": {
		"a list that shifts while it is read hides nothing",
		func(r *router) managed.Provider { return flat.New(shifted{r.author()}, 0) },
	},
	"audits by plain offsets": {
		"a list that shifts while it is read hides nothing",
		func(r *router) managed.Provider { return overlooking{r.provider} },
	},
	"does not ask for disabled keys": {
		"a key that does not work is neither gone nor made anew, and it is deleted",
		func(r *router) managed.Provider { return r.through(enabled{http.DefaultTransport}) },
	},
	"does not read whether something was deleted": {
		"a success that does not say that something was deleted is no deletion",
		func(r *router) managed.Provider { return flat.New(believing{r.hasty()}, 0) },
	},
	"says that a key was made as it was asked for": {
		"an answer about another user is not taken",
		func(r *router) managed.Provider { return flat.New(assuming{r.author()}, 0) },
	},
	"says that a key was found as it was asked for": {
		"an answer about another user is not taken",
		func(r *router) managed.Provider { return flat.New(finding{r.hasty()}, 0) },
	},
	"takes an answer that it does not know for an empty list": {
		"a list without its member is not an empty one",
		func(r *router) managed.Provider { return flat.New(emptied{r.author()}, 0) },
	},
	"forgets that a key is retiring": {
		"sweep leaves a retiring key alone until its time is over",
		func(r *router) managed.Provider { return ending{r.provider} },
	},
	"forgets where it makes its keys": {
		"nothing is made in another organisation than the deployment's",
		func(r *router) managed.Provider { return roaming{r.provider} },
	},
	"does not read whose deployment's a name is": {
		"two deployments in one organisation leave each other's keys alone",
		func(r *router) managed.Provider { return flat.New(unmarked{r.author()}, 0) },
	},
	"knows errors by their bodies alone": {
		"an error that is no JSON has its status's class",
		func(r *router) managed.Provider { return r.through(coded{http.DefaultTransport}) },
	},
	"takes every org key for its own": {
		"an org key of another organisation proves and creates nothing",
		func(r *router) managed.Provider { return flat.New(owning{r.author()}, 0) },
	},
	"discards what another organisation does not have": {
		"an org key of another organisation proves and creates nothing",
		func(r *router) managed.Provider { return discarding{r.provider} },
	},
}

// childEnv names the fault in a process that runs the suite on it.
const childEnv = "PLANTED_FAULT"

// The suite is worth what it refuses. It is run in a process of its own, where it may fail.
func TestTheSuiteRefusesAProviderThat(t *testing.T) {
	t.Parallel()
	if one, ok := planted[os.Getenv(childEnv)]; ok {
		providertest.Conform(t, func(t *testing.T) providertest.Subject {
			r := start(t)
			r.SetSwitches(fake.Switches{PageSize: 7})
			s := r.subject()
			s.Provider = one.plant(r)
			return s
		})
		return
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for fault, one := range planted {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			promise := strings.ReplaceAll(one.promise, " ", "_")
			suite := exec.CommandContext(t.Context(), binary, "-test.run=^"+t.Name()[:strings.Index(t.Name(), "/")]+"$/^"+regexp.QuoteMeta(promise)+"$")
			suite.Env = append(os.Environ(), childEnv+"="+fault)
			said, err := suite.CombinedOutput()
			if err == nil || !strings.Contains(string(said), "--- FAIL: TestTheSuiteRefusesAProviderThat/"+promise+" ") {
				t.Errorf("%q did not catch it: %v\n%s", one.promise, err, said)
			}
		})
	}
}

func (r *router) through(t http.RoundTripper) *openrouter.Provider {
	return newProvider(r.t, openrouter.Settings{BaseURL: r.url, Limit: 5, Workspace: fake.Workspace, Transport: t})
}

func (r *router) author() flat.Author { return openrouter.Author(r.provider) }

// unproven goes by what else there is.
type unproven struct{ *openrouter.Provider }

func (p unproven) Deprovision(ctx context.Context, org credential.Secret, a *managed.Attempt) error {
	err := p.Provider.Deprovision(ctx, org, a)
	keys, listErr := rest.All(ctx, openrouter.Author(p.Provider).List(org, fake.Workspace))
	if flattest.ClassOf(err) == managed.Gone && listErr == nil && len(keys) == 0 {
		return errors.New("nothing proves that the org key is the right one")
	}
	return err
}

// shifted asks for what comes after what it has read, whatever has gone meanwhile.
type shifted struct{ flat.Author }

func (a shifted) List(org credential.Secret, organization string) rest.Page[flat.Key] {
	return func(ctx context.Context, token string) ([]flat.Key, string, error) {
		offset, _ := strconv.Atoi(token) // "" is 0
		keys, _, err := a.Author.List(org, organization)(ctx, fmt.Sprintf(`{"offset":%d}`, offset))
		if len(keys) == 0 {
			return nil, "", err
		}
		return keys, strconv.Itoa(offset + len(keys)), err
	}
}

// overlooking is careful but for its audits.
type overlooking struct{ managed.Provider }

func (p overlooking) Enumerate(ctx context.Context, org credential.Secret, cursor string) ([]managed.Holding, string, error) {
	return flat.New(shifted{openrouter.Author(p.Provider.(*openrouter.Provider))}, 0).Enumerate(ctx, org, cursor)
}

// enabled does not see what is disabled.
type enabled struct{ http.RoundTripper }

func (t enabled) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	query := r.URL.Query()
	query.Del("include_disabled")
	r.URL.RawQuery = query.Encode()
	return t.RoundTripper.RoundTrip(r)
}

// coded knows errors by their bodies.
type coded struct{ http.RoundTripper }

func (t coded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := t.RoundTripper.RoundTrip(r)
	if err == nil && answer.StatusCode >= 400 && strings.Contains(answer.Header.Get("Content-Type"), "html") {
		answer.StatusCode = http.StatusBadRequest
	}
	return answer, err
}

// hasty has calls of its own.
type hasty struct {
	flat.Author
	client *rest.Client
}

func (r *router) hasty() hasty {
	client, err := rest.New(rest.Config{BaseURL: r.url})
	if err != nil {
		r.t.Fatal(err)
	}
	client.Pause = time.Millisecond
	return hasty{r.author(), client}
}

// believing takes a deletion for done by its status.
type believing struct{ hasty }

func (a believing) Delete(ctx context.Context, org credential.Secret, _, id string) error {
	return a.client.Remove(ctx, org, "/api/v1/keys/"+id, &struct{}{}, http.StatusOK)
}

// finding does not look whose the answer is.
type finding struct{ hasty }

func (a finding) Get(ctx context.Context, org credential.Secret, organization, id string) (flat.Key, error) {
	var answer struct {
		Data struct {
			Name      string    `json:"name"`
			CreatedAt time.Time `json:"created_at"`
		} `json:"data"`
	}
	err := a.client.Get(ctx, org, "/api/v1/keys/"+id, &answer)
	return flat.Key{ID: id, Name: answer.Data.Name, Organization: organization, CreatedAt: answer.Data.CreatedAt}, err
}

// assuming returns what was asked for.
type assuming struct{ flat.Author }

func (a assuming) Create(ctx context.Context, org credential.Secret, name string) (flat.Made, error) {
	made, err := a.Author.Create(ctx, org, name)
	made.Name = name
	return made, err
}

// owning asks nobody whose the org key is.
type owning struct{ flat.Author }

func (owning) Owns(context.Context, credential.Secret) ([]string, error) {
	return []string{fake.Workspace}, nil
}

// discarding is content with a key that is not there for the org key.
type discarding struct{ managed.Provider }

func (p discarding) Discard(ctx context.Context, org credential.Secret, r credential.Resource) error {
	err := p.Provider.Discard(ctx, org, r)
	if flattest.ClassOf(err) == managed.Foreign {
		return nil
	}
	return err
}

// emptied reads what is not there as nothing.
type emptied struct{ flat.Author }

func (a emptied) List(org credential.Secret, organization string) rest.Page[flat.Key] {
	return func(ctx context.Context, token string) ([]flat.Key, string, error) {
		keys, next, err := a.Author.List(org, organization)(ctx, token)
		if errors.Is(err, rest.ErrAnswer) {
			return nil, "", nil
		}
		return keys, next, err
	}
}

// ending keeps the stored key alone.
type ending struct{ managed.Provider }

func (p ending) Sweep(ctx context.Context, org credential.Secret, a *managed.Attempt) error {
	alone := managed.NewAttempt(managed.Terms{User: a.User, Number: a.Number, Stored: a.Resource()})
	err := p.Provider.Sweep(ctx, org, alone)
	if err == nil {
		a.Accounted()
	}
	return err
}

// roaming makes keys wherever the org key does.
type roaming struct{ managed.Provider }

func (p roaming) Provision(ctx context.Context, org credential.Secret, a *managed.Attempt) (managed.Grant, error) {
	a.Organization = ""
	return p.Provider.Provision(ctx, org, a)
}

// unmarked sees names without their deployment.
type unmarked struct{ flat.Author }

var mark = regexp.MustCompile("/[a-z2-7]{8}/([0-9]+)$")

func (a unmarked) List(org credential.Secret, organization string) rest.Page[flat.Key] {
	return func(ctx context.Context, token string) ([]flat.Key, string, error) {
		keys, next, err := a.Author.List(org, organization)(ctx, token)
		for i, key := range keys {
			keys[i].Name = mark.ReplaceAllString(key.Name, "/$1")
		}
		return keys, next, err
	}
}
