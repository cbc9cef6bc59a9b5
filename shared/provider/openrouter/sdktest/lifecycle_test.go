// Package sdktest holds OpenRouter's official TypeScript SDK against the fake. The SDK is the
// nearest thing to OpenRouter that can be run without an account: it refuses each answer that is
// not of the published form.
package sdktest

import (
	"net/http/httptest"
	"testing"

	"managed-credentials/shared/managed/providertest"
	"managed-credentials/shared/provider/openrouter/fake"
)

func TestTheOfficialSDKWorksAgainstTheFake(t *testing.T) {
	t.Parallel()
	f := fake.New(fake.Config{Switches: fake.Switches{PageSize: 2}})
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	providertest.SDK(t, "OPENROUTER_BASE_URL="+server.URL+"/api/v1", "OPENROUTER_API_KEY="+fake.ManagementKey)
	if left := f.Keys(); len(left) != 0 {
		t.Errorf("the SDK's run left %+v behind", left)
	}
}
