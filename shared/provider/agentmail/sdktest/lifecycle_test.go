// Package sdktest holds AgentMail's official TypeScript SDK against the fake. The SDK is the
// nearest thing to AgentMail that can be run without an account: what it accepts, maps and throws
// is what a client of the real service sees.
package sdktest

import (
	"net/http/httptest"
	"testing"
	"time"

	"managed-credentials/shared/managed/providertest"
	"managed-credentials/shared/provider/agentmail/fake"
)

func TestTheOfficialSDKWorksAgainstTheFake(t *testing.T) {
	t.Parallel()
	f := fake.New(fake.Config{Switches: fake.Switches{EmptyPages: true, PageSize: 2, InboxDeletion: 200 * time.Millisecond}})
	server := httptest.NewServer(f)
	t.Cleanup(func() {
		f.Close()
		server.Close()
	})
	providertest.SDK(t, "AGENTMAIL_BASE_URL="+server.URL, "AGENTMAIL_API_KEY="+fake.OrgKey)
	if left := f.Pods(); len(left) != 0 {
		t.Errorf("the SDK's run left %d pods behind", len(left))
	}
}
