// Package sdktest holds OpenAI's official TypeScript SDK against the fake. The SDK is the nearest
// thing to OpenAI that can be run without an account. It says that it wants Node.js 22; what is
// used of it works with 20.
package sdktest

import (
	"net/http/httptest"
	"testing"

	"managed-credentials/shared/managed/providertest"
	"managed-credentials/shared/provider/openai/fake"
)

func TestTheOfficialSDKWorksAgainstTheFake(t *testing.T) {
	t.Parallel()
	f := fake.New(fake.Config{})
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	providertest.SDK(t, "OPENAI_BASE_URL="+server.URL+"/v1", "OPENAI_ADMIN_KEY="+fake.AdminKey, "OPENAI_PROJECT_ID="+fake.Project)
	if len(f.Accounts()) > 0 || len(f.Keys()) > 0 {
		t.Errorf("the SDK's run left %+v and %+v behind", f.Accounts(), f.Keys())
	}
}
