package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"managed-credentials/shared/local/template"
)

func read(t *testing.T, text string, environment map[string]string) (settings, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), ".env")
	err := os.WriteFile(file, []byte(text), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return readSettings(file, func(name string) (string, bool) {
		value, ok := environment[name]
		return value, ok
	})
}

func TestEnvironmentWinsOverTheFileAndBothOverTheDefault(t *testing.T) {
	t.Parallel()
	s, err := read(t, "\ufeffFIRST=1\n# settings\n\nPORT=8090\r\n  LEASE = 30s \nEMPTY=\nURL=https://x?a=b#c\nQUOTED=\"q\"\nIN_BOTH=file\nOFF=on", map[string]string{
		"IN_BOTH": "environment", "OFF": "",
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"FIRST": "1", "PORT": "8090", "LEASE": "30s", "URL": "https://x?a=b#c", "QUOTED": "q", "IN_BOTH": "environment",
		"EMPTY": "default", "ABSENT": "default", "OFF": "default",
	} {
		if got := s.get(name, "default"); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestQuotesAroundAValueAreTakenOff(t *testing.T) {
	t.Parallel()
	s, err := read(t, `D="am_us_0"`+"\n"+`S = 'a b' `+"\n"+`ONE="`+"\n"+`OPEN="a`+"\n"+`MIXED="a'`+"\n"+`IN=a"b"`+"\n"+`TWICE=""a""`+"\n"+`J='{"a":"b"}'`, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"D": "am_us_0", "S": "a b", "ONE": `"`, "OPEN": `"a`, "MIXED": `"a'`, "IN": `a"b"`, "TWICE": `"a"`, "J": `{"a":"b"}`,
	} {
		if got := s.get(name, ""); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

func TestThereMayBeNoFile(t *testing.T) {
	t.Parallel()
	s, err := readSettings(filepath.Join(t.TempDir(), ".env"), os.LookupEnv)
	if err != nil || s.get("NOBODY_SETS_THIS", "default") != "default" {
		t.Fatal(err)
	}
}

func TestLineThatIsNoSettingIsNamedAndNotShown(t *testing.T) {
	t.Parallel()
	_, err := read(t, "PORT=1\nam_us_0123", nil)
	if err == nil || !strings.Contains(err.Error(), "line 2") || strings.Contains(err.Error(), "am_us") {
		t.Fatalf("err = %v, want one that names line 2 and shows nothing of it", err)
	}
}

func TestSettingsThatAreWrongAreNamedBeforeAnythingStarts(t *testing.T) {
	t.Parallel()
	root, err := template.Root(".")
	if err != nil {
		t.Fatal(err)
	}
	declared := filepath.Join(root, ".env.default")
	for text, want := range map[string]string{
		"PROVISION_BUDGET=5 seconds":  `PROVISION_BUDGET has to be a duration such as 5s, not "5 seconds"`,
		"PROVISON_BUDGET=5s":          "there is no setting PROVISON_BUDGET: did you mean PROVISION_BUDGET?",
		"AGENTMAIL_APIKEY=am_us_0123": "did you mean AGENTMAIL_API_KEY?",
		"PROVISION_BUDGET=40s":        "half",
		"SEAL_OPEN_FIELDS=yes":        "SEAL_OPEN_FIELDS has to be true or false",
		`MANAGED_PROVIDERS={"open_router":{"mode":"auto","workspace":"w"}}`: "open_router: limit",
		"AGENTMAIL_BASE_URL=ftp://host":                                     "origin",
		"ALLOWED_ORIGINS=https://app.example.com/,https://x":                "ALLOWED_ORIGINS has to be origins",
	} {
		s, err := read(t, text, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = s.check(declared)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "am_us") {
			t.Errorf("%s: %v", text, err)
		}
	}
	all, err := os.ReadFile(declared)
	if err != nil {
		t.Fatal(err)
	}
	s, err := read(t, string(all), nil)
	if err != nil {
		t.Fatal(err)
	}
	err = s.check(declared)
	if err != nil {
		t.Errorf(".env.default itself: %v", err)
	}
}

func TestFunctionsGetTheSettingsThatAreTheirs(t *testing.T) {
	t.Parallel()
	s, err := read(t, "LEASE=30s\nAGENTMAIL_API_KEY=am_us_0123\nLOG_LEVEL=\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	got := s.functions([]template.Function{{Name: "f", Variables: []string{"LEASE", "LOG_LEVEL", "TABLE_NAME"}}})
	want := map[string]string{"LEASE": "30s", "TABLE_NAME": "managed-credentials"}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestPortThatIsTakenIsReportedWithWhoHasItAndWhatToSet(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	port := fmt.Sprint(taken.Addr().(*net.TCPAddr).Port)
	s, err := read(t, "AGENTMAIL_PORT="+port, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = listen(s, "AGENTMAIL_PORT", "8081")
	wants := []string{"port " + port, "another AGENTMAIL_PORT"}
	if runtime.GOOS == "linux" {
		wants = append(wants, fmt.Sprintf("(process %d)", os.Getpid()))
	}
	for _, want := range wants {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("err = %v, want one with %q", err, want)
		}
	}
}

func TestPortThatIsNoneIsAnError(t *testing.T) {
	t.Parallel()
	s, err := read(t, "PORT=eighty", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = listen(s, "PORT", "8080")
	if err == nil || !strings.Contains(err.Error(), "PORT eighty") {
		t.Fatalf("err = %v, want one that names PORT", err)
	}
}
