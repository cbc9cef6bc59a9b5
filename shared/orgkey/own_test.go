package orgkey_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/orgkey"
)

const prefix = secretID + "/"

// owned is Secrets Manager with a secret of all, and keys of which each has one of its own.
type owned struct {
	*setup
	*orgkey.Own
}

func startOwn(t *testing.T, shared string, fields map[string][]string) owned {
	t.Helper()
	s := start(t, shared)
	return owned{s, orgkey.NewOwn(s.client, orgkey.OwnConfig{Prefix: prefix, Shared: secretID, Fields: fields, Now: s.clock})}
}

// putOwn gives the provider a secret of its own.
func (o owned) putOwn(text string) { o.secrets.Put(prefix+provider, text) }

func (o owned) want(t *testing.T, key string) {
	t.Helper()
	got, err := o.Own.Key(t.Context(), provider)
	if err != nil || got.Reveal() != key {
		t.Errorf("the key is %q, %v, want %q", got.Reveal(), err, key)
	}
}

func (o owned) wantError(t *testing.T, want error) {
	t.Helper()
	key, err := o.Own.Key(t.Context(), provider)
	if !errors.Is(err, want) || !key.Empty() || strings.Contains(err.Error(), "Zj7q") {
		t.Errorf("the key is %q, %v", key.Reveal(), err)
	}
}

func (o owned) wantRefreshed(t *testing.T, rejected, want string) {
	t.Helper()
	got, err := o.Own.Refresh(t.Context(), provider, credential.NewSecret(rejected))
	if err != nil || got.Reveal() != want {
		t.Errorf("after the rejection of %q the key is %q, %v, want %q", rejected, got.Reveal(), err, want)
	}
}

func TestAProvidersOwnSecretWins(t *testing.T) {
	t.Parallel()
	o := startOwn(t, secretOf(oldKey), nil)
	o.putOwn("\ufeff " + newKey + "\r\n")
	o.want(t, newKey)
	if calls := o.proxy.Calls(); len(calls) != 1 {
		t.Errorf("there were %d calls", len(calls))
	}
	// It is typed anew: the other providers' keys are nobody's business there.
	o.putOwn("am_org_newer")
	o.advance(5 * time.Minute)
	o.want(t, "am_org_newer")
	other, err := o.Own.Key(t.Context(), "other")
	if err != nil || other.Reveal() != "key" {
		t.Errorf("the other key is %q, %v", other.Reveal(), err)
	}
}

func TestWhoHasNoSecretOfTheirOwnIsInTheSharedOne(t *testing.T) {
	t.Parallel()
	for name, given := range map[string]func(owned){
		"none":                func(owned) {},
		"empty":               func(o owned) { o.putOwn(" ") },
		"marked for deletion": func(o owned) { o.putOwn(newKey); o.secrets.MarkDeleted(prefix + provider) },
	} {
		o := startOwn(t, secretOf(oldKey), nil)
		given(o)
		o.want(t, oldKey)
		o.wantRefreshed(t, oldKey, oldKey)
		o = startOwn(t, `{"other":"key"}`, nil)
		given(o)
		_, err := o.Own.Key(t.Context(), provider)
		if !errors.Is(err, orgkey.ErrNone) {
			t.Errorf("%s: without any the error is %v", name, err)
		}
	}
}

func TestThatThereIsNoOwnSecretIsRememberedAsLongAsAKey(t *testing.T) {
	t.Parallel()
	o := startOwn(t, secretOf(oldKey), nil)
	for range 10 {
		o.want(t, oldKey)
		o.advance(29 * time.Second)
	}
	if calls := o.proxy.Calls(); len(calls) != 2 {
		t.Errorf("there were %d calls", len(calls))
	}
	o.putOwn(newKey)
	o.advance(10 * time.Second)
	o.want(t, newKey)
}

func TestAKeyThatTookTheSharedOnesPlaceIsFoundAtOnce(t *testing.T) {
	t.Parallel()
	o := startOwn(t, secretOf(oldKey), nil)
	o.want(t, oldKey)
	o.putOwn(newKey)
	o.wantRefreshed(t, oldKey, newKey)
	o.want(t, newKey)
	// Taken away again, the shared one is what is left.
	o.secrets.MarkDeleted(prefix + provider)
	o.wantRefreshed(t, newKey, oldKey)
	o.want(t, oldKey)
}

func TestAnOwnSecretThatCannotBeReadIsNoReasonToAskTheShared(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]fault.Fault{
		"lost on the way": fault.Drop(),
		"throttled":       fault.Throttled(),
		"failing":         fault.AWSError(500, "InternalServiceError", ""),
	} {
		o := startOwn(t, secretOf(oldKey), nil)
		o.proxy.SetHook(func(c *fault.Call) fault.Fault {
			if strings.Contains(string(c.Body), prefix) {
				return f
			}
			return nil
		})
		_, err := o.Own.Key(t.Context(), provider)
		if err == nil || errors.Is(err, orgkey.ErrNone) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

// A role that was just changed is not known everywhere at once.
func TestAnOwnSecretThatMayNotBeReadYetLeavesTheShared(t *testing.T) {
	t.Parallel()
	denied := func(c *fault.Call) fault.Fault {
		if strings.Contains(string(c.Body), prefix) {
			return fault.AWSError(400, "AccessDeniedException", "no")
		}
		return nil
	}
	o := startOwn(t, secretOf(oldKey), nil)
	o.proxy.SetHook(denied)
	o.want(t, oldKey)
	o = startOwn(t, `{}`, nil)
	o.proxy.SetHook(denied)
	_, err := o.Own.Key(t.Context(), provider)
	if err == nil || errors.Is(err, orgkey.ErrNone) {
		t.Errorf("that it may not be read is lost: %v", err)
	}
}

func TestAnOwnSecretThatCanBeNoKeyIsSaid(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{"agent_mail":"Zj7q"}`, "Zj7q\nZj7q", "Zj7q\u00e9", "\u201cZj7q\u201d", "{"} {
		o := startOwn(t, secretOf(oldKey), nil)
		o.putOwn(text)
		o.wantError(t, orgkey.ErrUnusable)
	}
	o := startOwn(t, `{}`, nil)
	o.putOwn(newKey)
	o.want(t, newKey)
	o.putOwn("Zj7q\nZj7q")
	o.advance(time.Hour)
	o.want(t, newKey) // until it is rejected
	_, err := o.Own.Refresh(t.Context(), provider, credential.NewSecret(newKey))
	if !errors.Is(err, orgkey.ErrUnusable) {
		t.Errorf("the error is %v", err)
	}
}

func TestAKeyOfSeveralFieldsIsAnObjectOfThem(t *testing.T) {
	t.Parallel()
	fields := map[string][]string{provider: {"key", "private_key"}}
	o := startOwn(t, `{}`, fields)
	o.putOwn(` {"private_key": "-----BEGIN\nline", "key":"k"} `)
	o.want(t, `{"key":"k","private_key":"-----BEGIN\nline"}`)
	for _, text := range []string{
		`Zj7q`, `{"key":"Zj7q"}`, `{"key":"Zj7q","private_key":""}`, `{"key":"Zj7q","private_key":7}`,
		`{"key":"Zj7q","private_key":"Zj7q","more":"Zj7q"}`, `{"key":"Zj7q","key":"Zj7q"}`, `{"key":"Zj7q","private_key":"Zj7q","key":"Zj7q"}`, `[]`,
	} {
		o := startOwn(t, `{}`, fields)
		o.putOwn(text)
		o.wantError(t, orgkey.ErrUnusable)
		_, err := o.Own.Key(t.Context(), provider)
		if !strings.Contains(fmt.Sprint(err), `["key" "private_key"]`) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
