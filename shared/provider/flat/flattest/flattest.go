// Package flattest is what the tests of providers with flat accounts (package flat) share.
package flattest

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"
	"time"

	"managed-credentials/shared/clock"
	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/managed/providertest"
	"managed-credentials/shared/provider/flat"
)

// Serve serves a third party's fake behind a proxy, until the test is over.
func Serve(t *testing.T, fake http.Handler) (proxy *fault.Proxy, url string) {
	t.Helper()
	direct := httptest.NewServer(fake)
	proxy = fault.New(direct.URL)
	proxied := httptest.NewServer(proxy)
	t.Cleanup(func() { proxied.Close(); direct.Close() })
	return proxy, proxied.URL
}

// Subject fills in what is the same at every third party with a flat account, of which there
// returns all keys by their ids and names.
func Subject(s providertest.Subject, there func() []providertest.Key) providertest.Subject {
	s.Flat = true
	s.Creates = func(c *fault.Call) providertest.Creation {
		if c.Method == http.MethodPost {
			return providertest.Another
		}
		return providertest.Nothing
	}
	s.KeyName = func(user string, attempt int64) string { return flat.KeyName(user, "", attempt) }
	s.Keys = func() []providertest.Key {
		keys := there()
		for i, k := range keys {
			keys[i].Resource = container(k.Name, k.ID)
		}
		return keys
	}
	s.Resources = func(user string) []string {
		for _, k := range there() {
			if container(k.Name, "") == flat.Container(user) {
				return []string{flat.Container(user)}
			}
		}
		return nil
	}
	return s
}

var nameForm = regexp.MustCompile(`^managed-credentials/([^/]+)/[0-9]+$`)

// container is the virtual one that a key is in, by its name; the fallback if it has no such name.
func container(name, fallback string) string {
	parts := nameForm.FindStringSubmatch(name)
	if parts == nil {
		return fallback
	}
	return parts[1]
}

// Attempt is one for alice, in good time.
func Attempt(number int64, stored credential.Resource, inherited bool) *managed.Attempt {
	return managed.NewAttempt(managed.Terms{
		User: "alice", Number: number, Stored: stored, Inherited: inherited, Now: clock.Now, Cutoff: clock.Now().Add(time.Hour),
	})
}

// ClassOf is the class of a provider's error; "" if it has none.
func ClassOf(err error) managed.Class {
	var classed *managed.Error
	if !errors.As(err, &classed) {
		return ""
	}
	return classed.Class
}
