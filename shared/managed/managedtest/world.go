// Package managedtest is the world in which the engine is tested: AWS's own DynamoDB Local, servers
// that stand in for KMS, Secrets Manager and AgentMail, a proxy before each of them that injects
// faults and counts calls, and a clock that the test moves.
package managedtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	awssecrets "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"

	"managed-credentials/shared/config"
	"managed-credentials/shared/credential"
	localdynamodb "managed-credentials/shared/local/dynamodb"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/standin"
	"managed-credentials/shared/local/template"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/orgkey"
	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/seal"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
	"managed-credentials/shared/userpool"
)

// Provider is the name of the provider in a world's engines.
const Provider = agentmail.Name

const (
	region   = "us-east-1"
	kmsKeyID = "4b8f2a36-6f0e-4c8e-9f43-0d7d9a1c2e55"
	secretID = "org-keys"
	poolID   = region + "_pool"
	orgKeys  = `{"` + Provider + `":"` + fake.OrgKey + `"}`
)

// Main runs a package's tests with one DynamoDB Local for all of them, and returns the exit code.
func Main(m *testing.M) int {
	server, err := localdynamodb.Start(context.Background(), localdynamodb.Config{Log: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer server.Stop()
	database = server
	return m.Run()
}

var database *localdynamodb.Server

// Table makes an empty table, defined as in template.yaml, and returns its name and a client for
// it.
func Table(t testing.TB) (name string, client *dynamodb.Client) {
	t.Helper()
	if database == nil {
		t.Fatal("the package's TestMain has to call managedtest.Main")
	}
	definition, err := template.Load(".")
	if err != nil {
		t.Fatal(err)
	}
	client = database.Client(region)
	name = "test-" + uuid.NewString()
	err = localdynamodb.CreateTable(t.Context(), client, name, definition.Table)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, err := client.DeleteTable(context.Background(), &dynamodb.DeleteTableInput{TableName: &name})
		if err != nil {
			t.Error(err)
		}
	})
	return name, client
}

// Options say how a world differs from the default.
type Options struct {
	// Lease and Budget are the engines'; 0 means 60s and 5s.
	Lease, Budget time.Duration
	// Adopts has a deletion ask AgentMail for pods that another service made.
	Adopts bool
	// Holdback is how long what cannot be made again is kept after a deletion.
	Holdback time.Duration
	// Providers are the engines'; nil means AgentMail alone. They get the world's AgentMail's URL.
	Providers func(agentMailURL string) []managed.Provider
	// ThirdParty stands where AgentMail does, and goes by the world's clock; nil means AgentMail.
	// Then Providers are those that know it.
	ThirdParty func(now func() time.Time) http.Handler
	// Waits has the engines wait for a third party by moving the clock. Else they do not wait for
	// it: the test alone moves the clock.
	Waits bool
	// Beside is a world whose AgentMail and clock this one shares; nil for one of its own. The
	// deployment is another.
	Beside *World
	// MaxKeyAge is how old keys may become; 0 for as old as they like.
	MaxKeyAge time.Duration
	// SuspendedKeysLive is how long after a suspension the user's keys are revoked; 0 for never.
	SuspendedKeysLive time.Duration
	// OptOut lets the engines' users have their credential at Provider removed.
	OptOut bool
	// Unnamed leaves it to the engines to give the deployment its id.
	Unnamed bool
	// Users is the user pool of the engines; nil for none.
	Users managed.Users
	// UserPool has the engines remove users from the world's Cognito, in place of Users.
	UserPool bool
}

func (o Options) withDefaults() Options {
	if o.Lease == 0 {
		o.Lease, o.Budget = 60*time.Second, 5*time.Second
	}
	return o
}

// World is one test's.
type World struct {
	t       testing.TB
	options Options
	logs    *lockedBuffer

	// Clock is that of the engines and of AgentMail.
	Clock *Clock
	// Mail is AgentMail itself.
	Mail *fake.Server
	// Secrets is Secrets Manager itself, and Keys KMS itself.
	Secrets *standin.Secrets
	Keys    *standin.KMS
	// Pool is Cognito itself, with nobody in it.
	Pool *standin.Pool
	// The proxies before each.
	DynamoDB, KMS, SecretsManager, Cognito, AgentMail *fault.Proxy
	// DeploymentID is the deployment's, unless the engines are to give it one.
	DeploymentID string
	// Store goes past the proxy.
	Store *store.Store

	table  string
	direct *dynamodb.Client
	// mode is that of Provider, for engines that are made from now on.
	mode *atomic.Pointer[managed.Mode]
	// party is what answers behind the proxy before AgentMail.
	party *atomic.Pointer[http.Handler]
	// where each of the world's proxies is, and what it stands before
	urls, targets map[*fault.Proxy]string
}

// New makes a world in which nothing exists yet.
func New(t testing.TB, o Options) *World {
	t.Helper()
	w := &World{
		t:       t,
		options: o.withDefaults(),
		logs:    &lockedBuffer{},
		Clock:   &Clock{now: time.Now().Truncate(time.Millisecond)},
		Secrets: standin.NewSecrets(map[string]string{secretID: orgKeys}),
		Keys:    standin.NewKMS(standin.Key{ID: kmsKeyID}),
		Pool:    standin.NewPool(standin.PoolConfig{UserPoolID: poolID}),
		urls:    map[*fault.Proxy]string{},
		targets: map[*fault.Proxy]string{},
		mode:    &atomic.Pointer[managed.Mode]{},
	}
	if o.Beside != nil {
		w.Clock = o.Beside.Clock
	}
	w.Mail = fake.New(fake.Config{Now: w.Clock.Now})
	if o.Beside != nil {
		w.Mail = o.Beside.Mail
	}
	w.table, w.direct = Table(t)
	w.Store = store.New(w.direct, w.table, w.Clock.Now)
	if !o.Unnamed {
		w.DeploymentID = strings.ToLower(rand.Text()[:8])
		w.check(w.Store.NameDeployment(t.Context(), w.DeploymentID))
	}
	w.DynamoDB = w.proxy(database.URL())
	w.KMS = w.proxy(serve(t, httptest.NewServer(w.Keys)))
	w.SecretsManager = w.proxy(serve(t, httptest.NewServer(w.Secrets)))
	w.Cognito = w.proxy(serve(t, httptest.NewServer(w.Pool)))
	w.party = &atomic.Pointer[http.Handler]{}
	w.stand()
	mail := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { (*w.party.Load()).ServeHTTP(rw, r) }))
	t.Cleanup(func() {
		if o.Beside == nil {
			w.Mail.Close()
		}
		mail.Close()
	})
	w.AgentMail = w.proxy(mail.URL)
	t.Cleanup(w.checkLogs)
	return w
}

// stand has the options' third party stand where AgentMail does.
func (w *World) stand() {
	party := http.Handler(w.Mail)
	if w.options.ThirdParty != nil {
		party = w.options.ThirdParty(w.Clock.Now)
	}
	w.party.Store(&party)
}

func serve(t testing.TB, s *httptest.Server) string {
	t.Cleanup(s.Close)
	return s.URL
}

func (w *World) proxy(target string) *fault.Proxy {
	p := fault.New(target)
	w.targets[p] = target
	w.urls[p] = serve(w.t, httptest.NewServer(p))
	return p
}

// aws is a configuration of stock clients whose pauses between retries are short.
func (w *World) aws() aws.Config {
	return aws.Config{
		Region:      region,
		Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = 20 * time.Millisecond })
		},
	}
}

// Engine returns a new engine: what a new process would have, with clients and memories of its own.
func (w *World) Engine() *managed.Engine {
	w.t.Helper()
	return w.EngineAt(w.Clock.Now)
}

// EngineAt is an engine with a clock of its own.
func (w *World) EngineAt(now func() time.Time) *managed.Engine {
	w.t.Helper()
	return w.engine(w.config(now, w.url))
}

// EngineWith is an engine whose configuration was changed.
func (w *World) EngineWith(change func(*managed.Config)) *managed.Engine {
	w.t.Helper()
	c := w.config(w.Clock.Now, w.url)
	change(&c)
	return w.engine(c)
}

func (w *World) engine(c managed.Config) *managed.Engine {
	w.t.Helper()
	e, err := managed.New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// url is where the world's own proxy listens.
func (w *World) url(p *fault.Proxy) string { return w.urls[p] }

// config is of an engine that reaches each service where url says, given the world's own proxy
// before it.
func (w *World) config(now func() time.Time, url func(*fault.Proxy) string) managed.Config {
	w.t.Helper()
	cfg := w.aws()
	db := dynamodb.NewFromConfig(cfg, func(o *dynamodb.Options) {
		o.BaseEndpoint = aws.String(url(w.DynamoDB))
		o.DisableValidateResponseChecksum = true
	})
	keys := orgkey.New(awssecrets.NewFromConfig(cfg, func(o *awssecrets.Options) {
		o.BaseEndpoint = aws.String(url(w.SecretsManager))
	}), secretID, now)
	users := w.options.Users
	if w.options.UserPool {
		users = userpool.New(cognitoidentityprovider.NewFromConfig(cfg, func(o *cognitoidentityprovider.Options) {
			o.BaseEndpoint = aws.String(url(w.Cognito))
		}), poolID)
	}
	return managed.Config{
		Store:     store.New(db, w.table, now),
		Providers: w.providers(url(w.AgentMail)),
		Modes:     w.modes(),
		OptOut:    map[string]bool{Provider: w.options.OptOut},
		OrgKeys:   keys,
		Seal:      w.sealer(url(w.KMS)),
		Users:     users,
		Lease:     w.options.Lease,
		Budget:    w.options.Budget,
		Holdback:  w.options.Holdback,
		GoneFloor: config.DefaultGoneFloor,
		GoneShare: config.DefaultGoneShare,
		MaxKeyAge: w.options.MaxKeyAge,
		Suspends:  true,
		Now:       now,
		Wait:      w.wait,
		Log:       telemetry.Logger(w.logs, slog.LevelDebug),
		Metrics:   telemetry.NewMetrics(w.logs),

		SuspendedKeysLive: w.options.SuspendedKeysLive,
	}
}

// SetMode sets the mode of Provider for engines that are made from now on.
func (w *World) SetMode(mode managed.Mode) { w.mode.Store(&mode) }

func (w *World) modes() map[string]managed.Mode {
	mode := w.mode.Load()
	if mode == nil {
		return nil
	}
	return map[string]managed.Mode{Provider: *mode}
}

// errNoWait: in this world only the test moves the clock.
var errNoWait = errors.New("the clock stands still")

func (w *World) wait(ctx context.Context, d time.Duration) error {
	if !w.options.Waits {
		return errNoWait
	}
	until := w.Clock.Now().Add(d)
	w.Clock.Advance(until.Sub(w.Clock.Now())) // another waiter may have moved it by now
	return ctx.Err()
}

func (w *World) providers(url string) []managed.Provider {
	if w.options.Providers != nil {
		return w.options.Providers(url)
	}
	if w.options.Adopts {
		return []managed.Provider{adopter{AgentMail(w.t, url, Provider).(named)}}
	}
	return []managed.Provider{AgentMail(w.t, url, Provider)}
}

// Sealer is the world's, behind the proxy before KMS.
func (w *World) Sealer() *seal.Sealer { return w.sealer(w.urls[w.KMS]) }

func (w *World) sealer(url string) *seal.Sealer {
	return seal.New(awskms.NewFromConfig(w.aws(), func(o *awskms.Options) { o.BaseEndpoint = aws.String(url) }), kmsKeyID)
}

// RemoveKey deletes the key that the user's slot stores, as somebody does by hand in AgentMail's
// console.
func (w *World) RemoveKey(user string) {
	w.t.Helper()
	p, slot := w.byHand(user)
	w.check(p.Discard(context.Background(), credential.NewSecret(fake.OrgKey), slot.Resource))
}

// RemovePod deletes the user's pod and all that is in it, by hand.
func (w *World) RemovePod(user string) {
	w.t.Helper()
	p, slot := w.byHand(user)
	a := managed.NewAttempt(managed.Terms{
		User: user, Number: slot.Attempt, Stored: slot.Resource, Now: time.Now, Cutoff: time.Now().Add(time.Hour),
	})
	w.check(p.Deprovision(context.Background(), credential.NewSecret(fake.OrgKey), a))
}

func (w *World) byHand(user string) (managed.Provider, store.Slot) {
	w.t.Helper()
	slot, _, err := w.Slot(user, Provider)
	w.check(err)
	return AgentMail(w.t, w.targets[w.AgentMail], Provider), slot
}

// Report makes the user's slot due for a check, as an audit does: what is found in order stays.
func (w *World) Report(user string) {
	w.t.Helper()
	slot, _, err := w.Slot(user, Provider)
	w.check(err)
	w.check(w.Store.Postpone(context.Background(), slot, store.Wait{State: slot.State, Reason: store.ReasonAudit, DueAt: w.Clock.Now()}))
}

// MakeDue makes the user's slot due, whatever its state.
func (w *World) MakeDue(user string) {
	w.t.Helper()
	slot, _, err := w.Slot(user, Provider)
	w.check(err)
	w.check(w.Store.Postpone(context.Background(), slot, store.Wait{State: slot.State, Reason: slot.Reason, DueAt: w.Clock.Now()}))
}

// SetOrgKeys replaces the org keys secret.
func (w *World) SetOrgKeys(json string) { w.Secrets.Put(secretID, json) }

// Heal ends every fault: what the proxies and AgentMail hold back takes effect or is dropped by
// now.
func (w *World) Heal() {
	for p := range w.urls {
		p.SetHook(nil)
	}
	w.Mail.ClearFaults()
}

// maxRounds is how many rounds of reconcile convergence may take.
const maxRounds = 60

// Converge lets reconcile run, with all faults ended, until nothing is due: each round in a new
// process, the clock moved to when the next work is due.
func (w *World) Converge() {
	w.t.Helper()
	w.Heal()
	for range maxRounds {
		due := w.NextDue()
		if due.IsZero() {
			return
		}
		wait := due.Sub(w.Clock.Now()) + time.Millisecond
		if wait > 0 {
			w.Clock.Advance(wait)
		}
		_, err := w.Engine().Reconcile(context.Background())
		if err != nil {
			w.t.Fatalf("reconciling: %v\n%s", err, w.logs)
		}
	}
	w.t.Fatalf("after %d rounds there is still work due:\n%s\n%s", maxRounds, w.Dump(), w.logs)
}
