package sam

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/lambda"
	"managed-credentials/shared/local/standin"
	"managed-credentials/shared/local/template"
	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/store"
)

// expectation is what has to come of one event.
type expectation struct {
	// given makes what the event meets. Nil: nothing exists but the org key and the system
	// credential.
	given func(*world)
	// answer is the function's, as render puts it; "*" stands for any text.
	answer string
	// then checks what is so afterwards.
	then func(*world)
}

// secret is all in the tests that is one.
var secret = regexp.MustCompile(`not-a-real|am_[a-z]{2}_[0-9a-f]{64}`)

const (
	unauthorized = `401 {"message":"Unauthorized"}`
	notFound     = `404 {"detail":"Credentials not found"}`
	nothingLeft  = `{"pending":[],"known":true}`
	otherPool    = `{"ignored":"another user pool","pending":[]}`
	refusedCall  = `{"ignored":"the call was refused","pending":[]}`
	unidentified = `error the event does not say whose account it is about`

	malformedUser = `user_id: must be a text of 1 to 256 characters, without blanks and control characters`

	managedKey = `{"id":"b7dd5fbc-ba86-5841-b952-387afbd1bc5e","provider":"agent_mail","type":"api_key","title":"AgentMail (managed by AutoGPT)",` +
		`"scopes":null,"username":null,"host":null,"autogpt_managed":true,"is_system":false,*,"is_managed":true}`
	systemKey = `{"id":"331b65ec-da3c-5c26-b6ba-e71ce538f6f4","provider":"openai","type":"api_key","title":"Use Credits for OpenAI",` +
		`"scopes":null,"username":null,"host":null,"autogpt_managed":false,"is_system":true,*}`
)

// shown is a credential of the user's own as it is listed; id may be "*".
func shown(id, provider, title string) string {
	return `{"id":"` + id + `","provider":"` + provider + `","type":"api_key","title":"` + title +
		`","scopes":null,"username":null,"host":null,"autogpt_managed":false,"is_system":false,*,"is_managed":false}`
}

func ownOf(provider string) func(*world)    { return func(w *world) { w.own(provider) } }
func managedOf(user string) func(*world)    { return func(w *world) { w.managed(user) } }
func stillManaged(user string) func(*world) { return func(w *world) { w.hasManaged(user) } }

// holds checks for one credential of the user's own and its secret.
func holds(provider string, typ credential.Type, secretFields string) func(*world) {
	return func(w *world) { w.holds(provider, typ, secretFields) }
}

var (
	holdsKey    = holds("openai", credential.APIKey, `{"api_key":"`+ownKey+`"}`)
	holdsNewKey = holds("openai", credential.APIKey, `{"api_key":"not-a-real-key-either"}`)
)

// deleted, kept and ignored are what may come of an event about a whole account.
func deleted() expectation {
	return expectation{given: (*world).account, answer: nothingLeft, then: (*world).lost}
}

// triggered is the answer to a trigger: its event with the response filled.
func triggered(response string) string {
	return `{"callerContext":*,"region":"us-east-1","request":*,"response":` + response + `,"triggerSource":*,"userName":*,"userPoolId":*,"version":"1"}`
}

// deletedByTrigger is a deleted account, of which a trigger has told.
func deletedByTrigger() expectation {
	e := deleted()
	e.answer = triggered(nothingLeft)
	return e
}

func kept(answer string) expectation {
	return expectation{given: (*world).account, answer: answer, then: (*world).keeps}
}

// deletedByUser is an account whose user is in the pool and asks for its deletion over the API.
func deletedByUser(username string) expectation {
	return expectation{
		given: func(w *world) {
			w.account()
			w.pool.AddUser(standin.User{Username: username, Sub: userID})
		},
		answer: "204",
		then: func(w *world) {
			w.lost()
			w.inPool(username, false)
		},
	}
}

// expectations are those of every event file, by function and name.
var expectations = map[string]map[string]expectation{
	"authorize": {
		"malformed-token": {answer: `{"isAuthorized":false}`},
		"unsigned-token":  {answer: `{"isAuthorized":false}`},
		// The issuer is one that nobody reaches.
		"es256-token": {answer: "error fetching the keys of https://auth.example.com: *"},
	},
	"create-credential": {
		"api-key": {answer: "201 " + shown("*", "openai", "Test key"), then: holdsKey},
		"idempotency-key": {
			answer: "201 " + shown("*", "openai", "Test key"),
			then:   holds("openai", credential.APIKey, `{"api_key":"not-a-real-key-of-a-real-length","expires_at":4102444800}`),
		},
		"api-key-base64": {answer: "201 " + shown("*", "openai", "Schlüssel"), then: holdsKey},
		"oauth2": {
			answer: `201 {"id":"*","provider":"github","type":"oauth2","title":"GitHub","scopes":["repo","read:org"],"username":"octocat",` +
				`"host":null,"autogpt_managed":false,"is_system":false,*,"is_managed":false}`,
			then: holds("github", credential.OAuth2,
				`{"access_token":"not-a-real-token","access_token_expires_at":4102444800,"refresh_token":"not-a-real-refresh-token"}`),
		},
		"user-password": {
			answer: `201 {"id":"*","provider":"smtp","type":"user_password","title":"Mail server","scopes":null,"username":null,"host":null,` +
				`"autogpt_managed":false,"is_system":false,*,"is_managed":false}`,
			then: holds("smtp", credential.UserPassword, `{"password":"not-a-real-password","username":"someone"}`),
		},
		"host-scoped": {
			answer: `201 {"id":"*","provider":"http","type":"host_scoped","title":"Intranet","scopes":null,"username":null,` +
				`"host":"intranet.example.com","autogpt_managed":false,"is_system":false,*,"is_managed":false}`,
			then: holds("http", credential.HostScoped, `{"headers":{"X-Api-Key":"not-a-real-key"}}`),
		},
		"ignored-fields": {
			answer: "201 " + shown("*", "openai", "Test key"),
			then: func(w *world) {
				holdsKey(w)
				if w.read().Own[0].ID == ownID {
					w.t.Error("the caller chose the id")
				}
			},
		},
		"forged-managed":     {answer: `403 {"detail":"AutoGPT-managed credentials cannot be created by users"}`, then: (*world).holdsNone},
		"malformed-json":     {answer: `422 {"detail":"body: must be a JSON object in UTF-8"}`, then: (*world).holdsNone},
		"malformed-base64":   {answer: `422 {"detail":"body: is not valid base64"}`, then: (*world).holdsNone},
		"malformed-provider": {answer: `422 {"detail":"provider: must match [a-z0-9_]{1,64}; openai is probably meant"}`, then: (*world).holdsNone},
		"no-body":            {answer: `422 {"detail":"body: must be a JSON object in UTF-8"}`, then: (*world).holdsNone},
		"unknown-type": {
			answer: `422 {"detail":"type: must be one of api_key, oauth2, user_password, host_scoped"}`,
			then:   (*world).holdsNone,
		},
		"missing-secret":   {answer: `422 {"detail":"api_key: is required"}`, then: (*world).holdsNone},
		"secret-too-large": {answer: `413 {"detail":"The secret fields together exceed 4,096 bytes."}`, then: (*world).holdsNone},
		"no-authorizer":    {answer: unauthorized, then: (*world).holdsNone},
	},

	"delete-guard": {
		"own": {given: ownOf("openai"), answer: `200 {"deleted":true,"revoked":null}`, then: (*world).holdsNone},
		"if-match": {
			given:  ownOf("openai"),
			answer: `412 {"detail":"The credential was changed elsewhere: see what is there now."}`,
			then:   holdsKey,
		},
		"managed": {
			given:  managedOf(userID),
			answer: `403 {"detail":"AutoGPT-managed credentials cannot be deleted"}`,
			then:   stillManaged(userID),
		},
		"managed-wrong-provider": {given: managedOf(userID), answer: notFound, then: stillManaged(userID)},
		"system":                 {answer: `403 {"detail":"System-managed credentials cannot be deleted"}`},
		"malformed-id":           {given: ownOf("openai"), answer: notFound, then: holdsKey},
		"malformed-provider":     {given: ownOf("openai"), answer: notFound, then: holdsKey},
		"no-authorizer":          {given: ownOf("openai"), answer: unauthorized, then: holdsKey},
	},

	"integrations-page": {
		"page":               {answer: "200 <!doctype html>*"},
		"page-head":          {answer: "200"},
		"page-behind-stage":  {answer: "200 <!doctype html>*"},
		"page-without-slash": {answer: "307"},
		"asset":              {answer: "200 *fetch(*"},
		"config": {
			answer: `200 {"managed_login_url":"https://example.auth.us-east-1.amazoncognito.com",` +
				`"managed_login_issuer":"https://cognito-idp.us-east-1.amazonaws.com/` + poolID + `","client_id":"exampleclient","sign_in_as":"",` +
				`"brand_name":"Example","brand_logo_url":"https://example.com/logo.svg","brand_accent":"#00a37a","support_url":"mailto:help@example.com"}`,
		},
		"asset-unknown":   {answer: `404 {"message":"Not Found"}`},
		"asset-traversal": {answer: `404 {"message":"Not Found"}`},
	},

	"list-with-provision": {
		"list-all": {
			given:  ownOf("github"),
			answer: "200 [" + managedKey + "," + shown(ownID, "github", "Test key") + "," + systemKey + "]",
			then:   stillManaged(userID),
		},
		"list-of-provider":        {given: ownOf("github"), answer: "200 [" + managedKey + "]", then: stillManaged(userID)},
		"list-malformed-provider": {answer: `422 {"detail":"provider: must match [a-z0-9_]{1,64}; agent_mail is probably meant"}`, then: noPods},
		"list-id-token":           {answer: unauthorized, then: noPods},
		"list-empty-sub":          {answer: unauthorized, then: noPods},
		"list-no-authorizer":      {answer: unauthorized, then: noPods},
		"get-managed":             {given: managedOf(userID), answer: "200 " + managedKey},
		"get-own":                 {given: ownOf("github"), answer: "200 " + shown(ownID, "github", "Test key"), then: noPods},
		"get-system":              {answer: "200 " + systemKey, then: noPods},
		"get-malformed-id":        {answer: notFound, then: noPods},
		"want":                    {answer: "200 " + managedKey, then: stillManaged(userID)},
		"want-nobodys":            {answer: `404 {"detail":"No managed credential is offered there."}`, then: noPods},
		"retract": {
			given:  managedOf(userID),
			answer: `202 {"provider":"agent_mail","state":"retracting","retry_at":null,"detail":"It is being removed."}`,
			then:   func(w *world) { w.slotIs(store.Retracting) },
		},
		"replace": {
			given:  managedOf(userID),
			answer: `202 {"provider":"agent_mail","state":"ready","retry_at":null,"detail":"Another key is being made. The one that you have works until then."}`,
			then:   (*world).rotates,
		},
		"replace-not-offered": {answer: `404 {"detail":"No managed credential is offered there."}`, then: noPods},
		"retract-not-theirs":  {given: ownOf("github"), answer: notFound, then: noPods},
	},

	"operate": {
		"audit": {given: (*world).amiss, answer: audited("1"), then: func(w *world) { w.slotIs(store.Absent) }},
		// The slot that it puts back comes along with the others.
		"audit-repair": {given: (*world).amiss, answer: strings.TrimSuffix(audited("2"), "}") + `,"repaired":2}`, then: func(w *world) { w.slotIs(store.Revoking) }},
		"audit-repair-by-nobody": {
			given:  (*world).amiss,
			answer: `{"status":422,"detail":"by: is required for a repair: who asks for it"}`,
			then:   func(w *world) { w.slotIs(store.Absent) },
		},
		// The lone pod is a finding, and nothing is repaired.
		"audit-due": {
			given: (*world).amiss,
			answer: `{"audits":[{"provider":"agent_mail","under_way":null,"complete":{"begun_at":"*","ended_at":"*","resources":2,"slots":1,` +
				`"findings":{"left_behind":1,"missing_key":1},"states":{"ready":1}}}*],"rotations":[{"provider":"agent_mail","under_way":null,"ended":null}*],"drainings":[{"provider":"agent_mail","under_way":null,"ended":null}*]}`,
			then: func(w *world) {
				w.slotIs(store.Absent)
				job, err := w.table.Job(w.t.Context(), "AUDIT#"+agentmail.Name)
				if err != nil || job.Attempt != 1 || !job.LeaseUntil.IsZero() {
					w.t.Errorf("the job is %+v, %v", job, err)
				}
			},
		},
		"audit-unknown-provider": {answer: `{"status":404,"detail":"No such provider is registered"}`},
		"audit-cursor-made-up":   {answer: `{"status":422,"detail":"cursor: has to be the \"next\" of an audit's report"}`},
		"parked": {
			given: (*world).parked,
			answer: `{"parked":[{"user":"` + userID + `","provider":"agent_mail","resource":"*","reason":"permanent","tries":0,"retry_at":"*"}],` +
				`"more":false}`,
		},
		"force": {given: (*world).parked, answer: `{"forced":true}`, then: func(w *world) { w.slotIs(store.Absent) }},
		"force-without-reason": {
			given:  (*world).parked,
			answer: `{"status":422,"detail":"reason: is required"}`,
			then:   func(w *world) { w.slotIs(store.Parked) },
		},
		"end-holdback":           {given: (*world).parked, answer: `{"ended":0,"more":false}`, then: func(w *world) { w.slotIs(store.Parked) }},
		"end-holdback-of-nobody": {answer: `{"status":422,"detail":"user_id: is required, unless \"all\" is true"}`},
		"retry":                  {given: (*world).parked, answer: `{"retried":1,"more":false}`, then: (*world).dueAtOnce},
		"retry-one":              {given: (*world).parked, answer: `{"retried":1,"more":false}`, then: (*world).dueAtOnce},
		"retry-by-nobody": {
			given:  (*world).parked,
			answer: `{"status":422,"detail":"by: is required"}`,
			then:   func(w *world) { w.slotIs(store.Parked) },
		},
		"rotate":         {given: managedOf(userID), answer: `{"rotating":true}`, then: (*world).rotates},
		"rotate-at-once": {given: (*world).rotated, answer: `{"rotating":true}`, then: (*world).rotates},
		"rotate-overlap-unclear": {
			given:  managedOf(userID),
			answer: `{"status":422,"detail":"overlap: must be a duration from 0s to 720h, such as 8h or 30m"}`,
			then:   stillManaged(userID),
		},
		"rotate-all": {given: managedOf(userID), answer: rotatingAll, then: (*world).asksAll},
		"rotate-all-twice": {
			given:  func(w *world) { w.rotatesAll(time.Now()) },
			answer: `{"status":409,"detail":"The keys are being replaced already, since *, for somebody (a leak), with an overlap of 0s: see where that stands, or end it"}`,
		},
		"rotate-all-due": {
			given:  func(w *world) { w.rotatesAll(time.Now().Add(-time.Minute)) },
			answer: `{"audits":*,"rotations":[{"provider":"agent_mail","under_way":{"begun_at":"*","by":"somebody",*"asked":1,"passes":1,"left":1,"met":0},"ended":null}*],"drainings":*}`,
			then:   (*world).rotates,
		},
		"end-rotation": {
			given:  func(w *world) { w.rotatesAll(time.Now()) },
			answer: `{"provider":"agent_mail","under_way":null,"ended":{*"stopped":"ended by somebody@example.com: the wrong overlap"}}`,
		},
		"rotations": {answer: `{"rotations":[{"provider":"agent_mail","under_way":null,"ended":null}*]}`},
		"drain": {
			given: func(w *world) {
				w.managed(userID)
				w.draining()
			},
			answer: `{"provider":"agent_mail","under_way":{"begun_at":"*","by":"somebody@example.com","reason":"the contract ends",` +
				`"asked":0,"passes":0,"found":null,"finding":{*}},"ended":null}`,
			then: stillManaged(userID),
		},
		"drain-without-reason":  {given: (*world).draining, answer: `{"status":422,"detail":"reason: is required"}`},
		"drain-in-another-mode": {given: managedOf(userID), answer: `{"status":409,"detail":"Its mode is not draining: *"}`, then: stillManaged(userID)},
		"drain-due": {
			given: (*world).drains,
			answer: `{"audits":*,"rotations":*,"drainings":[{"provider":"agent_mail","under_way":{"begun_at":"*","by":"somebody",*"asked":1,"passes":1,` +
				`"found":{"removed":0,"removing":0,"left":1,"suspended":0,"deleted":0,"parked":0,"unreadable":0},*"at_least":"3m0s"},"ended":null}*]}`,
			then: func(w *world) {
				slot := w.read().Slots[agentmail.Name]
				if slot.State != store.Ready || slot.Reason != store.ReasonDraining {
					w.t.Errorf("the slot is %+v", slot)
				}
			},
		},
		"end-drain": {
			given:  (*world).drains,
			answer: `{"provider":"agent_mail","under_way":null,"ended":{*"stopped":"ended by somebody@example.com: it was renewed"}}`,
			then:   stillManaged(userID),
		},
		"suspend":           {given: managedOf(userID), answer: `{"suspended":true}`, then: (*world).isSuspended},
		"suspend-by-nobody": {given: managedOf(userID), answer: `{"status":422,"detail":"by: is required"}`, then: stillManaged(userID)},
		// Of theirs something waited.
		"enable": {given: (*world).suspended, answer: `{"enabled":true}`, then: func(w *world) {
			w.hasManaged(userID)
			w.dueAtOnce()
		}},
		"enable-disabled-in-pool": {
			given: func(w *world) {
				w.suspended()
				w.disabled(userID)
			},
			answer: `{"status":409,"detail":"The user is disabled in the user pool, and is suspended until they are enabled there"}`,
			then:   (*world).isSuspended,
		},
		"redrive": {
			given: func(w *world) {
				w.queue.Send(deletionsFailed, string(lambda.Undelivered("user-cleanup", []byte(`{"user_id":"`+userID+`"}`))))
			},
			answer: `{"done":1,"failed":[],"more":false}`,
			then: func(w *world) {
				left := w.queue.Bodies(deletionsFailed)
				if !slices.Equal(w.redriven, []string{`{"user_id":"` + userID + `"}`}) || len(left) > 0 {
					w.t.Errorf("user-cleanup was invoked with %v, and the queue holds %v", w.redriven, left)
				}
			},
		},
		"providers": {
			given: (*world).pinnedElsewhere,
			answer: `{"providers":[{"provider":"agent_mail","mode":"auto","deployment_id":"aaaa2222","org_key":true,"organization":"another one",` +
				`"key_organization":"` + fake.OrganizationID + `","differs":true,"stays":"A revoked key *","slots":null,` +
				`"waiting":{"due":0,"later":0,"parked":0,"reasons":{}},"last_failure":null,"audit":{"under_way":null,"complete":null},` +
				`"rotation":{"provider":"agent_mail","under_way":null,"ended":null},"draining":{"provider":"agent_mail","under_way":null,"ended":null}}*],"more":false}`,
		},
		"accept-organization": {given: (*world).pinnedElsewhere, answer: `{"accepted":true}`, then: func(w *world) {
			d, err := w.table.Deployment(w.t.Context(), agentmail.Name)
			if err != nil || d.Organization != fake.OrganizationID {
				w.t.Errorf("the deployment is %+v, %v", d, err)
			}
		}},
		"accept-organization-without-reason": {answer: `{"status":422,"detail":"reason: is required"}`},
		"unknown-command": {
			answer: `{"status":422,"detail":"command: must be one of audit, audit_due, parked, force, redrive, end_holdback, retry, providers, accept_organization, rotate, rotate_all, end_rotation, rotations, drain, end_drain, suspend, enable"}`,
		},
	},

	"reconcile": {
		// One account's deletion is due its last look, its user has still to go from the pool,
		// another deletion got no further than its tombstone, and one provisioning has failed.
		"schedule": {
			given: func(w *world) {
				w.removed()
				w.values["DELETION_HOLDBACK"] = "1h"
				w.tombstoneAlone(fourthID)
				w.pool.AddUser(standin.User{Username: userID, Sub: userID})
				w.failed(thirdID)
			},
			answer: `{"done":4,"failed":0,"more":false}`,
			then: func(w *world) {
				w.lost()
				w.slotIs(store.Absent)
				w.inPool(userID, false)
				w.hasManaged(thirdID)
			},
		},
		"schedule-draining": {
			given:  (*world).asksToDrain,
			answer: `{"done":1,"failed":0,"more":false}`,
			then:   func(w *world) { w.slotIs(store.Retracting) },
		},
	},

	"resolve-credential": {
		"by-id": {
			given:  ownOf("github"),
			answer: `{"api_key":"` + ownKey + `","expires_at":null,"id":"` + ownID + `","provider":"github","type":"api_key"}`,
		},
		"managed":       {given: managedOf(userID), answer: resolvedManaged},
		"managed-by-id": {given: managedOf(userID), answer: resolvedManaged},
		"system":        {answer: `{"api_key":"not-a-real-system-key","expires_at":null,"id":"331b65ec-da3c-5c26-b6ba-e71ce538f6f4","provider":"openai","type":"api_key"}`},
		"rejected": {
			given:  managedOf(userID),
			answer: `{"status":202,"detail":"The credential is being checked: resolve it again in a minute"}`,
			then: func(w *world) {
				slot := w.read().Slots[agentmail.Name]
				if slot.State != store.Ready || slot.DueAt.IsZero() {
					w.t.Errorf("the slot is %+v", slot)
				}
			},
		},
		"malformed-provider": {answer: `{"status":422,"detail":"provider: must match [a-z0-9_]{1,64}"}`},
		"empty-user":         {answer: `{"status":422,"detail":"` + malformedUser + `"}`},
	},

	"update-guard": {
		"title":         {given: ownOf("openai"), answer: "200 " + shown(ownID, "openai", "Renamed"), then: holdsKey},
		"secret":        {given: ownOf("openai"), answer: "200 " + shown(ownID, "openai", "Test key"), then: holdsNewKey},
		"secret-base64": {given: ownOf("openai"), answer: "200 " + shown(ownID, "openai", "Test key"), then: holdsNewKey},
		"other-type": {
			given:  ownOf("openai"),
			answer: `422 {"detail":"type: is user_password, but the credential's is api_key: make a new credential instead"}`,
			then:   holdsKey,
		},
		"managed": {
			given:  managedOf(userID),
			answer: `403 {"detail":"AutoGPT-managed credentials cannot be updated"}`,
			then:   stillManaged(userID),
		},
		"system": {answer: `403 {"detail":"System-managed credentials cannot be updated"}`},
		"forged-managed": {
			given:  ownOf("openai"),
			answer: `403 {"detail":"AutoGPT-managed credentials cannot be created by users"}`,
			then:   holdsKey,
		},
		"malformed-json": {given: ownOf("openai"), answer: `422 {"detail":"body: must be a JSON object in UTF-8"}`, then: holdsKey},
		"malformed-id":   {given: ownOf("openai"), answer: notFound, then: holdsKey},
		"no-authorizer":  {given: ownOf("openai"), answer: unauthorized, then: holdsKey},
	},

	"user-cleanup": {
		"delete-account":               deletedByUser(userID),
		"delete-account-named-user":    deletedByUser("someone@example.com"),
		"delete-account-id-token":      kept(unauthorized),
		"delete-account-no-authorizer": kept(unauthorized),

		"admin-delete-user":                          deleted(),
		"admin-delete-user-empty-error-code":         deleted(),
		"admin-delete-user-no-parameters":            deleted(),
		"admin-delete-user-pool-in-additional-data":  deleted(),
		"admin-delete-user-username-is-anothers-sub": deleted(),
		"admin-delete-user-username-only":            deleted(),
		"admin-delete-user-username-no-sub":          kept(unidentified),
		"admin-delete-user-other-pool":               kept(otherPool),
		"admin-delete-user-refused":                  kept(refusedCall),
		"admin-delete-user-unidentified":             kept(unidentified),
		// Somebody has the user's sub for a name, and is enabled.
		"admin-disable-user": {
			given: func(w *world) {
				w.managed(userID)
				w.pool.AddUser(standin.User{Username: "someone@example.com", Sub: userID})
				w.pool.Switch(userID, false)
				w.pool.AddUser(standin.User{Username: userID, Sub: otherID})
			},
			answer: `{"pending":[],"disabled":true}`,
			then:   (*world).isSuspended,
		},
		"admin-disable-user-name-only": {
			given: func(w *world) {
				w.managed(userID)
				w.pool.AddUser(standin.User{Username: "someone@example.com", Sub: userID})
				w.pool.Switch(userID, false)
			},
			answer: `{"pending":[],"disabled":true}`,
			then:   (*world).isSuspended,
		},
		"admin-disable-user-refused":      kept(refusedCall),
		"admin-disable-user-unidentified": kept(unidentified),
		// Of theirs something waited.
		"admin-enable-user": {
			given: func(w *world) {
				w.suspended()
				w.disabled(userID)
				_, err := w.table.Enable(w.t.Context(), userID, store.ByOperator)
				if err != nil {
					w.t.Fatal(err)
				}
				w.pool.AddUser(standin.User{Username: userID, Sub: userID})
			},
			answer: `{"pending":[],"disabled":false}`,
			then: func(w *world) {
				w.hasManaged(userID)
				w.dueAtOnce()
			},
		},
		"admin-enable-user-other-pool": kept(otherPool),
		"delete-user":                  deleted(),
		"delete-user-no-pool":          deleted(),
		"delete-user-other-pool":       kept(otherPool),
		"delete-user-refused":          kept(refusedCall),

		"trigger-account-deletion":      deletedByTrigger(),
		"trigger-post-delete":           deletedByTrigger(),
		"trigger-post-delete-no-sub":    deletedByTrigger(),
		"trigger-post-delete-name-only": kept(unidentified),
		"trigger-other-pool":            kept(triggered(otherPool)),
		"trigger-post-confirmation": kept(`error the trigger "PostConfirmation_ConfirmSignUp" does not delete an account: ` +
			`AccountDeletion does, and whatever begins with PostDelete`),

		"direct": {given: (*world).removed, answer: nothingLeft, then: func(w *world) {
			w.lost()
			w.slotIs(store.Absent)
		}},
		"direct-capitals": deleted(),
		"direct-address": {
			given: func(w *world) {
				w.account()
				w.values["DELETION_HOLDBACK"] = "1h"
			},
			answer: `{"pending":[{"provider":"agent_mail","state":"held_back","retry_at":*}],"known":false}`,
			then:   (*world).keeps,
		},
		"direct-empty-user": kept(unidentified + ": " + malformedUser),
		"direct-line-break": kept(unidentified + ": " + malformedUser),
		"unknown":           kept(unidentified),
	},
}

const resolvedManaged = `{"api_key":"am_us_*","attempt":1,"expires_at":null,"id":"b7dd5fbc-ba86-5841-b952-387afbd1bc5e","provider":"agent_mail","type":"api_key"}`

const rotatingAll = `{"provider":"agent_mail","under_way":{"begun_at":"*","by":"somebody@example.com","reason":"the table has leaked","overlap":"0s",` +
	`"asked":0,"passes":0,"left":0,"met":0},"ended":null}`

// audited is the report of an audit of what w.amiss makes, which has looked at so many slots.
func audited(slots string) string {
	return `{"resources":2,"slots":` + slots + `,"findings":[{"kind":"left_behind","user":"` + userID + `","resource":"*","remedy":"revoke"},` +
		`{"kind":"missing_key","user":"` + otherID + `","resource":"*","key_id":"*","remedy":"check"}]}`
}

// noPods checks that nothing was provisioned.
func noPods(w *world) {
	pods := w.mail.Pods()
	if len(pods) != 0 {
		w.t.Errorf("AgentMail has the pods %+v", pods)
	}
}

// matches reports whether an answer is as expected.
func matches(want, got string) bool {
	parts := strings.Split(want, "*")
	for i, part := range parts {
		parts[i] = regexp.QuoteMeta(part)
	}
	return regexp.MustCompile(`(?s)^` + strings.Join(parts, ".*") + `$`).MatchString(got)
}

// eventsOf are the names of a function's event files.
func eventsOf(t *testing.T, function string) []string {
	t.Helper()
	root, err := template.Root(".")
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(filepath.Join(root, "functions", function, "events"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		names = append(names, strings.TrimSuffix(file.Name(), ".json"))
	}
	return names
}

func TestEveryEventHasAnExpectation(t *testing.T) {
	t.Parallel()
	deployed, err := template.Load(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range deployed.Functions {
		left := map[string]bool{}
		for name := range expectations[f.Name] {
			left[name] = true
		}
		for _, name := range eventsOf(t, f.Name) {
			if !left[name] {
				t.Errorf("functions/%s/events/%s.json: nothing is expected of it", f.Name, name)
			}
			delete(left, name)
		}
		for name := range left {
			t.Errorf("functions/%s/events/%s.json is expected and missing", f.Name, name)
		}
	}
}
