package userpool_test

import (
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/standin"
	"managed-credentials/shared/userpool"
)

const (
	poolID   = "us-east-1_local"
	aliceSub = "3f0c9d52-7a64-4d0e-8a43-0b7d5a1c9e11"
	evilSub  = "9e1d6f04-52a8-4f8e-bb0b-64c1d1f3a2c7"
)

// alice is a user, and evil one who took alice's sub for a name.
var (
	alice = standin.User{Username: "alice", Sub: aliceSub}
	evil  = standin.User{Username: aliceSub, Sub: evilSub}
)

// setup is Cognito behind a proxy.
type setup struct {
	proxy *fault.Proxy
	url   string
	// target is Cognito itself.
	target *standin.Pool
	*userpool.Pool

	mu      sync.Mutex
	deleted []string // the subs
}

func start(t *testing.T, users ...standin.User) *setup {
	t.Helper()
	s := &setup{}
	s.target = standin.NewPool(standin.PoolConfig{UserPoolID: poolID, Users: users, OnDelete: func(sub, _ string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.deleted = append(s.deleted, sub)
	}})
	target := httptest.NewServer(s.target)
	t.Cleanup(target.Close)
	s.proxy = fault.New(target.URL)
	server := httptest.NewServer(s.proxy)
	t.Cleanup(server.Close)
	s.url = server.URL
	s.Pool = s.pool(poolID)
	return s
}

func (s *setup) pool(id string) *userpool.Pool {
	return userpool.New(cognitoidentityprovider.New(cognitoidentityprovider.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(s.url),
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
		Retryer:      aws.NopRetryer{},
	}), id)
}

// on lets a fault strike each call of an operation.
func (s *setup) on(op string, f fault.Fault) {
	s.proxy.SetHook(func(c *fault.Call) fault.Fault {
		if c.Op == op {
			return f
		}
		return nil
	})
}

func (s *setup) wantDeleted(t *testing.T, subs ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.deleted, subs) {
		t.Errorf("the users %q were deleted, want %q", s.deleted, subs)
	}
}

func TestRemoveRemovesTheUserOnce(t *testing.T) {
	t.Parallel()
	s := start(t, alice, standin.User{Username: "bob", Sub: "bobs-sub"})
	for range 3 {
		err := s.Remove(t.Context(), "alice", aliceSub)
		if err != nil {
			t.Fatal(err)
		}
	}
	s.wantDeleted(t, aliceSub)
	if s.proxy.Count("AdminDeleteUser") != 1 {
		t.Errorf("Cognito was asked %d times to delete somebody", s.proxy.Count("AdminDeleteUser"))
	}
}

func TestRemoveTakesNobodyForSomebodyElse(t *testing.T) {
	t.Parallel()
	s := start(t, alice)
	for _, sub := range []string{evilSub, "alice", ""} {
		err := s.Remove(t.Context(), "alice", sub)
		if err != nil {
			t.Errorf("of the sub %q: %v", sub, err)
		}
	}
	s.wantDeleted(t)
	if s.proxy.Count("AdminDeleteUser") != 0 {
		t.Error("Cognito was asked to delete somebody")
	}
}

// Once the user has gone who was named after alice's sub, that name finds alice.
func TestRemovingAUserNamedAfterAnothersSubSparesTheOther(t *testing.T) {
	t.Parallel()
	s := start(t, alice, evil)
	for range 3 {
		err := s.Remove(t.Context(), evil.Username, evil.Sub)
		if err != nil {
			t.Fatal(err)
		}
	}
	s.wantDeleted(t, evilSub)
	found, err := s.Exists(t.Context(), alice.Username)
	if err != nil || !found {
		t.Errorf("alice exists: %t, %v", found, err)
	}
}

func TestAUserWhoseNameIsTheirSubIsRemoved(t *testing.T) {
	t.Parallel()
	s := start(t, standin.User{Username: aliceSub, Sub: aliceSub})
	err := s.Remove(t.Context(), aliceSub, aliceSub)
	if err != nil {
		t.Fatal(err)
	}
	s.wantDeleted(t, aliceSub)
}

func TestAUserWhoGoesMeanwhileIsNoError(t *testing.T) {
	t.Parallel()
	s := start(t, alice)
	s.on("AdminDeleteUser", fault.Twice())
	err := s.Remove(t.Context(), "alice", aliceSub)
	if err != nil {
		t.Fatal(err)
	}
	s.wantDeleted(t, aliceSub)
}

func TestAUserWhoCannotBeLookedUpIsNotRemoved(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]fault.Fault{
		"lost":          fault.Drop(),
		"throttled":     fault.Throttled(),
		"not allowed":   fault.AWSError(400, "NotAuthorizedException", "no"),
		"no such pool":  fault.AWSError(400, "ResourceNotFoundException", ""),
		"without a sub": fault.Respond(200, nil, []byte(`{"Username": "alice", "UserAttributes": [{"Name": "email", "Value": "a@example.com"}]}`)),
		"without much":  fault.Respond(200, nil, []byte(`{}`)),
	} {
		s := start(t, alice)
		s.on("AdminGetUser", f)
		err := s.Remove(t.Context(), "alice", aliceSub)
		if err == nil {
			t.Errorf("%s: Remove returned no error", name)
		}
		found, err := s.Exists(t.Context(), "alice")
		if err == nil || found {
			t.Errorf("%s: Exists returned %t, %v", name, found, err)
		}
		s.wantDeleted(t)
		if s.proxy.Count("AdminDeleteUser") != 0 {
			t.Errorf("%s: Cognito was asked to delete somebody", name)
		}
	}
}

func TestARemovalThatFailsIsAnErrorAndMayBeRepeated(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]fault.Fault{"lost": fault.Drop(), "throttled": fault.Throttled(), "answer lost": fault.LoseAnswer()} {
		s := start(t, alice)
		s.on("AdminDeleteUser", f)
		err := s.Remove(t.Context(), "alice", aliceSub)
		if err == nil {
			t.Errorf("%s: Remove returned no error", name)
		}
		s.proxy.SetHook(nil)
		err = s.Remove(t.Context(), "alice", aliceSub)
		if err != nil {
			t.Errorf("%s: the repeat: %v", name, err)
		}
		s.wantDeleted(t, aliceSub)
	}
}

func TestAnotherPoolIsAnError(t *testing.T) {
	t.Parallel()
	s := start(t, alice)
	err := s.pool("us-east-1_other").Remove(t.Context(), "alice", aliceSub)
	if err == nil {
		t.Error("Remove returned no error")
	}
	s.wantDeleted(t)
}

func TestExistsFindsAUserByNameOrSub(t *testing.T) {
	t.Parallel()
	s := start(t, alice)
	for name, want := range map[string]bool{"alice": true, aliceSub: true, "bob": false, "Alice": false} {
		found, err := s.Exists(t.Context(), name)
		if err != nil || found != want {
			t.Errorf("%s exists: %t, %v", name, found, err)
		}
	}
	s.wantDeleted(t)
}

func TestHasGoesByTheSubAlone(t *testing.T) {
	t.Parallel()
	s := start(t, alice, standin.User{Username: `quo"ted`, Sub: `a" or sub = "b`})
	for sub, want := range map[string]bool{aliceSub: true, "alice": false, evilSub: false, `a" or sub = "b`: true, `x" or sub = "` + aliceSub: false} {
		has, err := s.Has(t.Context(), sub)
		if err != nil || has != want {
			t.Errorf("the pool has %q: %t, %v", sub, has, err)
		}
	}
	// A user named after another's sub is not that one.
	has, err := start(t, evil).Has(t.Context(), aliceSub)
	if err != nil || has {
		t.Errorf("the pool has alice: %t, %v", has, err)
	}
	has, err = s.pool("us-east-1_other").Has(t.Context(), aliceSub)
	if err == nil || has {
		t.Errorf("a pool that is not there has alice: %t, %v", has, err)
	}
}

func TestEnabledIsOfTheUserWithThatSubNow(t *testing.T) {
	t.Parallel()
	federated := standin.User{Username: "google_1", Sub: "federated"}
	s := start(t, alice, evil, federated)
	// For who comes from another identity provider AdminGetUser does not take a sub.
	s.proxy.SetHook(func(c *fault.Call) fault.Fault {
		if c.Op == "AdminGetUser" && strings.Contains(string(c.Body), `"federated"`) {
			return fault.AWSError(400, "UserNotFoundException", "User does not exist.")
		}
		return nil
	})
	check := func(doing string, want map[string]bool) {
		t.Helper()
		for sub, want := range want {
			enabled, exists, err := s.Enabled(t.Context(), sub)
			if err != nil || !exists || enabled != want {
				t.Errorf("%s: %s is enabled: %t, exists: %t, %v", doing, sub, enabled, exists, err)
			}
		}
	}
	check("at first", map[string]bool{aliceSub: true, evilSub: true, "federated": true})
	for _, name := range []string{"alice", "google_1"} {
		s.target.Switch(name, false)
	}
	check("two are disabled", map[string]bool{aliceSub: false, evilSub: true, "federated": false})
	s.target.Switch("alice", true)
	s.target.Switch(aliceSub, false) // evil, by that name
	check("another two", map[string]bool{aliceSub: true, evilSub: false, "federated": false})
	for _, nobody := range []string{"alice", "nobody"} {
		enabled, exists, err := s.Enabled(t.Context(), nobody)
		if err != nil || exists || enabled {
			t.Errorf("%q is enabled: %t, exists: %t, %v", nobody, enabled, exists, err)
		}
	}
	for _, op := range []string{"AdminGetUser", "ListUsers"} {
		s.on(op, fault.Drop())
		_, exists, err := s.Enabled(t.Context(), aliceSub)
		if err == nil || exists {
			t.Errorf("without %s: exists: %t, %v", op, exists, err)
		}
	}
}
