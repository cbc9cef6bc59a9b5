// Package provider is the one list of the third parties at which managed credentials are made, and
// reads how each is to be used. To add one, write its package beside agentmail, and name it here
// and in package fakes: docs/adding-a-provider.md says how.
package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"managed-credentials/shared/config"
	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/orgkey"
	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/provider/ayrshare"
	"managed-credentials/shared/provider/openai"
	"managed-credentials/shared/provider/openrouter"
)

// constructors make the providers, from the settings that MANAGED_PROVIDERS has for them.
var constructors = map[string]constructor{
	agentmail.Name:  agentMail,
	ayrshare.Name:   from(ayrshare.New),
	openai.Name:     from(openai.New),
	openrouter.Name: from(openrouter.New),
}

// Names are those of all providers, in their order.
func Names() []string { return slices.Sorted(maps.Keys(constructors)) }

type constructor func(env *config.Env, settings []byte) (managed.Provider, error)

// from is the constructor of a provider whose settings are a JSON object, of the members that S
// has.
func from[S any, P managed.Provider](make func(S) (P, error)) constructor {
	return func(_ *config.Env, settings []byte) (managed.Provider, error) {
		var s S
		err := read(settings, &s)
		if err != nil {
			return nil, err
		}
		return make(s)
	}
}

// read reads settings strictly: a name that is mistyped would be a setting that nobody has.
func read(settings []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(settings))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// agentMail has its settings in variables of its own.
func agentMail(env *config.Env, settings []byte) (managed.Provider, error) {
	err := read(settings, &struct{}{})
	if err != nil {
		return nil, fmt.Errorf("its settings are the variables whose names begin with AGENTMAIL_: %w", err)
	}
	return agentmail.New(agentmail.Config{
		BaseURL:        env.Optional("AGENTMAIL_BASE_URL"),
		ClientIDPrefix: env.Optional("AGENTMAIL_CLIENT_ID_PREFIX"),
		Permissions:    env.Optional("AGENTMAIL_PERMISSIONS"),
		Rate:           env.AgentMailRate(),
		Adopts:         env.AgentMailAdopts(),
	})
}

// Configure sets the providers of c, their modes and their faults, as MANAGED_PROVIDERS has them: a
// JSON object of providers, each with its mode, its title if that is not the package's, and its
// settings. A provider that it does not name is off, and one that there is not; if the first can
// work without settings, what was made there is still revoked. Settings that cannot work take out
// their provider alone. Whether one is available is decided later: by whether there is an org key
// for it.
func Configure(c *managed.Config, env *config.Env) {
	c.Providers, c.Modes, c.OptOut = nil, map[string]managed.Mode{}, map[string]bool{}
	c.Replace, c.Titles, c.Faults = map[string]time.Duration{}, map[string]string{}, map[string]error{}
	setting := env.ManagedProviders()
	for name := range setting.Named {
		if constructors[name] == nil {
			c.Faults[name] = errors.New("MANAGED_PROVIDERS names a provider that does not exist")
			c.Modes[name] = managed.Off
		} else if setting.Twice[name] {
			c.Faults[name] = errors.New("MANAGED_PROVIDERS has it twice")
		}
	}
	for _, name := range Names() {
		value, isNamed := setting.Named[name]
		if !isNamed {
			value = json.RawMessage(`{"mode":"off"}`)
		}
		if setting.Err != nil {
			c.Faults[name] = fmt.Errorf("MANAGED_PROVIDERS: %w", setting.Err)
		}
		if c.Faults[name] != nil {
			continue
		}
		general, settings, err := split(value)
		var p managed.Provider
		if err == nil {
			p, err = constructors[name](env, settings)
		}
		switch {
		case err == nil:
			c.Providers = append(c.Providers, p)
			c.Modes[name], c.OptOut[name] = general.Mode, general.OptOut
			if general.Replace != nil {
				c.Replace[name] = *general.Replace
			}
			if general.Title != "" {
				c.Titles[name] = general.Title
			}
		case isNamed:
			c.Faults[name] = fmt.Errorf("MANAGED_PROVIDERS, %s: %w", name, err)
		}
	}
}

// OrgKeys are the providers' org keys: each in a secret of its own, whose name begins with
// ORG_KEYS_PREFIX, or else in the one that ORG_KEYS_SECRET_ID names.
func OrgKeys(env *config.Env, api orgkey.API, providers []managed.Provider) *orgkey.Own {
	c := orgkey.OwnConfig{Prefix: env.Required("ORG_KEYS_PREFIX"), Shared: env.Required("ORG_KEYS_SECRET_ID"), Fields: map[string][]string{}}
	for _, p := range providers {
		fielded, ok := p.(managed.Fielded)
		if ok {
			c.Fields[p.Name()] = fielded.OrgKeyFields()
		}
	}
	return orgkey.NewOwn(api, c)
}

// general are the settings that every provider has.
type general struct {
	Mode managed.Mode `json:"mode"`
	// OptOut: users may have their credential removed.
	OptOut bool `json:"opt_out"`
	// Replace is for how long a key serves on beside the one by which its user has had it replaced;
	// nil if users may not.
	Replace *time.Duration
	// Title is what users see of the credential; "" is what the provider calls it.
	Title string `json:"title"`
}

// modes are those that MANAGED_PROVIDERS may name.
var modes = []managed.Mode{managed.Auto, managed.OnDemand, managed.Frozen, managed.Draining, managed.Off}

// split takes the general settings out of what MANAGED_PROVIDERS has for a provider; the rest are
// its own.
func split(value []byte) (general, []byte, error) {
	settings := map[string]json.RawMessage{}
	var twice bool
	err := credential.Members(value, func(name string, value json.RawMessage) {
		twice = twice || settings[name] != nil
		settings[name] = value
	})
	if err != nil || twice {
		return general{}, nil, errors.New("it has to be a JSON object that has no name twice")
	}
	var g general
	err = json.Unmarshal(settings["mode"], &g.Mode)
	if err != nil || !slices.Contains(modes, g.Mode) {
		return general{}, nil, fmt.Errorf("mode has to be one of %q", modes)
	}
	optOut, ok := settings["opt_out"]
	if ok && json.Unmarshal(optOut, &g.OptOut) != nil {
		return general{}, nil, errors.New("opt_out has to be true or false")
	}
	replace, ok := settings["replace"]
	if ok {
		g.Replace, err = overlap(replace)
		if err != nil {
			return general{}, nil, err
		}
	}
	title, ok := settings["title"]
	if ok && (json.Unmarshal(title, &g.Title) != nil || !readable(g.Title)) {
		return general{}, nil, errors.New("title has to be a text of one line, of 1 to 100 characters")
	}
	delete(settings, "title")
	delete(settings, "mode")
	delete(settings, "opt_out")
	delete(settings, "replace")
	rest, err := json.Marshal(settings)
	return g, rest, err
}

// overlap reads for how long a key serves on that was replaced.
func overlap(value json.RawMessage) (*time.Duration, error) {
	var text string
	err := json.Unmarshal(value, &text)
	d, malformed := time.ParseDuration(text)
	if err != nil || malformed != nil || d < 0 || d > managed.LongestOverlap {
		return nil, fmt.Errorf("replace has to be a duration from 0s to %dh, such as 1h", int(managed.LongestOverlap.Hours()))
	}
	return &d, nil
}

// readable reports whether s can be a title: 1 to 100 characters, no control characters among them,
// and nothing that cannot be seen. As a regular expression this took each process milliseconds and
// megabytes to compile.
func readable(s string) bool {
	unreadable := func(r rune) bool {
		return !unicode.In(r, unicode.L, unicode.N, unicode.P, unicode.S, unicode.Zs, unicode.M)
	}
	return s != "" && utf8.RuneCountInString(s) <= 100 && !strings.ContainsFunc(s, unreadable)
}
