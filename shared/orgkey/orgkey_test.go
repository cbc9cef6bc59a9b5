package orgkey_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssecrets "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/standin"
	"managed-credentials/shared/orgkey"
)

const (
	secretID = "org-keys"
	provider = "agent_mail"
	oldKey   = "am_org_old"
	newKey   = "am_org_new"
)

// setup is Secrets Manager behind a proxy, and keys with a clock that the test moves.
type setup struct {
	secrets *standin.Secrets
	proxy   *fault.Proxy
	client  *awssecrets.Client
	*orgkey.Keys

	mu  sync.Mutex
	now time.Time
}

func start(t testing.TB, secret string) *setup {
	t.Helper()
	s := &setup{secrets: standin.NewSecrets(nil), now: time.UnixMilli(1_800_000_000_000)}
	s.secrets.Put(secretID, secret)
	target := httptest.NewServer(s.secrets)
	t.Cleanup(target.Close)
	s.proxy = fault.New(target.URL)
	server := httptest.NewServer(s.proxy)
	t.Cleanup(server.Close)
	s.client = awssecrets.New(awssecrets.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(server.URL),
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
		Retryer:      aws.NopRetryer{},
	})
	s.Keys = orgkey.New(s.client, secretID, s.clock)
	return s
}

func (s *setup) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *setup) advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

// put makes the key the provider's current one.
func (s *setup) put(key string) { s.secrets.Put(secretID, secretOf(key)) }

func secretOf(key string) string { return fmt.Sprintf(`{%q: %q, "other": "key"}`, provider, key) }

func (s *setup) fail() { s.proxy.SetHook(func(*fault.Call) fault.Fault { return fault.Drop() }) }
func (s *setup) heal() { s.proxy.SetHook(nil) }

func (s *setup) wantKey(t *testing.T, want string) {
	t.Helper()
	got, err := s.Key(t.Context(), provider)
	if err != nil || got.Reveal() != want {
		t.Errorf("the key is %q, %v, want %q", got.Reveal(), err, want)
	}
}

func (s *setup) wantRefreshed(t *testing.T, rejected, want string) {
	t.Helper()
	got, err := s.Refresh(t.Context(), provider, credential.NewSecret(rejected))
	if err != nil || got.Reveal() != want {
		t.Errorf("after the rejection of %q the key is %q, %v, want %q", rejected, got.Reveal(), err, want)
	}
}

// wantFault checks that there is no key, for a reason that is not that none is configured.
func wantFault(t *testing.T, key credential.Secret, err error) {
	t.Helper()
	if err == nil || errors.Is(err, orgkey.ErrNone) || !key.Empty() {
		t.Errorf("got the key %q, %v, want a fault", key.Reveal(), err)
	}
}

// wantFetches checks how often Secrets Manager was asked since the start, and that it was asked for
// the current version.
func (s *setup) wantFetches(t *testing.T, want int) {
	t.Helper()
	calls := s.proxy.Calls()
	if len(calls) != want {
		t.Errorf("there were %d calls, want %d", len(calls), want)
	}
	for _, call := range calls {
		var request struct {
			SecretID     string `json:"SecretId"`
			VersionStage string
		}
		err := json.Unmarshal(call.Body, &request)
		if err != nil || call.Op != "GetSecretValue" || request.SecretID != secretID || request.VersionStage != "AWSCURRENT" {
			t.Errorf("%s asked for %+v, %v", call.Op, request, err)
		}
	}
}

func TestOneFetchServesManyCalls(t *testing.T) {
	t.Parallel()
	s := start(t, secretOf(oldKey))
	s.wantFetches(t, 0)
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() { s.wantKey(t, oldKey) })
	}
	callers.Wait()
	other, err := s.Key(t.Context(), "other")
	if err != nil || other.Reveal() != "key" {
		t.Errorf("the other key is %q, %v", other.Reveal(), err)
	}
	s.wantFetches(t, 1)
}

func TestKeysAreFetchedAgainAfterFiveMinutes(t *testing.T) {
	t.Parallel()
	s := start(t, secretOf(oldKey))
	s.wantKey(t, oldKey)
	s.put(newKey)
	s.advance(5*time.Minute - time.Nanosecond)
	s.wantKey(t, oldKey)
	s.wantFetches(t, 1)
	s.advance(time.Nanosecond)
	s.wantKey(t, newKey)
	s.wantFetches(t, 2)
	s.advance(time.Minute)
	s.wantKey(t, newKey)
	s.wantFetches(t, 2)
}

func TestKeysThatCannotBeFetchedAgainAreUsedOn(t *testing.T) {
	t.Parallel()
	s := start(t, secretOf(oldKey))
	s.wantKey(t, oldKey)
	s.put(newKey)
	s.fail()
	for range 3 {
		s.advance(time.Hour)
		s.wantKey(t, oldKey)
	}
	s.wantFetches(t, 4)
	s.heal()
	s.advance(5 * time.Second)
	s.wantKey(t, newKey)
}

func TestASecretThatWasBrokenIsNoReasonToForgetTheKeys(t *testing.T) {
	t.Parallel()
	s := start(t, secretOf(oldKey))
	s.wantKey(t, oldKey)
	for _, broken := range []string{`null`, `[]`, `{`, ``} {
		s.secrets.Put(secretID, broken)
		s.advance(time.Hour)
		s.wantKey(t, oldKey)
	}
	s.wantFetches(t, 5)
}

func TestAFaultIsRememberedForFiveSeconds(t *testing.T) {
	t.Parallel()
	s := start(t, secretOf(oldKey))
	s.fail()
	key, err := s.Key(t.Context(), provider)
	wantFault(t, key, err)
	s.heal()
	s.advance(5*time.Second - time.Nanosecond)
	for range 3 {
		key, err := s.Key(t.Context(), provider)
		wantFault(t, key, err)
	}
	s.wantFetches(t, 1)
	s.advance(time.Nanosecond)
	s.wantKey(t, oldKey)
	s.wantFetches(t, 2)
}

// A list must not pay for a fault again and again, also while it has keys to go on with.
func TestAFaultIsRememberedWhereOldKeysAreUsedOn(t *testing.T) {
	t.Parallel()
	s := start(t, secretOf(oldKey))
	s.wantKey(t, oldKey)
	s.fail()
	s.advance(5 * time.Minute)
	for range 3 {
		s.wantKey(t, oldKey)
	}
	s.wantFetches(t, 2)
}

func TestRefreshFetchesAtOnce(t *testing.T) {
	t.Parallel()
	s := start(t, secretOf(oldKey))
	s.wantKey(t, oldKey)
	s.put(newKey)
	s.wantRefreshed(t, oldKey, newKey)
	s.wantFetches(t, 2)
	s.wantKey(t, newKey)
	s.wantFetches(t, 2)
}

func TestRefreshDoesNotFetchAgainIfSomebodyHas(t *testing.T) {
	t.Parallel()
	s := start(t, secretOf(oldKey))
	s.wantKey(t, oldKey)
	s.put(newKey)
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() { s.wantRefreshed(t, oldKey, newKey) })
	}
	callers.Wait()
	s.wantFetches(t, 2)
}

func TestRefreshGivesTheSameKeyIfNoneTookItsPlace(t *testing.T) {
	t.Parallel()
	s := start(t, secretOf(oldKey))
	s.wantKey(t, oldKey)
	s.wantRefreshed(t, oldKey, oldKey)
	s.wantFetches(t, 2)
	// The time counts from the refresh.
	s.advance(4 * time.Minute)
	s.wantRefreshed(t, oldKey, oldKey)
	s.advance(4 * time.Minute)
	s.wantKey(t, oldKey)
	s.wantFetches(t, 3)
}

func TestRefreshFetchesWhereNothingHasBeenFetched(t *testing.T) {
	t.Parallel()
	s := start(t, secretOf(newKey))
	s.wantRefreshed(t, oldKey, newKey)
	s.wantFetches(t, 1)
}

func TestARefreshThatFailsIsAFaultAndKeepsTheKeys(t *testing.T) {
	t.Parallel()
	s := start(t, secretOf(oldKey))
	s.wantKey(t, oldKey)
	s.put(newKey)
	s.fail()
	key, err := s.Refresh(t.Context(), provider, credential.NewSecret(oldKey))
	wantFault(t, key, err)
	s.wantKey(t, oldKey)
	s.heal()
	s.advance(5 * time.Second)
	s.wantRefreshed(t, oldKey, newKey)
}

func TestAProviderWithoutKeyHasNone(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{`{}`, `{"other": "key"}`, `{"agent_mail": ""}`, `{"agent_mail": null}`, `{"Agent_Mail": "key"}`} {
		s := start(t, secret)
		key, err := s.Key(t.Context(), provider)
		if !errors.Is(err, orgkey.ErrNone) || !key.Empty() {
			t.Errorf("of %s the key is %q, %v", secret, key.Reveal(), err)
		}
		key, err = s.Refresh(t.Context(), provider, credential.NewSecret(oldKey))
		if !errors.Is(err, orgkey.ErrNone) || !key.Empty() {
			t.Errorf("of %s the key is %q after a refresh, %v", secret, key.Reveal(), err)
		}
	}
}

// A key that was taken out of the secret is not used on: that is no fault.
func TestAKeyThatWasRemovedIsGone(t *testing.T) {
	t.Parallel()
	s := start(t, secretOf(oldKey))
	s.wantKey(t, oldKey)
	s.secrets.Put(secretID, `{}`)
	key, err := s.Refresh(t.Context(), provider, credential.NewSecret(oldKey))
	if !errors.Is(err, orgkey.ErrNone) || !key.Empty() {
		t.Errorf("the key is %q, %v", key.Reveal(), err)
	}
}

func TestAMalformedSecretIsAFaultWithoutItsText(t *testing.T) {
	t.Parallel()
	const want = "the secret org-keys: is not a JSON object of provider names and keys"
	for _, secret := range []string{
		``, `null`, `Zj7q`, `"Zj7q"`, `["Zj7q"]`, `5`, `{"agent_mail": "Zj7q"`, `{"agent_mail": "Zj7q",}`, `{"agent_mail": Zj7q}`,
		`{"agent_mail": "Zj7q"} Zj7q`, `{'agent_mail': 'Zj7q'}`, "{\"agent_mail\": \"Zj7q\n\"}",
		"\ufeff\ufeff" + `{"agent_mail": "Zj7q"}`,
	} {
		s := start(t, secret)
		key, err := s.Key(t.Context(), provider)
		wantFault(t, key, err)
		if err == nil || err.Error() != want {
			t.Errorf("of %s: %v", secret, err)
		}
		key, err = s.Refresh(t.Context(), provider, credential.NewSecret(oldKey))
		wantFault(t, key, err)
	}
}

func TestWhiteSpaceAroundAKeyIsTakenOff(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`am_org_old\n`, `am_org_old\r\n`, ` am_org_old `, `\t\nam_org_old`, `\u00a0am_org_old\u2028\u0085`} {
		s := start(t, `{"agent_mail": "`+text+`"}`)
		s.wantKey(t, oldKey)
	}
	s := start(t, "\ufeff \r\n"+secretOf(oldKey)+"\r\n")
	s.wantKey(t, oldKey)
}

// unusable are entries that can be no key.
var unusable = []string{
	`5`, `true`, `{"key": "Zj7q"}`, `["Zj7q"]`, `"Zj7q\nZj7q"`, `"Zj7q\u0000"`, `"Zj7q\u007f"`, `"Zj7q\u200b"`, `"\ufeffZj7q"`, `"Zj7qé"`, `"“Zj7q”"`,
	`"Zj7q\ud800"`, `"Zj7q\tZj7q"`, `"Zj7q", "agent_mail": "Zj7q"`, `"", "agent_mail": "Zj7q"`, `"Zj7q", "agent_mail": null`,
}

func TestAnEntryThatCanBeNoKeyMakesItsOwnProviderGoWithout(t *testing.T) {
	t.Parallel()
	for _, value := range unusable {
		s := start(t, `{"agent_mail": `+value+`, "other": "key"}`)
		key, err := s.Key(t.Context(), provider)
		wantUnusable(t, key, err)
		key, err = s.Refresh(t.Context(), provider, credential.NewSecret(oldKey))
		wantUnusable(t, key, err)
		other, err := s.Key(t.Context(), "other")
		if err != nil || other.Reveal() != "key" {
			t.Errorf("beside %s the other key is %q, %v", value, other.Reveal(), err)
		}
	}
}

// wantUnusable checks that there is no key, for a reason that names the entry, and not what it
// holds.
func wantUnusable(t *testing.T, key credential.Secret, err error) {
	t.Helper()
	wantFault(t, key, err)
	if !errors.Is(err, orgkey.ErrUnusable) || !strings.Contains(err.Error(), `"agent_mail" of the secret org-keys`) || strings.Contains(err.Error(), "Zj7q") {
		t.Errorf("the error is %v", err)
	}
}

// A mistake in typing is no reason to forget a key that works; but once the third party rejects
// that one, the mistake is told.
func TestAnEntryThatWasBrokenIsNoReasonToForgetTheKey(t *testing.T) {
	t.Parallel()
	for _, value := range unusable {
		s := start(t, secretOf(oldKey))
		s.wantKey(t, oldKey)
		s.secrets.Put(secretID, `{"agent_mail": `+value+`}`)
		for range 2 {
			s.advance(time.Hour)
			s.wantKey(t, oldKey)
		}
		key, err := s.Refresh(t.Context(), provider, credential.NewSecret(oldKey))
		wantUnusable(t, key, err)
		s.wantRefreshed(t, newKey, oldKey)
		s.put(newKey)
		s.wantRefreshed(t, oldKey, newKey)
	}
}

func TestASecretThatCannotBeReadIsAFault(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]fault.Fault{
		"lost on the way":   fault.Drop(),
		"answer lost":       fault.LoseAnswer(),
		"throttled":         fault.Throttled(),
		"failing":           fault.AWSError(500, "InternalServiceError", ""),
		"not allowed":       fault.AWSError(400, "AccessDeniedException", "no"),
		"no such secret":    fault.AWSError(400, "ResourceNotFoundException", ""),
		"not JSON":          fault.Respond(200, nil, []byte("<html>")),
		"without any value": fault.Respond(200, nil, []byte(`{}`)),
	} {
		s := start(t, secretOf(oldKey))
		s.proxy.SetHook(func(*fault.Call) fault.Fault { return f })
		key, err := s.Key(t.Context(), provider)
		if err == nil || errors.Is(err, orgkey.ErrNone) || !key.Empty() {
			t.Errorf("%s: got the key %q, %v", name, key.Reveal(), err)
		}
	}
}

func TestADeletedSecretIsAFault(t *testing.T) {
	t.Parallel()
	s := start(t, secretOf(oldKey))
	s.secrets.MarkDeleted(secretID)
	key, err := s.Key(t.Context(), provider)
	wantFault(t, key, err)
}

// Nobody waits for a Secrets Manager that hangs, also without a deadline of their own.
func TestAFetchThatHangsEnds(t *testing.T) {
	t.Parallel()
	s := start(t, secretOf(oldKey))
	s.proxy.SetHook(func(*fault.Call) fault.Fault { return fault.Before(fault.Until(nil), nil) })
	key, err := s.Key(context.Background(), provider)
	wantFault(t, key, err)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ended with %v", err)
	}
}

func TestTheCallersContextEndsAFetch(t *testing.T) {
	t.Parallel()
	s := start(t, secretOf(oldKey))
	ctx, cancel := context.WithCancel(t.Context())
	s.proxy.SetHook(func(*fault.Call) fault.Fault {
		cancel()
		return fault.Before(fault.Until(nil), nil)
	})
	key, err := s.Key(ctx, provider)
	wantFault(t, key, err)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}

func TestKeysPrintWithoutTheirTexts(t *testing.T) {
	t.Parallel()
	s := start(t, secretOf(oldKey))
	s.wantKey(t, oldKey)
	printed := fmt.Sprintf("%v %+v %#v", s.Keys, s.Keys, s.Keys)
	if strings.Contains(printed, oldKey) {
		t.Errorf("the keys print as %s", printed)
	}
}

func TestWithoutAClockTheKeysGoByTheRealOne(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(standin.NewSecrets(map[string]string{secretID: secretOf(oldKey)}))
	t.Cleanup(server.Close)
	keys := orgkey.New(awssecrets.New(awssecrets.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(server.URL),
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
	}), secretID, nil)
	key, err := keys.Key(t.Context(), provider)
	if err != nil || key.Reveal() != oldKey {
		t.Errorf("the key is %q, %v", key.Reveal(), err)
	}
}

// A key that was put in is found within ten seconds; until then a secret without it is not fetched
// for each who asks.
func TestThatThereIsNoKeyIsRememberedForTenSeconds(t *testing.T) {
	t.Parallel()
	s := start(t, `{"other":"key"}`)
	wantNone := func() {
		t.Helper()
		_, err := s.Key(t.Context(), provider)
		if !errors.Is(err, orgkey.ErrNone) {
			t.Errorf("got %v", err)
		}
	}
	wantNone()
	s.put(newKey)
	s.advance(9 * time.Second)
	wantNone()
	s.wantFetches(t, 1)
	s.advance(2 * time.Second)
	s.wantKey(t, newKey)
	s.wantFetches(t, 2)
}
