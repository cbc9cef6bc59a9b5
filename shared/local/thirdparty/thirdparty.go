// Package thirdparty is what a fake of a third party tells of itself to whatever takes any of them:
// the service on this machine, and the tests that go through all providers.
package thirdparty

import (
	"net/http"
	"regexp"
	"strings"
)

// Fake is a third party on this machine, with one organisation.
type Fake struct {
	// Title is what people call it.
	Title string
	// Handler serves its API, and what it holds at /_fake/state.
	Handler http.Handler
	// OrgKey opens its organisation.
	OrgKey string
	// Settings are what MANAGED_PROVIDERS holds for it beside its mode, given its origin; nil if
	// that is found elsewhere.
	Settings func(url string) map[string]any
	// Mode is its mode on this machine; "" for auto.
	Mode string

	// Secrets is the form of what it hands out.
	Secrets *regexp.Regexp
	// Keys are the keys that it lists.
	Keys func() []Key
	// Identify returns the id of the key that a secret is, and whether it opens anything.
	Identify func(secret string) (keyID string, accepted bool)
	// Drop deletes a key behind everybody's back.
	Drop func(keyID string)
	// AcceptOrgKey has a key open its organisation, or another one that has nothing, and
	// RejectOrgKey has it open none any more.
	AcceptOrgKey func(key string, another bool)
	RejectOrgKey func(key string)
}

// Key is a key that a fake lists.
type Key struct {
	ID string
	// Holder is what says whose it is: the mark of what holds it, or its own name.
	Holder string
}

// Of reports whether the key is that user's, whose id has no slash and is no part of another's.
func (k Key) Of(user string) bool { return strings.Contains("/"+k.Holder+"/", "/"+user+"/") }

// KeysOf are the user's keys.
func (f Fake) KeysOf(user string) []Key {
	var keys []Key
	for _, k := range f.Keys() {
		if k.Of(user) {
			keys = append(keys, k)
		}
	}
	return keys
}
