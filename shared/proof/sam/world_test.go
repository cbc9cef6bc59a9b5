package sam

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"

	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	awssecrets "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"

	"managed-credentials/shared/config"
	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/dynamodb"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/standin"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/orgkey"
	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/seal"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
	"managed-credentials/shared/userpool"
)

// The events are all about one user and one pool.
const (
	userID = "5f0c1e5e-3b0a-4f0e-9a55-0d6a1c9e7b11"
	// otherID and thirdID are other users.
	otherID  = "c3a1f6d2-7f4e-4b0b-8f61-2a9d5e4c8b77"
	thirdID  = "9d0e7b64-2c1f-4a58-b3d7-6e5f4a3b2c1d"
	fourthID = "1f2e3d4c-5b6a-4798-8a9b-0c1d2e3f4a5b"
	// ownID is the user's own credential.
	ownID  = "0b9f3f0e-6f3a-4f4e-8a3b-1c2d3e4f5a6b"
	poolID = "us-east-1_Example01"
)

// As the resources are called in the template.
const (
	deletionsFailed = "https://sqs.us-east-1.amazonaws.com/111122223333/AccountDeletionsFailed"
	userCleanup     = "UserCleanup"
)

// budget is what a list may take to provision: more than the default, since the machine may be
// busy.
const budget = 10 * time.Second

// world is what one event meets: a table of its own and stand-ins of its own, so that events may
// run at the same time and in any order.
type world struct {
	t      *testing.T
	values map[string]string
	// acting is the role of the function that is being invoked, nil if none is.
	acting atomic.Pointer[role]

	// queue has one queue, of what failed for good, and redriven is what the functions had
	// user-cleanup invoked with.
	queue    *standin.Queues
	redriven []string

	// before is the table a minute ago.
	before *store.Store
	mail   *fake.Server
	pool   *standin.Pool
	users  *userpool.Pool
	table  *store.Store
	sealer *seal.Sealer
	config managed.Config
}

// ownKeys is what the names of the providers' own secrets begin with. There are none: the org key
// is in the one of all, so that both are asked for.
const ownKeys = "example/org-keys/"

// newWorld makes one in which nothing exists yet but the org key and one system credential, for
// openai.
func newWorld(t *testing.T, database *dynamodb.Server, definition *awsdynamodb.CreateTableInput, d *docker) *world {
	t.Helper()
	const (
		region = "us-east-1"
		keyID  = "4b8f2a36-6f0e-4c8e-9f43-0d7d9a1c2e55"
		// As the resources are called in the template.
		orgKeys    = "OrgKeys"
		systemKeys = "SystemKeys"
	)
	name := "test-" + uuid.NewString()
	client := database.Client(region)
	err := dynamodb.CreateTable(t.Context(), client, name, definition)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		t:     t,
		queue: standin.NewQueues(standin.QueuesConfig{Queues: []string{deletionsFailed}}),
		mail:  fake.New(fake.Config{}),
		pool:  standin.NewPool(standin.PoolConfig{UserPoolID: poolID}),
	}
	here := map[string]string{}
	w.values = map[string]string{
		"TABLE_NAME":                   name,
		"KMS_KEY_ID":                   keyID,
		"ORG_KEYS_PREFIX":              ownKeys,
		"ORG_KEYS_SECRET_ID":           orgKeys,
		"SYSTEM_KEYS_SECRET_ID":        systemKeys,
		"SYSTEM_CREDENTIALS":           `{"openai":"Use Credits for OpenAI"}`,
		"SEAL_OPEN_FIELDS":             "true",
		"SUSPENSION":                   "true",
		"SUSPENDED_KEYS_LIVE":          "168h",
		"AGENTMAIL_ADOPTS":             "true",
		"MANAGED_PROVIDERS":            `{"agent_mail":{"mode":"auto","opt_out":true,"replace":"1h"}}`,
		"USER_POOL_ID":                 poolID,
		"PROVISION_BUDGET":             budget.String(),
		"JWT_ISSUER":                   "https://auth.example.com",
		"JWT_AUDIENCE":                 "example-api",
		"MANAGED_LOGIN_URL":            "https://example.auth.us-east-1.amazoncognito.com",
		"USER_POOL_CLIENT_ID":          "exampleclient",
		"BRAND_NAME":                   "Example",
		"BRAND_LOGO_URL":               "https://example.com/logo.svg",
		"BRAND_ACCENT":                 "#00a37a",
		"SUPPORT_URL":                  "mailto:help@example.com",
		"ACCOUNT_DELETIONS_FAILED_URL": deletionsFailed,
		"USER_CLEANUP_FUNCTION":        userCleanup,
	}
	origin, err := url.Parse(database.URL())
	if err != nil {
		t.Fatal(err)
	}
	for variable, handler := range map[string]http.Handler{
		"AWS_ENDPOINT_URL_DYNAMODB": httputil.NewSingleHostReverseProxy(origin), // DynamoDB Local may listen where containers do not reach
		"AWS_ENDPOINT_URL_KMS":      standin.NewKMS(standin.Key{ID: keyID}),
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": standin.NewSecrets(map[string]string{
			orgKeys:    `{"agent_mail":"` + fake.OrgKey + `"}`,
			systemKeys: `{"openai":"not-a-real-system-key"}`,
		}),
		"AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER": w.pool,
		"AWS_ENDPOINT_URL_SQS":                       w.queue,
		"AWS_ENDPOINT_URL_LAMBDA":                    http.HandlerFunc(w.invoke),
	} {
		here[variable], w.values[variable] = serve(t, w.behindRole(handler), d)
	}
	here["AGENTMAIL_BASE_URL"], w.values["AGENTMAIL_BASE_URL"] = serve(t, w.mail, d)
	t.Cleanup(w.mail.Close)

	cfg := aws.Config{Region: region, Credentials: credentials.NewStaticCredentialsProvider("local", "local", "")}
	w.table = store.New(client, name, nil)
	w.before = store.New(client, name, aMinuteAgo)
	w.sealer = seal.New(awskms.NewFromConfig(cfg, func(o *awskms.Options) { o.BaseEndpoint = aws.String(here["AWS_ENDPOINT_URL_KMS"]) }), keyID)
	w.users = userpool.New(cognitoidentityprovider.NewFromConfig(cfg, func(o *cognitoidentityprovider.Options) {
		o.BaseEndpoint = aws.String(here["AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER"])
	}), poolID)
	provider, err := agentmail.New(agentmail.Config{BaseURL: here["AGENTMAIL_BASE_URL"]})
	if err != nil {
		t.Fatal(err)
	}
	keys := orgkey.New(awssecrets.NewFromConfig(cfg, func(o *awssecrets.Options) {
		o.BaseEndpoint = aws.String(here["AWS_ENDPOINT_URL_SECRETS_MANAGER"])
	}), orgKeys, nil)
	w.config = managed.Config{
		Store:     w.table,
		Providers: []managed.Provider{provider},
		OrgKeys:   keys,
		Seal:      w.sealer,
		Lease:     config.DefaultLease,
		Budget:    budget,
		Log:       slog.New(slog.DiscardHandler),
		Metrics:   telemetry.NewMetrics(io.Discard),
	}
	return w
}

// serve serves h for containers and for this process, and returns the origins at which each finds
// it.
func serve(t *testing.T, h http.Handler, d *docker) (here, there string) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(d.listen, "0"))
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String()) // what a listener says always splits
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	s.Start()
	t.Cleanup(s.Close)
	return s.URL, "http://" + net.JoinHostPort(d.reach, port)
}

// variables writes the file with which SAM gives the functions their variables: to each those that
// the template names.
func (w *world) variables(t *testing.T) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{"Parameters": w.values})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "variables.json")
	err = os.WriteFile(file, text, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// invoke stands in for Lambda's API: it notes the event that a function is invoked with, which has
// events of its own to be tested with.
func (w *world) invoke(out http.ResponseWriter, r *http.Request) {
	event, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Error(err)
	}
	w.redriven = append(w.redriven, string(event))
	_, _ = io.WriteString(out, nothingLeft)
}

// ownKey is the user's own credential as the tests make it.
const ownKey = "not-a-real-key"

// own gives the user an API key of their own.
func (w *world) own(provider string) {
	w.t.Helper()
	title := "Test key"
	sealed, err := w.sealer.Seal(w.t.Context(), userID, provider, ownID, credential.APIKeyMaterial(credential.NewSecret(ownKey)))
	if err != nil {
		w.t.Fatal(err)
	}
	m := credential.Metadata{ID: ownID, Provider: provider, Type: credential.APIKey, Title: &title}
	_, err = w.table.Create(w.t.Context(), userID, m, sealed)
	if err != nil {
		w.t.Fatal(err)
	}
}

// managed gives a user their managed credential.
func (w *world) managed(user string) {
	w.t.Helper()
	w.list(user, 0)
	w.hasManaged(user)
}

// failed makes the provisioning of a user's managed credential fail, so long ago that another try
// is due.
func (w *world) failed(user string) {
	w.t.Helper()
	w.mail.Inject(fault.Rule{Op: fake.CreatePod, Fault: fake.Status(http.StatusInternalServerError)})
	w.list(user, time.Hour)
	w.mail.ClearFaults()
}

// buried is an account whose tombstone is written, and whose one slot is marked.
func (w *world) buried() {
	w.t.Helper()
	w.account()
	_, err := w.table.Bury(w.t.Context(), userID, userID)
	if err != nil {
		w.t.Fatal(err)
	}
	err = w.table.MarkRevoking(w.t.Context(), store.SlotKey(userID, agentmail.Name), time.Time{})
	if err != nil {
		w.t.Fatal(err)
	}
}

func aMinuteAgo() time.Time { return time.Now().Add(-time.Minute) }

// removed is an account that was deleted a minute ago, with its pod: what is left to do is a last
// look, and to remove the user from the pool.
func (w *world) removed() {
	w.t.Helper()
	w.account()
	_, err := w.before.Bury(w.t.Context(), userID, userID)
	if err != nil {
		w.t.Fatal(err)
	}
	c := w.config
	c.Store, c.Now = w.before, aMinuteAgo
	engine, err := managed.New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	_, _, err = engine.DeleteAccount(w.t.Context(), userID, "")
	if err != nil {
		w.t.Fatal(err)
	}
	w.lost()
	w.slotIs(store.Revoking)
}

// tombstoneAlone is an account of which a deletion has written the tombstone, and nothing else
// done: a credential is still there.
func (w *world) tombstoneAlone(user string) {
	w.t.Helper()
	_, err := w.table.Create(w.t.Context(), user, credential.Metadata{ID: ownID, Provider: "openai", Type: credential.APIKey}, []byte("sealed"))
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = w.before.Bury(w.t.Context(), user, "", agentmail.Name)
	if err != nil {
		w.t.Fatal(err)
	}
}

// parked is a buried account whose revocation was put aside.
func (w *world) parked() {
	w.t.Helper()
	w.buried()
	err := w.table.Postpone(w.t.Context(), w.read().Slots[agentmail.Name], store.Wait{State: store.Parked, Reason: "permanent", DueAt: time.Now().Add(time.Hour)})
	if err != nil {
		w.t.Fatal(err)
	}
}

// pinnedElsewhere has the deployment make things in another organisation than the org key's.
func (w *world) pinnedElsewhere() {
	w.t.Helper()
	err := w.table.NameDeployment(w.t.Context(), "aaaa2222")
	if err == nil {
		err = w.table.PinOrganization(w.t.Context(), agentmail.Name, "another one")
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// amiss makes what an audit has to find: an account of which the table holds the tombstone alone,
// and AgentMail a pod; and another user's key that somebody removed there.
func (w *world) amiss() {
	w.t.Helper()
	_, err := w.table.Bury(w.t.Context(), userID, "")
	if err != nil {
		w.t.Fatal(err)
	}
	w.mail.SeedPod(fake.Pod{ClientID: userID, Name: userID + "-pod"})
	w.managed(otherID)
	pod, _ := w.mail.Pod(otherID)
	r := httptest.NewRequestWithContext(w.t.Context(), http.MethodDelete, "/v0/pods/"+pod.ID+"/api-keys/"+pod.Keys[0].ID, nil)
	r.Header.Set("Authorization", "Bearer "+fake.OrgKey)
	removed := httptest.NewRecorder()
	w.mail.ServeHTTP(removed, r)
	if removed.Code != http.StatusNoContent {
		w.t.Fatalf("removing a key: %d %s", removed.Code, removed.Body)
	}
}

// slotIs checks the state of the user's slot; Absent: there is none.
func (w *world) slotIs(state store.State) {
	w.t.Helper()
	slot := w.read().Slots[agentmail.Name]
	if slot.State != state {
		w.t.Errorf("the slot is %+v, want it %s", slot, state)
	}
}

// dueAtOnce checks that the slot waits no more.
func (w *world) dueAtOnce() {
	w.t.Helper()
	slot := w.read().Slots[agentmail.Name]
	if slot.DueAt.After(time.Now()) {
		w.t.Errorf("the slot is %+v, want it due", slot)
	}
}

// rotated has the user's key replaced by another one, with an hour's overlap.
func (w *world) rotated() {
	w.t.Helper()
	w.managed(userID)
	engine, err := managed.New(w.config)
	if err == nil {
		err = engine.Rotate(w.t.Context(), managed.Rotation{User: userID, Provider: agentmail.Name, Overlap: time.Hour})
	}
	if err == nil {
		_, err = engine.Reconcile(w.t.Context())
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if slot := w.read().Slots[agentmail.Name]; slot.Retiring.KeyID == "" {
		w.t.Fatalf("the slot is %+v, want one with a retiring key", slot)
	}
}

// suspended has the user suspended by an operator, with work that waits.
func (w *world) suspended() {
	w.t.Helper()
	w.managed(userID)
	slot := w.read().Slots[agentmail.Name]
	c := w.config
	c.Suspends = true
	engine, err := managed.New(c)
	if err == nil {
		err = w.table.Postpone(w.t.Context(), slot, store.Wait{State: slot.State, Reason: store.ReasonReported, DueAt: time.Now()})
	}
	if err == nil {
		err = engine.Suspend(w.t.Context(), userID, managed.Order{By: "somebody@example.com", Reason: "an abuse report"})
	}
	if err == nil {
		_, err = engine.Reconcile(w.t.Context())
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if slot := w.read().Slots[agentmail.Name]; slot.Reason != store.ReasonSuspended || !slot.DueAt.After(time.Now()) {
		w.t.Fatalf("the slot is %+v, want one that waits", slot)
	}
}

// disabled has a user suspended because they are disabled in the user pool.
func (w *world) disabled(user string) {
	w.t.Helper()
	err := w.table.Suspend(w.t.Context(), user, store.Suspension{By: store.ByCognito})
	if err != nil {
		w.t.Fatal(err)
	}
}

// isSuspended checks that the user is suspended, and has what they had.
func (w *world) isSuspended() {
	w.t.Helper()
	account := w.read()
	if !errors.Is(account.Refused, credential.ErrAccountSuspended) || account.Slots[agentmail.Name].State != store.Ready || len(w.mail.Pods()) != 1 {
		w.t.Errorf("the account is %+v", account)
	}
}

// rotates checks that another key is asked for, and that none retires later than now.
func (w *world) rotates() {
	w.t.Helper()
	slot := w.read().Slots[agentmail.Name]
	if !slot.Rotates || slot.DueAt.After(time.Now()) || slot.Retiring.At.After(time.Now()) {
		w.t.Errorf("the slot is %+v, want one whose key is to be replaced", slot)
	}
}

// rotatesAll gives the user a managed credential, and has all keys of its provider be replaced from
// that time on.
func (w *world) rotatesAll(from time.Time) {
	w.t.Helper()
	w.list(userID, time.Hour)
	c := w.config
	c.Now = func() time.Time { return from }
	engine, err := managed.New(c)
	if err == nil {
		_, err = engine.RotateAll(w.t.Context(), managed.RotationOfAll{Provider: agentmail.Name, Order: managed.Order{By: "somebody", Reason: "a leak"}})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// draining has the provider in that mode.
func (w *world) draining() {
	w.values["MANAGED_PROVIDERS"] = `{"agent_mail":{"mode":"draining"}}`
}

// drains gives the user a managed credential, at a provider that is being drained.
func (w *world) drains() {
	w.t.Helper()
	w.managed(userID)
	w.draining()
	c := w.config
	c.Modes = map[string]managed.Mode{agentmail.Name: managed.Draining}
	engine, err := managed.New(c)
	if err == nil {
		_, err = engine.Drain(w.t.Context(), managed.DrainOrder{Provider: agentmail.Name, Order: managed.Order{By: "somebody", Reason: "the end"}})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// asksToDrain has the draining ask for the removal of what the user has.
func (w *world) asksToDrain() {
	w.t.Helper()
	w.drains()
	c := w.config
	c.Modes = map[string]managed.Mode{agentmail.Name: managed.Draining}
	engine, err := managed.New(c)
	if err == nil {
		_, err = engine.DrainsDue(w.t.Context())
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// asksAll checks that all keys are to be replaced, and nobody was asked for one yet.
func (w *world) asksAll() {
	w.t.Helper()
	job, err := w.table.Job(w.t.Context(), "ROTATION#"+agentmail.Name)
	if err != nil || job.Progress == "" || !job.LeaseUntil.IsZero() || w.read().Slots[agentmail.Name].Rotates {
		w.t.Errorf("the job is %+v, %v", job, err)
	}
}

// list lists a user's credentials, as if some time ago.
func (w *world) list(user string, ago time.Duration) {
	w.t.Helper()
	c := w.config
	c.Now = func() time.Time { return time.Now().Add(-ago) }
	engine, err := managed.New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = engine.List(w.t.Context(), user, "")
	if err != nil {
		w.t.Fatal(err)
	}
}

// account gives the user all that an account can hold, and another user theirs.
func (w *world) account() {
	w.t.Helper()
	w.own("openai")
	w.managed(userID)
	w.managed(otherID)
	w.pool.AddUser(standin.User{Username: otherID, Sub: otherID})
}

// hasManaged checks that the user has one pod with one key, and that it is the one that is stored.
func (w *world) hasManaged(user string) {
	w.t.Helper()
	pod, ok := w.mail.Pod(user)
	if !ok || len(pod.Keys) != 1 {
		w.t.Fatalf("AgentMail has for %s the pod %+v", user, pod)
	}
	slots, err := w.table.Slots(w.t.Context(), user, agentmail.Name)
	if err != nil {
		w.t.Fatal(err)
	}
	slot := slots[agentmail.Name]
	if slot.State != store.Ready || slot.Resource.ID != pod.ID || slot.Resource.KeyID != pod.Keys[0].ID {
		w.t.Errorf("the slot of %s is %+v, and AgentMail has the pod %+v", user, slot, pod)
	}
}

// keeps checks that nothing of the account has been touched.
func (w *world) keeps() {
	w.t.Helper()
	w.hasManaged(userID)
	w.holds("openai", credential.APIKey, `{"api_key":"`+ownKey+`"}`)
	w.othersKeep()
}

func (w *world) othersKeep() {
	w.t.Helper()
	w.hasManaged(otherID)
	w.inPool(otherID, true)
}

// lost checks that nothing is left of the account, but for a last look at the third party, and all
// of the other user's.
func (w *world) lost() {
	w.t.Helper()
	pod, ok := w.mail.Pod(userID)
	if ok {
		w.t.Errorf("AgentMail still has the pod %+v", pod)
	}
	account := w.read()
	for _, slot := range account.Slots {
		if slot.State != store.Revoking || slot.Reason != store.ReasonLastLook {
			w.t.Errorf("more than a last look is due of the slot %+v", slot)
		}
	}
	if !errors.Is(account.Refused, credential.ErrAccountDeleted) || len(account.Own)+len(account.Unreadable) != 0 {
		w.t.Errorf("the account holds %+v", account)
	}
	w.othersKeep()
}

// inPool checks whether the user pool has a user of that name.
func (w *world) inPool(username string, want bool) {
	w.t.Helper()
	got, err := w.users.Exists(w.t.Context(), username)
	if err != nil {
		w.t.Fatal(err)
	}
	if got != want {
		w.t.Errorf("the pool has the user %s: %v, want %v", username, got, want)
	}
}

// read is what the table holds of the user.
func (w *world) read() store.Account {
	w.t.Helper()
	account, err := w.table.Account(w.t.Context(), userID)
	if err != nil {
		w.t.Fatal(err)
	}
	return account
}

// holds checks that the user has one credential of their own, and what its secret fields are; those
// that are null are left out.
func (w *world) holds(provider string, typ credential.Type, secretFields string) {
	w.t.Helper()
	account := w.read()
	if len(account.Own) != 1 || account.Own[0].Provider != provider || account.Own[0].Type != typ {
		w.t.Fatalf("the account holds %+v", account.Own)
	}
	id := account.Own[0].ID
	sealed, err := w.table.Sealed(w.t.Context(), userID, provider, id)
	if err != nil {
		w.t.Fatal(err)
	}
	material, err := w.sealer.Open(w.t.Context(), userID, provider, id, typ, sealed.Open(), sealed.Ciphertext)
	if err != nil {
		w.t.Fatal(err)
	}
	fields := material.Fields()
	for name, value := range fields {
		if string(value) == "null" {
			delete(fields, name)
		}
	}
	got, err := json.Marshal(fields)
	if err != nil {
		w.t.Fatal(err)
	}
	if string(got) != secretFields {
		w.t.Errorf("the stored secret is %s, want %s", got, secretFields)
	}
}

// holdsNone checks that the user has no credential of their own.
func (w *world) holdsNone() {
	w.t.Helper()
	account := w.read()
	if len(account.Own) != 0 {
		w.t.Errorf("the account holds %+v", account.Own)
	}
}
