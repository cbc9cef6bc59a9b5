package managed_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/credential"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/managedtest"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

func ops(p *fault.Proxy) []string {
	var all []string
	for _, c := range p.Calls() {
		all = append(all, c.Op)
	}
	return all
}

func TestAFirstListCostsWhatItMay(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	l := list(t, w.Engine(), alice)
	if !has(l, alice) || stands(t, l) != managed.StandingReady {
		t.Fatalf("the first list is %+v", l)
	}
	w.CheckExactlyOne(alice)
	if got := ops(w.DynamoDB); !slices.Equal(got, []string{query, transact, batchGet, update, update}) { // the last notes the organisation
		t.Errorf("DynamoDB calls: %v", got)
	}
	if got := ops(w.SecretsManager); !slices.Equal(got, []string{"GetSecretValue"}) {
		t.Errorf("Secrets Manager calls: %v", got)
	}
	if got := ops(w.AgentMail); len(got) != 2 || got[0] != createPd || !strings.HasSuffix(got[1], "/api-keys") {
		t.Errorf("AgentMail calls: %v", got)
	}
	// CheckExactlyOne decrypts through the same proxy.
	if got := ops(w.KMS); !slices.Equal(got, []string{"Encrypt", "Decrypt"}) {
		t.Errorf("KMS calls: %v", got)
	}
}

func TestASecondListCostsOneQuery(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	proxies := []*fault.Proxy{w.DynamoDB, w.KMS, w.SecretsManager, w.AgentMail}
	for _, p := range proxies {
		p.Reset()
	}
	l := list(t, w.Engine(), alice)
	if !has(l, alice) {
		t.Fatalf("the second list is %+v", l)
	}
	var all []string
	for _, p := range proxies {
		all = append(all, ops(p)...)
	}
	if !slices.Equal(all, []string{query}) {
		t.Errorf("calls: %v", all)
	}
}

func TestAListNeverReadsCiphertext(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	list(t, w.Engine(), alice)
	for _, c := range w.DynamoDB.Calls() {
		body := string(c.Body)
		var in struct {
			TransactItems []struct{ Update json.RawMessage }
		}
		err := json.Unmarshal(c.Body, &in)
		if err != nil {
			t.Fatal(err)
		}
		if len(in.TransactItems) > 0 { // what stands where a tombstone would, and comes along, has none
			body = string(in.TransactItems[len(in.TransactItems)-1].Update)
		}
		if strings.Contains(body, "ALL_OLD") || strings.Contains(body, "ALL_NEW") {
			t.Errorf("%s returns values: %s", c.Op, body)
		}
		if c.Op == query && (!strings.Contains(body, "ProjectionExpression") || strings.Contains(body, "#secret")) {
			t.Errorf("the Query reads too much: %s", body)
		}
	}
}

func TestConcurrentFirstListsMakeOneKeyAndAllShowIt(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			l, err := w.Engine().List(context.Background(), alice, "")
			if err != nil || !has(l, alice) {
				t.Errorf("%v %+v", err, l)
			}
		})
	}
	all.Wait()
	w.CheckExactlyOne(alice)
	if creates(w) != 1 {
		t.Errorf("%d keys were asked for", creates(w))
	}
}

func TestAListWaitsForWhatAnotherProvisionsWithSixReadsAtMost(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{Lease: 20 * time.Second, Budget: 5 * time.Second})
	held := w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Fault: fault.Hold(nil)})
	var one, two managed.Listing
	var both sync.WaitGroup
	both.Go(func() { one = list(t, w.Engine(), alice) })
	err := w.Mail.Await(t.Context(), fake.CreateKey, 1)
	if err != nil {
		t.Fatal(err)
	}
	w.DynamoDB.Reset()
	inject(t, w.DynamoDB, batchGet, 2, first(func() { w.Mail.RemoveFault(held) }))
	both.Go(func() { two = list(t, w.Engine(), alice) })
	both.Wait()
	if !has(one, alice) || !has(two, alice) {
		t.Errorf("the lists are %+v and %+v", one, two)
	}
	if n := w.DynamoDB.Count(batchGet); n < 2 || n > 6 {
		t.Errorf("%d reads again", n)
	}
	if n := w.DynamoDB.Count(transact); n != 0 {
		t.Errorf("the second list claimed")
	}
}

// What a refused claim reads is a look at what others provision: no look of the schedule follows
// right after it.
func TestAListThatWasRefusedItsClaimLooksNoMoreOften(t *testing.T) {
	t.Parallel()
	const budget = 5 * time.Second
	w := managedtest.New(t, managedtest.Options{Lease: 20 * time.Second, Budget: budget})
	held := w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Fault: fault.Hold(nil)})
	one, two := w.EngineAt(time.Now), w.EngineAt(time.Now)
	var both sync.WaitGroup
	var claims atomic.Int32
	var mu sync.Mutex
	var reads []time.Time
	w.DynamoDB.SetHook(func(c *fault.Call) fault.Fault {
		switch c.Op {
		case transact:
			switch claims.Add(1) {
			case 1, 2:
				return fault.TransactionConflict()
			case 3: // the other list is first
				return first(func() {
					both.Go(func() { list(t, one, alice) })
					err := w.Mail.Await(t.Context(), fake.CreateKey, 1)
					if err != nil {
						t.Error(err)
					}
				})
			}
		case batchGet:
			if !strings.Contains(string(c.Body), alice) { // the deployment's id
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			reads = append(reads, time.Now())
			if len(reads) == 4 {
				w.Mail.RemoveFault(held)
			}
		}
		return nil
	})
	both.Go(func() {
		l := list(t, two, alice)
		if !has(l, alice) {
			t.Errorf("the list is %+v", l)
		}
	})
	both.Wait()
	if claims.Load() != 4 || len(reads) < 4 {
		t.Fatalf("%d claims, and reads at %v", claims.Load(), reads)
	}
	for i, at := range reads[1:] {
		if at.Sub(reads[i]) < budget/100-5*time.Millisecond {
			t.Errorf("it reads again after %v", at.Sub(reads[i]))
		}
	}
}

func TestAProviderThatHangsDoesNotHoldUpAList(t *testing.T) {
	t.Parallel()
	for _, operation := range []fake.Operation{fake.CreatePod, fake.CreateKey} {
		t.Run(operation, func(t *testing.T) {
			t.Parallel()
			w := managedtest.New(t, managedtest.Options{Lease: 10 * time.Second, Budget: 2 * time.Second})
			w.Mail.Inject(fault.Rule{Op: operation, Fault: fault.Hold(nil)})
			l := list(t, w.Engine(), alice) // comes back although nobody lets the provider go
			if len(l.Credentials) != 0 || stands(t, l) != managed.StandingFailed {
				t.Errorf("the list is %+v", l)
			}
			if slot(t, w, alice).Settled() {
				t.Error("an unknown outcome was settled")
			}
			w.Converge()
			w.CheckExactlyOne(alice)
		})
	}
}

func TestFaultsAroundAListNeverFailIt(t *testing.T) {
	t.Parallel()
	for name, strike := range map[string]func(*testing.T, *managedtest.World){
		"AgentMail is down": func(t *testing.T, w *managedtest.World) {
			inject(t, w.AgentMail, createPd, 0, fault.Respond(http.StatusServiceUnavailable, nil, nil))
		},
		"AgentMail drops connections": func(t *testing.T, w *managedtest.World) {
			inject(t, w.AgentMail, createPd, 0, fault.Drop())
		},
		"AgentMail answers rubbish": func(t *testing.T, w *managedtest.World) {
			inject(t, w.AgentMail, createPd, 0, fault.Respond(http.StatusOK, nil, []byte("<html>")))
		},
		"AgentMail limits the rate": func(t *testing.T, w *managedtest.World) {
			inject(t, w.AgentMail, createPd, 0, fault.Respond(http.StatusTooManyRequests, http.Header{"Retry-After": {"30"}}, nil))
		},
		"the org key is rejected": func(t *testing.T, w *managedtest.World) { w.Mail.RejectOrgKey(fake.OrgKey) },
		"KMS is down": func(t *testing.T, w *managedtest.World) {
			inject(t, w.KMS, "Encrypt", 0, fault.AWSError(http.StatusInternalServerError, "KMSInternalException", ""))
		},
		"KMS throttles": func(t *testing.T, w *managedtest.World) { inject(t, w.KMS, "Encrypt", 0, fault.Throttled()) },
		"Secrets Manager is down": func(t *testing.T, w *managedtest.World) {
			inject(t, w.SecretsManager, "GetSecretValue", 0, fault.AWSError(http.StatusInternalServerError, "InternalServiceError", ""))
		},
		"Secrets Manager drops connections": func(t *testing.T, w *managedtest.World) {
			inject(t, w.SecretsManager, "GetSecretValue", 0, fault.Drop())
		},
		"the claim fails": func(t *testing.T, w *managedtest.World) {
			inject(t, w.DynamoDB, transact, 0, fault.AWSError(http.StatusInternalServerError, "InternalServerError", ""))
		},
		"the commit is throttled": func(t *testing.T, w *managedtest.World) { inject(t, w.DynamoDB, update, 0, fault.Throttled()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := managedtest.New(t, managedtest.Options{})
			title := "mine"
			own := credential.Metadata{ID: credential.NewID(), Provider: "github", Type: credential.APIKey, Title: &title}
			_, err := w.Store.Create(t.Context(), alice, own, []byte("sealed"))
			if err != nil {
				t.Fatal(err)
			}
			strike(t, w)
			l := list(t, w.Engine(), alice)
			if len(l.Credentials) != 1 || l.Credentials[0].ID != own.ID {
				t.Errorf("the list is %+v", l.Credentials)
			}
			if s := stands(t, l); s != managed.StandingFailed && s != managed.StandingProvisioning {
				t.Errorf("it stands as %s", s)
			}
			w.Mail.AcceptOrgKey(fake.OrgKey, fake.OrganizationID)
			w.Heal()
			w.Clock.Advance(time.Hour)
			list(t, w.Engine(), alice)
			w.Converge()
			w.CheckExactlyOne(alice)
		})
	}
}

func TestAnAccountThatCannotBeReadIsAnErrorNotAnEmptyList(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	inject(t, w.DynamoDB, query, 0, fault.Throttled())
	_, err := w.Engine().List(t.Context(), alice, "")
	if err == nil {
		t.Error("no error")
	}
	if creates(w) != 0 {
		t.Error("something was provisioned")
	}
}

func TestAProviderWithoutOrgKeyIsUnavailable(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	w.SetOrgKeys(`{}`)
	l := list(t, w.Engine(), alice)
	if stands(t, l) != managed.StandingUnavailable || w.Dump() != "" {
		t.Errorf("the list is %+v, the table:\n%s", l, w.Dump())
	}
	w.SetOrgKeys(`"no object"`)
	l = list(t, w.Engine(), alice)
	if stands(t, l) != managed.StandingFailed || strings.Count(w.Logs(), `"OrgKeyUnavailable":1`) != 2 {
		t.Errorf("the list is %+v, the log:\n%s", l, w.Logs())
	}
	w.SetOrgKeys(`{"agent_mail": "a key\nin two lines"}`)
	l = list(t, w.Engine(), alice)
	if stands(t, l) != managed.StandingFailed || strings.Count(w.Logs(), `"OrgKeyUnavailable":1`) != 3 ||
		!strings.Contains(w.Logs(), `the entry \"agent_mail\" of the secret`) {
		t.Errorf("the list is %+v, the log:\n%s", l, w.Logs())
	}
}

func TestAnItemThatCannotBeDecodedIsLeftOutAndCounted(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	newer := map[string]types.AttributeValue{"v": &types.AttributeValueMemberN{Value: "2"}}
	w.SetItem(store.SlotKey(alice, managedtest.Provider), newer)
	before := w.Dump()
	w.Clock.Advance(time.Hour)
	l := list(t, w.Engine(), alice)
	if len(l.Credentials) != 0 || stands(t, l) != managed.StandingUnavailable {
		t.Errorf("the list is %+v", l)
	}
	if !strings.Contains(w.Logs(), `"ItemsUndecodable":1`) {
		t.Error("it was not counted")
	}
	if w.Dump() != before {
		t.Errorf("it was touched:\n%s\n%s", before, w.Dump())
	}
	left := remove(t, w.Engine(), alice)
	if len(left) != 1 {
		t.Errorf("its revocation cannot be done, but what is left is %+v", left)
	}
}

func TestAManagedCredentialKeepsItsID(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	w.Mail.Inject(fault.Rule{Op: fake.CreateKey, Times: 1, Fault: fault.Delivered(fake.Status(http.StatusInternalServerError))})
	list(t, w.Engine(), alice)
	w.Converge()
	l := list(t, w.Engine(), alice)
	if !has(l, alice) {
		t.Errorf("I8: the list is %+v", l)
	}
	if s := slot(t, w, alice); s.Attempt < 2 {
		t.Errorf("it was not provisioned anew: %+v", s)
	}
}

// in is an engine whose provider is in this mode.
func in(w *managedtest.World, mode managed.Mode) *managed.Engine {
	return w.EngineWith(func(c *managed.Config) { c.Modes = map[string]managed.Mode{managedtest.Provider: mode} })
}

func TestAFrozenProviderIsForThoseWhoHaveIt(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	before := w.Dump()
	l := list(t, in(w, managed.Frozen), bob)
	if len(l.Standings) != 0 || w.Dump() != before {
		t.Errorf("somebody new gets %+v, the table:\n%s", l, w.Dump())
	}
	l = list(t, in(w, managed.Frozen), alice)
	if len(l.Credentials) != 1 || l.Standings[0].State != managed.StandingReady {
		t.Errorf("who has it gets %+v", l)
	}
	remove(t, in(w, managed.Frozen), alice)
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestAProviderThatIsOffIsNotShownAndItsKeysAreRevoked(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	before := w.Dump()
	w.SetOrgKeys(`{}`)
	for _, user := range []string{alice, bob} {
		l := list(t, in(w, managed.Off), user)
		if len(l.Standings) != 0 || len(l.Credentials) != 0 || w.Dump() != before {
			t.Errorf("%s gets %+v, the table:\n%s", user, l, w.Dump())
		}
	}
	w.SetOrgKeys(`{"` + managedtest.Provider + `":"` + fake.OrgKey + `"}`)
	remove(t, in(w, managed.Off), alice)
	w.Converge()
	w.CheckNothingLeft(alice)
}

func TestWhatIsOfAProviderThatNobodyKnowsIsNotShown(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	list(t, w.Engine(), alice)
	unknown := w.EngineWith(func(c *managed.Config) { c.Providers = nil })
	l := list(t, unknown, alice)
	if len(l.Credentials) != 0 || len(l.Standings) != 0 || unknown.Gives(managedtest.Provider) {
		t.Errorf("shown is %+v", l)
	}
	// Its settings cannot work: what is there serves on.
	faulty := w.EngineWith(func(c *managed.Config) {
		c.Providers, c.Faults = nil, map[string]error{managedtest.Provider: errors.New("its settings cannot work")}
	})
	l = list(t, faulty, alice)
	if len(l.Credentials) != 1 || !faulty.Gives(managedtest.Provider) || in(w, managed.Off).Gives(managedtest.Provider) {
		t.Errorf("shown is %+v", l)
	}
}

func TestTheOwnerSaysWhatUsersSeeOfAManagedCredential(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	before := list(t, w.Engine(), alice) // made before there was such a title
	e := w.EngineWith(func(c *managed.Config) {
		c.Titles = map[string]string{managedtest.Provider: "Mail (by Acme)", "github": "Not this"}
	})
	l := list(t, e, alice)
	if len(l.Credentials) != 1 || *l.Credentials[0].Title != "Mail (by Acme)" || *before.Credentials[0].Title == "Mail (by Acme)" {
		t.Errorf("the list is %+v", l)
	}
	own := credential.Metadata{Provider: "github"}
	if e.Titled(own).Title != nil {
		t.Error("a user's own credential got the title")
	}
}

func TestAProviderWhoseSettingsCannotWorkTakesNobodyElseAlong(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	var counted bytes.Buffer
	metrics := telemetry.NewMetrics(&counted)
	e := w.EngineWith(func(c *managed.Config) {
		c.Faults, c.Metrics = map[string]error{"open_router": errors.New("limit has to be more than 0")}, metrics
	})
	l := list(t, e, alice)
	want := []managed.Standing{{Provider: managedtest.Provider, State: managed.StandingReady}, {Provider: "open_router", State: managed.StandingUnavailable}}
	if len(l.Credentials) != 1 || !slices.Equal(l.Standings, want) {
		t.Errorf("the list is %+v", l)
	}
	e.WatchOrgKeys(t.Context())
	if !strings.Contains(counted.String(), telemetry.SettingsRefused) || !strings.Contains(counted.String(), "open_router") {
		t.Errorf("counted is %s", counted.String())
	}
}

// twoMails are two providers, both AgentMail, whose pods are told apart by a prefix.
func twoMails(t *testing.T) func(string) []managed.Provider {
	return func(url string) []managed.Provider {
		return []managed.Provider{managedtest.AgentMail(t, url, managedtest.Provider), managedtest.AgentMail(t, url, "second_mail")}
	}
}

func TestAllProvidersAreClaimedInOneTransaction(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{Providers: twoMails(t)})
	w.SetOrgKeys(`{"agent_mail":"` + fake.OrgKey + `","second_mail":"` + fake.OrgKey + `"}`)
	l := list(t, w.Engine(), alice)
	if len(l.Credentials) != 2 || len(l.Standings) != 2 {
		t.Errorf("the list is %+v", l)
	}
	if n := w.DynamoDB.Count(transact); n != 1 {
		t.Errorf("%d claims", n)
	}
}

func TestAFailingProviderDoesNotHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{Providers: twoMails(t), Lease: 20 * time.Second, Budget: 5 * time.Second})
	w.SetOrgKeys(`{"agent_mail":"` + fake.OrgKey + `","second_mail":"` + fake.OrgKey + `"}`)
	w.Mail.Inject(fault.Rule{Op: fake.CreatePod, About: "second_mail." + alice, Fault: fault.Hold(nil)})
	l := list(t, w.Engine(), alice)
	if !has(l, alice) || l.Standings[0].State != managed.StandingReady || l.Standings[1].State != managed.StandingFailed {
		t.Errorf("the list is %+v", l)
	}
}

func TestAListOfOneProviderProvisionsThatOneOnly(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	l, err := w.Engine().List(t.Context(), alice, "github")
	if err != nil || len(l.Credentials)+len(l.Standings) != 0 || w.Dump() != "" {
		t.Errorf("%v %+v\n%s", err, l, w.Dump())
	}
	l, err = w.Engine().List(t.Context(), alice, managedtest.Provider)
	if err != nil || !has(l, alice) {
		t.Errorf("%v %+v", err, l)
	}
}

func TestADeletedAccountIsNotListed(t *testing.T) {
	t.Parallel()
	w := managedtest.New(t, managedtest.Options{})
	remove(t, w.Engine(), alice)
	_, err := w.Engine().List(t.Context(), alice, "")
	if !errors.Is(err, credential.ErrAccountDeleted) {
		t.Errorf("the error is %v", err)
	}
	if w.Mail.Count(fake.CreatePod) != 0 {
		t.Error("I5: something was provisioned")
	}
}
