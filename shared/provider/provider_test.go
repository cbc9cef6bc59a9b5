package provider_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/config"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider"
)

func configured(value string) managed.Config {
	var c managed.Config
	provider.Configure(&c, config.From(func(name string) string {
		if name == "MANAGED_PROVIDERS" {
			return value
		}
		return ""
	}))
	return c
}

func names(c managed.Config) []string {
	var all []string
	for _, p := range c.Providers {
		all = append(all, p.Name())
	}
	return all
}

func TestWhichProvidersThereAreIsASetting(t *testing.T) {
	t.Parallel()
	const router = `{"mode":"auto","limit":2.5,"limit_reset":"weekly","workspace":"w"}`
	for value, want := range map[string]map[string]managed.Mode{
		"":   {"agent_mail": managed.Auto},
		`{}`: {"agent_mail": managed.Off},
		`{"agent_mail":{"mode":"frozen"},"open_router":` + router + `}`:     {"agent_mail": managed.Frozen, "open_router": managed.Auto},
		"\ufeff" + ` {"open_router":` + router + `}`:                        {"agent_mail": managed.Off, "open_router": managed.Auto},
		`{"open_router":` + strings.Replace(router, "auto", "off", 1) + `}`: {"agent_mail": managed.Off, "open_router": managed.Off},
		`{"agent_mail":{"mode":"draining"}}`:                                {"agent_mail": managed.Draining},
	} {
		c := configured(value)
		if !slices.Equal(names(c), slices.Sorted(maps.Keys(c.Modes))) || len(c.Faults) > 0 {
			t.Errorf("%s: %v %v, faults: %v", value, names(c), c.Modes, c.Faults)
		}
		maps.DeleteFunc(c.Modes, func(name string, mode managed.Mode) bool { // those that work without settings
			return mode == managed.Off && !strings.Contains(value, name) && name != "agent_mail"
		})
		if !maps.Equal(c.Modes, want) {
			t.Errorf("%s: the modes are %v", value, c.Modes)
		}
	}
}

func TestWhatUsersSeeOfAProvidersCredentialIsASetting(t *testing.T) {
	t.Parallel()
	c := configured(`{"agent_mail":{"mode":"auto","title":"Mail (by \u00c4cme)"},"open_router":{"mode":"auto","limit":1,"workspace":"w"}}`)
	if !maps.Equal(c.Titles, map[string]string{"agent_mail": "Mail (by Äcme)"}) || len(c.Faults) > 0 || c.Modes["open_router"] != managed.Auto {
		t.Errorf("titles: %q, faults: %v", c.Titles, c.Faults)
	}
	for _, title := range []string{`""`, `5`, `null`, `"two\nlines"`, `"\u200b"`, `"` + strings.Repeat("a", 101) + `"`} {
		c := configured(`{"agent_mail":{"mode":"auto","title":` + title + `}}`)
		if c.Faults["agent_mail"] == nil || !strings.Contains(c.Faults["agent_mail"].Error(), "title") {
			t.Errorf("%s: %q, faults: %v", title, c.Titles, c.Faults)
		}
	}
}

func TestWhoMayReplaceTheirKeyIsASetting(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{`"0s"`: 0, `"90m"`: 90 * time.Minute, `"720h"`: managed.LongestOverlap} {
		c := configured(`{"agent_mail":{"mode":"auto","replace":` + value + `},"open_router":{"mode":"auto","limit":1,"workspace":"w"}}`)
		if !maps.Equal(c.Replace, map[string]time.Duration{"agent_mail": want}) || len(c.Faults) > 0 {
			t.Errorf("%s: %v, faults: %v", value, c.Replace, c.Faults)
		}
	}
	for _, value := range []string{`true`, `60`, `null`, `""`, `"1 h"`, `"-1s"`, `"721h"`} {
		c := configured(`{"agent_mail":{"mode":"auto","replace":` + value + `}}`)
		if c.Faults["agent_mail"] == nil || !strings.Contains(c.Faults["agent_mail"].Error(), "replace has to be a duration from 0s to 720h") {
			t.Errorf("%s: %v, faults: %v", value, c.Replace, c.Faults)
		}
	}
}

func TestASettingThatCannotWorkTakesOutItsProvider(t *testing.T) {
	t.Parallel()
	const mail = `"agent_mail":{"mode":"auto"}`
	for value, fault := range map[string]string{
		`{` + mail + `,"open_router":{"mode":"auto","workspace":"w"}}`:                      "limit",
		`{` + mail + `,"open_router":{"mode":"auto","limit":1,"workspace":"w","limits":2}}`: "limits",
		`{` + mail + `,"open_router":{"mode":"drained","limit":1,"workspace":"w"}}`:         "mode",
		`{` + mail + `,"open_router":{"limit":1,"workspace":"w"}}`:                          "mode",
		`{` + mail + `,"open_router":{"mode":"auto","limit":1,"limit":2,"workspace":"w"}}`:  "twice",
		`{` + mail + `,"open_router":{"mode":"auto","limit":"1","workspace":"w"}}`:          "limit",
		`{` + mail + `,"open_router":null}`:                                                 "JSON object",
		`{` + mail + `,"open_router":{},"open_router":{"mode":"off"}}`:                      "twice",
		`{` + mail + `,"openrouter":{"mode":"auto"}}`:                                       "does not exist",
	} {
		c := configured(value)
		if !slices.Contains(names(c), "agent_mail") || len(c.Faults) != 1 {
			t.Errorf("%s: %v, faults: %v", value, names(c), c.Faults)
		}
		for _, err := range c.Faults {
			if !strings.Contains(err.Error(), fault) {
				t.Errorf("%s: %v", value, err)
			}
		}
	}
	for _, value := range []string{"x", "[]", `{"agent_mail":{"mode":"auto"}`} {
		c := configured(value)
		if len(c.Providers) > 0 || len(c.Faults) != len(provider.Names()) {
			t.Errorf("%s: %v, faults: %v", value, names(c), c.Faults)
		}
	}
	if c := configured(`{"agent_mail":{"mode":"auto","base_url":"https://x"}}`); !strings.Contains(c.Faults["agent_mail"].Error(), "AGENTMAIL_") {
		t.Errorf("faults: %v", c.Faults)
	}
}
