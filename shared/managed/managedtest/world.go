// Package managedtest is the world in which the engine is tested: AWS's own DynamoDB Local, servers
// that stand in for KMS, Secrets Manager and AgentMail, a proxy before each of them that injects
// faults and counts calls, and a clock that the test moves.
package managedtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
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

// Clock is a clock that stands still until it is moved.
type Clock struct {
	mu     sync.Mutex
	now    time.Time
	events []event
}

// event is what is to happen at a time.
type event struct {
	at time.Time
	do func()
}

// Now is the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock on, and lets happen on the way what is to happen.
func (c *Clock) Advance(d time.Duration) {
	end := c.Now().Add(d)
	for {
		next := c.moveTowards(end)
		if next == nil {
			return
		}
		next()
	}
}

// moveTowards moves the clock to the next event, which it takes off the list and returns, or else
// to the end.
func (c *Clock) moveTowards(end time.Time) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := -1
	for i, e := range c.events {
		if !e.at.After(end) && (next < 0 || e.at.Before(c.events[next].at)) {
			next = i
		}
	}
	if next < 0 {
		if end.After(c.now) {
			c.now = end
		}
		return nil
	}
	e := c.events[next]
	c.events = slices.Delete(c.events, next, next+1)
	if e.at.After(c.now) {
		c.now = e.at
	}
	return e.do
}

// At has something done when the clock gets to that time.
func (c *Clock) At(at time.Time, do func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, event{at, do})
}

// forget drops what was to happen.
func (c *Clock) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = nil
}

// LastEvent is when the last thing is to happen; zero if nothing is.
func (c *Clock) LastEvent() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	var last time.Time
	for _, e := range c.events {
		if e.at.After(last) {
			last = e.at
		}
	}
	return last
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
	// Waits has the engines wait for a third party by moving the clock. Else they do not wait for
	// it: the test alone moves the clock.
	Waits bool
	// Beside is a world whose AgentMail and clock this one shares; nil for one of its own. The
	// deployment is another.
	Beside *World
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
	mail := httptest.NewServer(w.Mail)
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
		OrgKeys:   keys,
		Seal:      w.sealer(url(w.KMS)),
		Users:     users,
		Lease:     w.options.Lease,
		Budget:    w.options.Budget,
		Holdback:  w.options.Holdback,
		GoneFloor: config.DefaultGoneFloor,
		GoneShare: config.DefaultGoneShare,
		Now:       now,
		Wait:      w.wait,
		Log:       telemetry.Logger(w.logs, slog.LevelDebug),
		Metrics:   telemetry.NewMetrics(w.logs),
	}
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

// Report makes the user's slot due for a check, as the report of a rejected key does.
func (w *World) Report(user string) {
	w.t.Helper()
	slot, _, err := w.Slot(user, Provider)
	w.check(err)
	w.check(w.Store.Postpone(context.Background(), slot, store.Wait{State: slot.State, Reason: store.ReasonReported, DueAt: w.Clock.Now()}))
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

// NextDue is when the next work is due; zero if there is none.
func (w *World) NextDue() time.Time {
	var next time.Time
	for _, item := range w.items() {
		due, ok := item["due_at"].(*types.AttributeValueMemberN)
		if !ok {
			continue
		}
		at := millis(w.t, due.Value)
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

func millis(t testing.TB, s string) time.Time {
	t.Helper()
	var n int64
	_, err := fmt.Sscan(s, &n)
	if err != nil {
		t.Fatal(err)
	}
	return time.UnixMilli(n)
}

// items is the whole table.
func (w *World) items() []map[string]types.AttributeValue {
	w.t.Helper()
	var all []map[string]types.AttributeValue
	pages := dynamodb.NewScanPaginator(w.direct, &dynamodb.ScanInput{TableName: &w.table, ConsistentRead: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, page.Items...)
	}
	return all
}

// Slot is the user's slot as it is, and whether the account is deleted.
func (w *World) Slot(user, provider string) (slot store.Slot, deleted bool, err error) {
	slots, err := w.Store.Slots(context.Background(), user, provider)
	if errors.Is(err, credential.ErrAccountDeleted) {
		return slots[provider], true, nil
	}
	return slots[provider], false, err
}

// PodUser is whose a pod is, and at which provider, by its client_id.
func PodUser(clientID string) (user, provider string) {
	provider, user, named := strings.Cut(clientID, ".")
	if !named {
		return clientID, Provider
	}
	return user, provider
}

func (w *World) deleteItem(item map[string]types.AttributeValue) {
	w.t.Helper()
	_, err := w.direct.DeleteItem(context.Background(), &dynamodb.DeleteItemInput{
		TableName: &w.table,
		Key:       map[string]types.AttributeValue{"pk": item["pk"], "sk": item["sk"]},
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// Dump is the table as a text, a line an item, ciphertexts left out.
func (w *World) Dump() string {
	var lines []string
	for _, item := range w.items() {
		pk, _ := item["pk"].(*types.AttributeValueMemberS)
		if pk.Value == "DEPLOYMENT" || pk.Value == "JOB" { // nobody's
			continue
		}
		var parts []string
		for name, value := range item {
			switch v := value.(type) {
			case *types.AttributeValueMemberS:
				parts = append(parts, name+"="+v.Value)
			case *types.AttributeValueMemberN:
				parts = append(parts, name+"="+v.Value)
			case *types.AttributeValueMemberB:
				parts = append(parts, name)
			}
		}
		slices.Sort(parts)
		lines = append(lines, strings.Join(parts, " "))
	}
	return strings.Join(lines, "\n")
}

// SetItem changes attributes of an item behind everybody's back; a nil value removes one.
func (w *World) SetItem(key store.Key, attributes map[string]types.AttributeValue) {
	w.t.Helper()
	for _, item := range w.items() {
		if item["pk"].(*types.AttributeValueMemberS).Value != key.PK || item["sk"].(*types.AttributeValueMemberS).Value != key.SK {
			continue
		}
		for name, value := range attributes {
			if value == nil {
				delete(item, name)
			} else {
				item[name] = value
			}
		}
		_, err := w.direct.PutItem(context.Background(), &dynamodb.PutItemInput{TableName: &w.table, Item: item})
		if err != nil {
			w.t.Fatal(err)
		}
		return
	}
	w.t.Fatalf("there is no item %v", key)
}

// SeedOwn stores n credentials of the user's own at a provider, behind everybody's back, with a
// cleartext that is as long as scopes.
func (w *World) SeedOwn(user, provider string, n int, scopes string) {
	w.t.Helper()
	var requests []types.WriteRequest
	for range n {
		key := store.CredentialKey(user, provider, credential.NewID())
		requests = append(requests, types.WriteRequest{PutRequest: &types.PutRequest{Item: map[string]types.AttributeValue{
			"pk":              &types.AttributeValueMemberS{Value: key.PK},
			"sk":              &types.AttributeValueMemberS{Value: key.SK},
			"v":               &types.AttributeValueMemberN{Value: "1"},
			"type":            &types.AttributeValueMemberS{Value: string(credential.OAuth2)},
			"autogpt_managed": &types.AttributeValueMemberBOOL{Value: false},
			"scopes":          &types.AttributeValueMemberS{Value: scopes},
			"secret":          &types.AttributeValueMemberB{Value: []byte("sealed")},
		}}})
	}
	for batch := range slices.Chunk(requests, store.DeleteBatch) {
		out, err := w.direct.BatchWriteItem(context.Background(), &dynamodb.BatchWriteItemInput{
			RequestItems: map[string][]types.WriteRequest{w.table: batch},
		})
		if err != nil || len(out.UnprocessedItems) > 0 {
			w.t.Fatalf("seeding credentials: %v", err)
		}
	}
}

// Key returns the user's stored key, decrypted.
func (w *World) Key(user string) credential.Secret {
	w.t.Helper()
	key, err := w.key(user, Provider)
	if err != nil {
		w.t.Fatalf("reading the stored key of %s: %v\n%s", user, err, w.Dump())
	}
	return key
}

func (w *World) key(user, provider string) (credential.Secret, error) {
	id := credential.ManagedID(provider, user)
	sealed, err := w.Store.Sealed(context.Background(), user, provider, id)
	if err != nil {
		return credential.Secret{}, err
	}
	m, err := w.Sealer().Open(context.Background(), user, provider, id, sealed.Type, sealed.Open(), sealed.Ciphertext)
	if err != nil {
		return credential.Secret{}, err
	}
	return credential.NewSecret(strings.Trim(string(m.Fields()["api_key"]), `"`)), nil
}

// ours are the keys in the pod that carry the engine's names.
func ours(user string, pod fake.Pod) []fake.Key {
	var all []fake.Key
	for _, key := range pod.Keys {
		if strings.HasPrefix(key.Name, user+"-agpt-managed.") {
			all = append(all, key)
		}
	}
	return all
}

// clientIDPrefix is what the client_ids begin with of a provider that goes for a third party of its
// own.
func clientIDPrefix(provider string) string {
	if provider == Provider {
		return ""
	}
	return provider + "."
}

// pods are those of the user at the provider.
func (w *World) pods(user, provider string) []fake.Pod {
	var all []fake.Pod
	for _, pod := range w.Mail.Pods() {
		if pod.ClientID == clientIDPrefix(provider)+user {
			all = append(all, pod)
		}
	}
	return all
}

// ExactlyOne is I1: one pod, one key of ours that AgentMail lists, and it is the one that is stored
// and works.
func (w *World) ExactlyOne(user, provider string) error {
	pods := w.pods(user, provider)
	if len(pods) != 1 {
		return fmt.Errorf("I1: %s has %d pods at %s", user, len(pods), provider)
	}
	keys := ours(user, pods[0])
	if len(keys) != 1 {
		return fmt.Errorf("I1: %s has %d keys of ours at %s: %v", user, len(keys), provider, keys)
	}
	slots, err := w.Store.Slots(context.Background(), user, provider)
	if err != nil {
		return fmt.Errorf("I1: %w", err)
	}
	slot := slots[provider]
	if slot.State != store.Ready || slot.Resource.ID != pods[0].ID || slot.Resource.KeyID != keys[0].ID {
		return fmt.Errorf("I1: the slot is %+v, but AgentMail has %+v", slot, pods[0])
	}
	key, err := w.key(user, provider)
	if err != nil {
		return fmt.Errorf("I1: reading the stored key: %w", err)
	}
	podID, keyID, ok := w.Mail.Identify(key.Reveal())
	if !ok || podID != pods[0].ID || keyID != keys[0].ID {
		return errors.New("I1: the stored key is not the listed one")
	}
	return nil
}

// NothingLeft is I2: no pod, no key, and no item but the tombstone.
func (w *World) NothingLeft(user string) error {
	for _, pod := range w.Mail.Pods() {
		if pod.ClientID == user || strings.HasSuffix(pod.ClientID, "."+user) {
			return fmt.Errorf("I2: a pod of %s is left: %+v", user, pod)
		}
	}
	tombstones := 0
	for _, item := range w.items() {
		if item["pk"].(*types.AttributeValueMemberS).Value != "USER#"+user {
			continue
		}
		if item["sk"].(*types.AttributeValueMemberS).Value != "ACCOUNT" {
			return fmt.Errorf("I2: of %s an item is left", user)
		}
		tombstones++
	}
	if tombstones != 1 {
		return fmt.Errorf("I2: %s has %d tombstones", user, tombstones)
	}
	return nil
}

// CheckExactlyOne fails the test where ExactlyOne does.
func (w *World) CheckExactlyOne(user string) {
	w.t.Helper()
	w.check(w.ExactlyOne(user, Provider))
}

// CheckNothingLeft fails the test where NothingLeft does.
func (w *World) CheckNothingLeft(user string) {
	w.t.Helper()
	w.check(w.NothingLeft(user))
}

// CheckNoPod fails the test if the user has a pod left at AgentMail.
func (w *World) CheckNoPod(user string) {
	w.t.Helper()
	if left := w.pods(user, Provider); len(left) > 0 {
		w.t.Fatalf("%s has the pods %+v\n%s", user, left, w.logs)
	}
}

func (w *World) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v\n%s\n%s", err, w.Dump(), w.logs)
	}
}

// secretForm is that of AgentMail's keys.
var secretForm = regexp.MustCompile(`am_[a-z]{2}_[0-9a-f]{64}`)

// checkLogs is I7 as far as logs and metrics go.
func (w *World) checkLogs() {
	if secretForm.MatchString(w.logs.String()) {
		w.t.Errorf("I7: a secret was logged:\n%s", w.logs)
	}
}

// Logs is what the engines have logged so far, metrics included.
func (w *World) Logs() string { return w.logs.String() }

// lockedBuffer is a buffer for several writers.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// AgentMail is AgentMail as a provider of any name. Under a name other than Provider it goes for a
// third party of its own: its pods' client_ids begin with that name and a dot.
func AgentMail(t testing.TB, url, name string) managed.Provider {
	t.Helper()
	return PacedAgentMail(t, url, name, 0)
}

// PacedAgentMail is AgentMail with a rate that is set, in calls a second.
func PacedAgentMail(t testing.TB, url, name string, rate float64) managed.Provider {
	t.Helper()
	p, err := agentmail.New(agentmail.Config{BaseURL: url, ClientIDPrefix: clientIDPrefix(name), Rate: rate})
	if err != nil {
		t.Fatal(err)
	}
	return named{p, name, rate}
}

// adopter is a provider with whose third party another service has made something, too.
type adopter struct{ named }

// Adopts implements managed.Adopter.
func (adopter) Adopts() bool { return true }

// named is a provider under another name.
type named struct {
	*agentmail.Provider
	name string
	rate float64
}

func (n named) Name() string { return n.name }

// Rate implements managed.Paced.
func (n named) Rate() float64 { return n.rate }
