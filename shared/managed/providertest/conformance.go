// Package providertest checks that a provider keeps the contract of managed.Provider. It needs a
// fake of the third party, and nothing of AWS.
package providertest

import (
	"regexp"
	"testing"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
)

// Subject is a provider under test, with a third party of its own behind it that has made nothing
// for anybody yet.
type Subject struct {
	// Provider is the one under test. It reaches the third party through Proxy alone.
	Provider managed.Provider
	Proxy    *fault.Proxy

	// OrgKey is the org key, and ForeignOrgKey one of another organisation. The third party accepts
	// both.
	OrgKey, ForeignOrgKey credential.Secret
	// Secrets is the form of every key that the third party hands out.
	Secrets *regexp.Regexp

	// Creates says what a call to the third party may create.
	Creates func(*fault.Call) Creation
	// KeyName is the name of the key that an attempt makes for a user.
	KeyName func(user string, attempt int64) string

	// Resources are the ids of all that exists for a user, in every organisation.
	Resources func(user string) []string
	// Keys are all the keys that the third party lists, everybody's.
	Keys func() []Key
	// Identify returns the id of the key that a secret is, and whether the third party accepts it.
	Identify func(secret string) (keyID string, accepted bool)
	// Flat: nothing holds a user's keys but their names, so that a key of another name is nobody's.
	Flat bool
	// Unique: no two keys have the same name, and a key's id is its name.
	Unique bool

	// Plant makes a key with this name beside those of the user, who has a resource, and returns
	// its id.
	Plant func(user, name string) (keyID string)

	// Reject makes the third party reject OrgKey from now on.
	Reject func()
	// Fill puts into the user's resource what it can hold besides keys; nil if it can hold nothing
	// else.
	Fill func(user string)
	// Linger makes the third party go on deleting what Fill put there until finish is called; nil
	// if its deletions end with the answer.
	Linger func() (finish func())
	// Hide makes the third party answer calls about resources by their ids as if there were none,
	// until show is called; nil if there is no other path to a resource.
	Hide func() (show func())
	// Keep makes the third party delete nothing, and say so in what is a success by its status,
	// until obey is called; nil if its successes have nothing to say.
	Keep func() (obey func())
	// Disable makes a key one that is there and does not work; nil if there is no such state.
	Disable func(keyID string)
	// Drop deletes a key behind everybody's back; nil if lists do not shift when one goes.
	Drop func(keyID string)
}

// Key is a key as the third party lists it.
type Key struct {
	// Resource is the id of what holds it; its own id if nothing does.
	Resource string
	ID, Name string
}

// Creation is what a call to a third party may create.
type Creation int

const (
	// Nothing: a read or a deletion.
	Nothing Creation = iota
	// Same: a repeat gives what the first one made.
	Same
	// Another: each one makes another.
	Another
)

// Conform checks that a provider keeps the contract of managed.Provider. Every check begins with a
// subject, or several, of its own.
func Conform(t *testing.T, start func(*testing.T) Subject) {
	t.Helper()
	for _, promise := range []struct {
		name  string
		check func(suite, *testing.T)
	}{
		{"it has a name and a title", suite.named},
		{"provision makes one key, named after the attempt", suite.provisions},
		{"any user id will do, and no two users share anything", suite.keepsUsersApart},
		{"many users can be served at once", suite.concurrent},
		{"provision after a crash at any call leaves one key, the returned one", suite.provisionsAfterTrouble},
		{"a take-over keeps the stored key and what is not ours", suite.takesOver},
		{"each create's outcome is reported", suite.reportsOutcomes},
		{"nothing is created after the first half of the lease", suite.stopsCreating},
		{"only provision and a lookup create anything", suite.createsNothingElse},
		{"when its context ends a call returns and is over", suite.stops},
		{"nothing is sent once the context's Err says so", suite.looksAtTheClock},
		{"discard deletes one key and may be repeated", suite.discards},
		{"sweep deletes the keys of lower attempts alone", suite.sweeps},
		{"sweep after a crash at any call leaves the stored key alone", suite.sweepsAfterTrouble},
		{"sweep leaves a retiring key alone until its time is over", suite.keepsRetiring},
		{"sweep says when what is stored has gone", suite.sweepsWhatHasGone},
		{"deprovision leaves nothing and may be repeated", suite.deprovisions},
		{"deprovision after a crash at any call leaves nothing", suite.deprovisionsAfterTrouble},
		{"deprovision says not yet while the third party is still deleting", suite.saysNotYet},
		{"what is not found by one path alone is not gone", suite.doubtsAnAbsence},
		{"a key that does not work is neither gone nor made anew, and it is deleted", suite.knowsDisabledKeys},
		{"an organisation that has nothing else is proof enough", suite.worksAlone},
		{"a list that shifts while it is read hides nothing", suite.readsShiftingLists},
		{"deprovision leaves alone what is not the user's", suite.leavesWhatIsNotTheUsers},
		{"a success that does not say that something was deleted is no deletion", suite.doubtsASuccess},
		{"an answer about another user is not taken", suite.refusesOthersAnswers},
		{"a list without its member is not an empty one", suite.wantsMembers},
		{"one thing that cannot be deleted keeps nothing else alive", suite.deletesTheRest},
		{"a lookup that fails keeps nothing alive", suite.deletesWithoutALookup},
		{"an audit finds every resource and every key of ours, and changes nothing", suite.enumerates},
		{"an org key of another organisation proves and creates nothing", suite.wantsProof},
		{"nothing is made in another organisation than the deployment's", suite.staysInItsOrganisation},
		{"two deployments in one organisation leave each other's keys alone", suite.leavesOtherDeployments},
		{"a rejected org key is called that", suite.noticesRejection},
		{"a third party in trouble is transient", suite.noticesTrouble},
		{"errors carry no secret", suite.keepsSecrets},
		{"an error that is no JSON has its status's class", suite.readsPlainErrors},
	} {
		t.Run(promise.name, func(t *testing.T) {
			t.Parallel()
			promise.check(start, t)
		})
	}
}

// suite starts a subject.
type suite func(*testing.T) Subject
