// Package sdktest holds Ayrshare's official JavaScript client against the fake. The client is the
// nearest thing to Ayrshare that can be run without an account.
package sdktest

import (
	"net/http/httptest"
	"testing"

	"managed-credentials/shared/managed/providertest"
	"managed-credentials/shared/provider/ayrshare/fake"
)

func TestTheOfficialSDKWorksAgainstTheFake(t *testing.T) {
	t.Parallel()
	f := fake.New(fake.Config{Switches: fake.Switches{PageSize: 2}})
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	providertest.SDK(t, "AYRSHARE_BASE_URL="+server.URL, "AYRSHARE_API_KEY="+fake.APIKey)
	if left := f.Profiles(); len(left) != 0 {
		t.Errorf("the SDK's run left %+v behind", left)
	}
}
