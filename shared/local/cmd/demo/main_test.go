package main

import (
	"bytes"
	"strings"
	"testing"
)

// Each step fails if what it shows is not so.
func TestTheDemoShowsWhatTheServicePromises(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := run(t.Context(), &out, false)
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{"AgentMail holds 1 pod and 1 key of alice", "the key is there, and no answer said so",
		"2 keys were made in all", "AgentMail holds 1 pod and 1 key of bob", "AgentMail holds 0 pods", "it found nothing"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("it has colours where none are wanted")
	}
}
