package sdktest

import (
	"flag"
	"net/http/httptest"
	"testing"
	"time"

	"managed-credentials/shared/managed/providertest"
	"managed-credentials/shared/provider/agentmail/fake"
)

var python = flag.String("python", "", "the Python that has the packages of requirements.txt; without it the Python SDK is left out")

// TestTheOfficialPythonSDKWorksAgainstTheFake goes by a later SDK than the TypeScript one, with the
// operations that came since.
func TestTheOfficialPythonSDKWorksAgainstTheFake(t *testing.T) {
	t.Parallel()
	if *python == "" {
		t.Skip("this is for `make test-sdk`")
	}
	f := fake.New(fake.Config{Switches: fake.Switches{EmptyPages: true, PageSize: 2, InboxDeletion: 200 * time.Millisecond}})
	server := httptest.NewServer(f)
	t.Cleanup(func() {
		f.Close()
		server.Close()
	})
	providertest.Run(t, []string{"AGENTMAIL_BASE_URL=" + server.URL, "AGENTMAIL_API_KEY=" + fake.OrgKey}, *python, "lifecycle.py")
	if left := f.Pods(); len(left) != 0 {
		t.Errorf("the SDK's run left %d pods behind", len(left))
	}
}
