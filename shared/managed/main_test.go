package managed_test

import (
	"os"
	"testing"

	"managed-credentials/shared/managed/managedtest"
)

func TestMain(m *testing.M) { os.Exit(managedtest.Main(m)) }
