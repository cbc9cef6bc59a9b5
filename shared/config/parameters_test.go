package config_test

import (
	"cmp"
	"errors"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"managed-credentials/shared/config"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider"
	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/token"
)

// A parameter that the template takes and the code does not is a deployment in which each call
// fails. CloudFormation asks the parameter's pattern before it changes anything, so the patterns
// are as strict as the parsers.

// parameter is one of the template's.
type parameter struct {
	AllowedPattern string   `yaml:"AllowedPattern"`
	AllowedValues  []string `yaml:"AllowedValues"`
}

// takes reports whether CloudFormation takes the value. A pattern has to fit all of it.
func (p parameter) takes(value string) bool {
	if p.AllowedValues != nil {
		return slices.Contains(p.AllowedValues, value)
	}
	return regexp.MustCompile(`\A(?:` + p.AllowedPattern + `)\z`).MatchString(value)
}

// any draws a value that CloudFormation takes.
func (p parameter) any(t *rapid.T) string {
	if p.AllowedValues != nil {
		return rapid.SampledFrom(p.AllowedValues).Draw(t, "value")
	}
	return rapid.StringMatching(p.AllowedPattern).Draw(t, "value")
}

// templateParameters are those of template.yaml that a function's variable is set to, by the
// variable.
func templateParameters(t *testing.T) map[string]parameter {
	t.Helper()
	c := readCode(t)
	var document struct {
		Parameters map[string]parameter `yaml:"Parameters"`
		Resources  map[string]struct {
			Properties yaml.Node `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	err := yaml.Unmarshal([]byte(c.text("template.yaml")), &document)
	if err != nil {
		t.Fatal(err)
	}
	byVariable := map[string]parameter{}
	for _, resource := range document.Resources {
		var p struct {
			Environment struct {
				Variables map[string]yaml.Node `yaml:"Variables"`
			} `yaml:"Environment"`
		}
		err := resource.Properties.Decode(&p)
		if err != nil {
			continue // not a function
		}
		for name, value := range p.Environment.Variables {
			found, ok := document.Parameters[value.Value]
			if ok && value.Tag == "!Ref" {
				byVariable[name] = found
			}
		}
	}
	return byVariable
}

// setting is how the code reads a variable, with examples that it takes and that it refuses.
type setting struct {
	read      func() error
	good, bad []string
}

// env is the error of reading the variables that read reads.
func env[T any](read func(*config.Env) T) func() error {
	return func() error {
		e := config.Environ()
		read(e)
		return e.Err()
	}
}

// agentMail is the error of making the provider.
func agentMail() error {
	e := config.Environ()
	_, err := agentmail.New(agentmail.Config{BaseURL: e.Optional("AGENTMAIL_BASE_URL"), ClientIDPrefix: e.Optional("AGENTMAIL_CLIENT_ID_PREFIX"),
		Permissions: e.Optional("AGENTMAIL_PERMISSIONS")})
	return err
}

// durations is the error of the two durations, each by itself and together.
func durations() error {
	e := config.Environ()
	_, err := managed.New(managed.Config{Budget: e.Budget(), Lease: e.Lease()})
	return errors.Join(e.Err(), err)
}

// tokens is the error of making the verifier, with a setting that is missing in place; where the
// tokens are Cognito's there is none.
func tokens() error {
	e := config.Environ()
	issuer, audience := e.Optional("JWT_ISSUER"), e.Optional("JWT_AUDIENCE")
	_, err := token.New(token.Config{
		Issuer:    cmp.Or(issuer, "https://auth.example.com"),
		Audience:  cmp.Or(audience, "the-api"),
		UserClaim: e.Optional("JWT_USER_CLAIM"),
	})
	return err
}

var settings = map[string]setting{
	"JWT_ISSUER": {
		read: tokens,
		good: []string{"", "https://auth.example.com", "https://auth.example.com/", "https://auth.example.com:8443/realms/main", "https://x.supabase.co/auth/v1"},
		bad:  []string{"auth.example.com", "http://auth.example.com", "https://", "https://a b", "https://user@host", "https://auth.example.com?x", "https://auth.example.com#x"},
	},
	"JWT_AUDIENCE": {
		read: tokens,
		good: []string{"", "authenticated", "https://api.example.com/", "urn:api"},
		bad:  []string{"two audiences", "ä", "a\nb"},
	},
	"JWT_USER_CLAIM": {
		read: tokens,
		good: []string{"sub", "uid", "https://example.com/uid"},
		bad:  []string{"a claim", "a\nb"},
	},
	"SYSTEM_CREDENTIALS": {
		read: env((*config.Env).SystemCredentials),
		good: []string{`{}`, `{"openai":"Use Credits for OpenAI"}`, "{ \"a_1\" : \"\",\n\"b\":\"say \\\"hi\\\" \\u00e4 ä\" }"},
		bad: []string{`{"OpenAI":"x"}`, `{"open ai":"x"}`, `{"":"x"}`, `{"openai":5}`, `{"openai":["x"]}`, `{"openai":"x"`, `{"openai":"x",}`, `{openai:"x"}`,
			`{"openai":"x"}}`, `{{}}`, `{"openai":"\q"}`, "{\"openai\":\"a\nb\"}", `[]`, `{"openai" "x"}`},
	},
	"MANAGED_PROVIDERS": { // whatever is wrong in it takes out its providers, and no function
		read: func() error {
			e := config.Environ()
			provider.Configure(&managed.Config{}, e)
			return e.Err()
		},
		good: []string{"", `{}`, `{"agent_mail":{"mode":"auto"}}`, `{"agent_mail":{"mode":"frozen"},"open_router":{"mode":"auto","limit":5,"workspace":"w"}}`},
	},
	"AGENTMAIL_BASE_URL": {
		read: agentMail,
		good: []string{"https://api.agentmail.to", "https://api.agentmail.eu", "https://proxy.internal:8443"},
		bad:  []string{"api.agentmail.to", "https://", "https://api.agentmail.to/v0", "https://a:b", "https://:443", "https://a b", "https://user@host", "https://a::1"},
	},
	"AGENTMAIL_CLIENT_ID_PREFIX": {
		read: agentMail,
		good: []string{"", "staging-", "a.b_c~d"},
		bad:  []string{"a/b", "a b", "ä", "a#"},
	},
	"AGENTMAIL_PERMISSIONS": {
		read: agentMail,
		good: []string{"", "null", "{}", `{"inbox_read":true}`, `{ "inbox_read" : true , "api_key_create" : false }`},
		bad:  []string{"all", "[]", `{"inbox_read":1}`, `{"Inbox":true}`, `{"inbox_read":true`, `{"inbox_read":true,}`, `{"inbox read":true}`},
	},
	"PROVISION_BUDGET": {
		read: durations,
		good: []string{"5s", "9s", "100ms", "2500ms"},
		bad:  []string{"5", "0s", "30s", "5 s", "-5s", "60000ms", "1h"},
	},
	"LEASE": {
		read: durations,
		good: []string{"22s", "60s", "120s"},
		bad:  []string{"10s", "5s", "60", "1s", "0s", "-60s"},
	},
	"AGENTMAIL_ADOPTS": {
		read: env((*config.Env).AgentMailAdopts),
		good: []string{"true", "false"},
		bad:  []string{"yes", "True", "1"},
	},
	"MAX_CREDENTIALS": {
		read: env((*config.Env).MaxCredentials),
		good: []string{"1", "200", "100000"},
		bad:  []string{"0", "-1", "many", "1.5", " 1"},
	},
	"DELETION_HOLDBACK": {
		read: env((*config.Env).Holdback),
		good: []string{"", "1h", "72h", "168h", "700h", "720h"},
		bad:  []string{"721h", "800h", "0h", "-1h", "30d", "1000h", "24"},
	},
	"AGENTMAIL_RATE": {
		read: env((*config.Env).AgentMailRate),
		good: []string{"", "20", "0.5", "1000"},
		bad:  []string{"0", "-1", "many", "1e9", "0.01", "NaN"},
	},
	"AUDIT_GONE_FLOOR": {
		read: env((*config.Env).GoneFloor),
		good: []string{"0", "10", "1000"},
		bad:  []string{"-1", "1.5", "many", " 1"},
	},
	"AUDIT_GONE_SHARE": {
		read: env((*config.Env).GoneShare),
		good: []string{"0", "1", "0.02"},
		bad:  []string{"1.1", "2%", "-0.1", "NaN"},
	},
	"AUDIT_UNKNOWN_AFTER": {
		read: env((*config.Env).UnknownAfter),
		good: []string{"24h", "1h", "720h"},
		bad:  []string{"24", "0h", "1d", "-1h"},
	},
	"AUDIT_EVERY": {
		read: env((*config.Env).AuditEvery),
		good: []string{"never", "1h", "24h", "168h"},
		bad:  []string{"24", "0h", "1d", "daily"},
	},
	"AUDIT_SEGMENTS": {
		read: env((*config.Env).AuditSegments),
		good: []string{"1", "4", "10", "64"},
		bad:  []string{"0", "65", "100", "-1", "1.5", "many"},
	},
	"MAX_KEY_AGE": {
		read: env((*config.Env).MaxKeyAge),
		good: []string{"", "24h", "29h", "30h", "99h", "100h", "2160h", "87600h"},
		bad:  []string{"1h", "23h", "0h", "-48h", "90d", "2160", "never"},
	},
	"AUDIT_DELETES_UNKNOWN": {
		read: env((*config.Env).DeletesUnknown),
		good: []string{"true", "false"},
		bad:  []string{"yes", "True", "1"},
	},
	"BRAND_NAME": {
		read: env((*config.Env).BrandName),
		good: []string{"", "Acme", "Ünïcode & Söhne <3", strings.Repeat("ä", 64)},
		bad:  []string{"two\nlines", "a\tb", strings.Repeat("a", 65)},
	},
	"BRAND_LOGO_URL": {
		read: env((*config.Env).BrandLogoURL),
		good: []string{"", "https://acme.example", "https://cdn.acme.example:8443/brand/logo-2%20x.svg"},
		bad: []string{"http://acme.example/logo.svg", "acme.example/logo.svg", "https://", "https://acme.example/logo.svg?v=1", "https://acme.example/a;script-src%20*;",
			"https://acme.example/a b", "https://acme.example/'", "data:image/png;base64,AA==", "https://user@acme.example/logo.svg"},
	},
	"BRAND_ACCENT": {
		read: env((*config.Env).BrandAccent),
		good: []string{"", "#3450c4", "#FFFFFF"},
		bad:  []string{"3450c4", "#34c", "red", "#3450c4ff", "#3450cg", "var(--x)"},
	},
	"SUPPORT_URL": {
		read: env((*config.Env).SupportURL),
		good: []string{"", "https://acme.example/help?from=credentials#new", "mailto:help@acme.example?subject=Credentials"},
		bad:  []string{"javascript:alert(1)", "http://acme.example", "help@acme.example", "https://", "https://a b", "mailto:"},
	},
	"SEAL_OPEN_FIELDS": {
		read: env((*config.Env).SealOpenFields),
		good: []string{"true", "false"},
		bad:  []string{"yes", "True", "1"},
	},
	"SUSPENSION": {
		read: env((*config.Env).Suspends),
		good: []string{"true", "false"},
		bad:  []string{"yes", "True", "1"},
	},
	"SUSPENDED_KEYS_LIVE": {
		read: env((*config.Env).SuspendedKeysLive),
		good: []string{"", "1h", "24h", "168h", "99999h"},
		bad:  []string{"0h", "-1h", "30m", "7d", "168", "never"},
	},
	"LOG_LEVEL": {
		read: env((*config.Env).LogLevel),
		good: []string{"DEBUG", "INFO", "WARN", "ERROR"},
		bad:  []string{"LOUD", "5"},
	},
}

func TestTheTemplateTakesNoParameterThatTheCodeRefuses(t *testing.T) {
	byVariable := templateParameters(t)
	for name := range settings {
		t.Setenv(name, "")
	}
	for name, p := range byVariable {
		s, ok := settings[name]
		if !ok {
			t.Errorf("%s is set to a parameter, and no test says how the code reads it", name)
			continue
		}
		t.Run(name, func(t *testing.T) { s.holds(t, name, p) })
	}
}

// holds checks that the parameter's pattern takes what the code takes of the examples, and nothing
// that the code refuses.
func (s setting) holds(t *testing.T, name string, p parameter) {
	t.Setenv(name, "") // so that it is put back
	refused := func(value string) bool {
		err := os.Setenv(name, value) //nolint:usetesting // it is set some hundred times, and put back once
		if err != nil {
			t.Fatal(err)
		}
		return s.read() != nil
	}
	for _, value := range s.good {
		if !p.takes(value) || refused(value) {
			t.Errorf("%q: the template takes it: %v, the code refuses it: %v", value, p.takes(value), refused(value))
		}
	}
	for _, value := range s.bad {
		if p.takes(value) || !refused(value) {
			t.Errorf("%q: the template takes it: %v, the code refuses it: %v", value, p.takes(value), refused(value))
		}
	}
	if t.Failed() {
		return
	}
	rapid.Check(t, func(t *rapid.T) {
		value := p.any(t)
		if refused(value) {
			t.Errorf("%q: the template takes it, and the code does not", value)
		}
	})
}

// CloudFormation's rules cannot calculate. So each budget that the template takes has to go with
// each lease.
func TestEachBudgetGoesWithEachLease(t *testing.T) {
	byVariable := templateParameters(t)
	t.Setenv("LEASE", "")
	t.Setenv("PROVISION_BUDGET", "")
	var shortest int
	for seconds := 1; seconds < 1000 && shortest == 0; seconds++ {
		if byVariable["LEASE"].takes(strconv.Itoa(seconds) + "s") {
			shortest = seconds
		}
	}
	t.Setenv("LEASE", strconv.Itoa(shortest)+"s")
	rapid.Check(t, func(t *rapid.T) {
		budget := byVariable["PROVISION_BUDGET"].any(t)
		err := os.Setenv("PROVISION_BUDGET", budget) //nolint:usetesting // as above
		if err == nil {
			err = durations()
		}
		if err != nil {
			t.Errorf("the template takes the lease %ds with the budget %s: %v", shortest, budget, err)
		}
	})
}
