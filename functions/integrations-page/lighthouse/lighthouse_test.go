// Package lighthouse has Lighthouse (https://developer.chrome.com/docs/lighthouse) judge the
// integrations page, as `make lighthouse` installs it. It measures time, so that it is no part of
// the other tests.
package lighthouse

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"strings"
	"testing"

	"managed-credentials/shared/local/stack"
	"managed-credentials/shared/local/stack/stacktest"
)

var (
	node     = flag.String("node", "", "folder with the node_modules of package.json; empty to skip the test")
	chromium = flag.String("chromium", "chromium", "the browser")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *node == "" {
		os.Exit(m.Run())
	}
	os.Exit(stacktest.Main(m, nil))
}

// result is what measure.js prints of one load.
type result struct {
	What    string            `json:"what"`
	Ended   string            `json:"ended"`
	Failed  string            `json:"failed"`
	Scores  map[string]int    `json:"scores"`
	Figures map[string]string `json:"figures"`
	Wanting []string          `json:"wanting"`
	// Saves says what Lighthouse would change, and by how much which figure would be better.
	Saves []string `json:"saves"`
}

func TestThePageIsPerfectToLighthouse(t *testing.T) {
	if *node == "" {
		t.Skip("run by make lighthouse")
	}
	browser, err := exec.LookPath(*chromium)
	if err != nil {
		t.Fatalf("say in CHROMIUM where the browser is: %v", err)
	}
	s, _ := stacktest.Start(t, stack.Config{})
	command := exec.CommandContext(t.Context(), "node", "measure.js", *node, browser, s.URL)
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var results []result
	err = json.Unmarshal(out, &results)
	if err != nil || len(results) != 4 {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, r := range results {
		t.Logf("%s: %v, %v, to gain: %q", r.What, r.Scores, r.Figures, r.Saves)
		if len(r.Scores) != 4 || strings.HasPrefix(r.What, "list") != strings.HasSuffix(r.Ended, "with rows") {
			t.Errorf("%s: there are %d scores, and what was looked at is %q", r.What, len(r.Scores), r.Ended)
		}
		if r.Failed != "" {
			t.Errorf("%s: Lighthouse could not measure it: %s", r.What, r.Failed)
			continue
		}
		for category, score := range r.Scores {
			if score < 100 {
				t.Errorf("%s: %s is %d: %s", r.What, category, score, strings.Join(r.Wanting, "; "))
			}
		}
	}
}
