package stack

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"managed-credentials/shared/local/lambda"
	"managed-credentials/shared/local/standin"
	"managed-credentials/shared/local/template"
)

// keyID is the KMS key's, unless it is known by another.
const keyID = "2f1c7a52-8a2e-4a0e-9c55-6d1b0f3e7a10"

// environment has the values of the functions' variables.
type environment struct {
	values map[string]string
}

// newEnvironment fits this machine. Where a value is empty the functions have a default of their
// own.
func newEnvironment(override map[string]string) *environment {
	e := &environment{values: map[string]string{
		"ACCOUNT_DELETIONS_FAILED_URL": DeadLetters,
		"AGENTMAIL_BASE_URL":           "https://api.agentmail.to",
		"AGENTMAIL_CLIENT_ID_PREFIX":   "",
		"AGENTMAIL_ADOPTS":             "",
		"AGENTMAIL_PERMISSIONS":        "",
		"AGENTMAIL_RATE":               "",
		"AUDIT_GONE_FLOOR":             "",
		"BRAND_ACCENT":                 "",
		"BRAND_LOGO_URL":               "",
		"BRAND_NAME":                   "",
		"DELETION_HOLDBACK":            "",
		"AUDIT_GONE_SHARE":             "",
		"AUDIT_DELETES_UNKNOWN":        "",
		"AUDIT_EVERY":                  "",
		"AUDIT_SEGMENTS":               "",
		"AUDIT_UNKNOWN_AFTER":          "",
		"JWT_AUDIENCE":                 clientID,
		"JWT_ISSUER":                   "",
		"JWT_USER_CLAIM":               "",
		"KMS_KEY_ID":                   "alias/managed-credentials",
		"LEASE":                        "",
		"LOG_LEVEL":                    "",
		"MANAGED_PROVIDERS":            "",
		"MANAGED_LOGIN_URL":            "",
		"MAX_CREDENTIALS":              "",
		"MAX_KEY_AGE":                  "",
		"ORG_KEYS_PREFIX":              "managed-credentials/org-keys/",
		"ORG_KEYS_SECRET_ID":           "managed-credentials/org-keys",
		"PROVISION_BUDGET":             "",
		"SEAL_OPEN_FIELDS":             "",
		"SUSPENDED_KEYS_LIVE":          "",
		"SUSPENSION":                   "true",
		"SIGN_IN_AS":                   "/local/token",
		"SUPPORT_URL":                  "",
		"SYSTEM_CREDENTIALS":           `{"openai":"Use Credits for OpenAI"}`,
		"SYSTEM_KEYS_SECRET_ID":        "managed-credentials/system-keys",
		"TABLE_NAME":                   "managed-credentials-" + strings.ToLower(rand.Text()[:8]),
		"USER_CLEANUP_FUNCTION":        "user-cleanup",
		"USER_POOL_CLIENT_ID":          clientID,
		"USER_POOL_ID":                 userPoolID,
	}}
	maps.Copy(e.values, override)
	return e
}

// functions gives each function what the template gives it, and beside that what stands for the
// role and the region that it has on AWS: credentials and endpoints.
func (e *environment) functions(deployed []template.Function, binaries map[string]string) ([]lambda.Function, error) {
	var all []lambda.Function
	for _, f := range deployed {
		env := map[string]string{"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
		for name, value := range e.values {
			if strings.HasPrefix(name, "AWS_ENDPOINT_URL_") {
				env[name] = value
			}
		}
		maps.Copy(env, f.Constants)
		for _, name := range f.Variables {
			value, ok := e.values[name]
			if !ok {
				return nil, fmt.Errorf("the template gives %s the variable %s, which has no value on this machine", f.Name, name)
			}
			env[name] = value
		}
		all = append(all, lambda.Function{
			Name: f.Name, Bootstrap: binaries[f.Name], Timeout: f.Timeout, MemoryMB: f.MemoryMB, Env: env,
		})
	}
	return all, nil
}

// key is the KMS key that the functions ask for.
func (e *environment) key() (standin.Key, error) {
	id := e.values["KMS_KEY_ID"]
	switch {
	case strings.HasPrefix(id, "alias/"):
		return standin.Key{ID: keyID, Aliases: []string{id}}, nil
	case strings.HasPrefix(id, "arn:"):
		return standin.Key{}, errors.New("KMS_KEY_ID is an ARN; on this machine it has to be an id or an alias")
	default:
		return standin.Key{ID: id}, nil
	}
}

// systemKeys makes up a key for each system credential on offer.
func (e *environment) systemKeys() (map[string]string, error) {
	var titles map[string]string
	err := json.Unmarshal([]byte(e.values["SYSTEM_CREDENTIALS"]), &titles)
	if err != nil {
		return nil, fmt.Errorf("reading SYSTEM_CREDENTIALS: %w", err)
	}
	keys := map[string]string{}
	for provider := range titles {
		keys[provider] = "local-" + provider + "-key-that-opens-nothing"
	}
	return keys, nil
}

// secrets is what is in Secrets Manager, by name. Each provider's org key is in a secret of its
// own, and in the one of all, which is where an earlier version looks.
func (e *environment) secrets(systemKeys, orgKeys map[string]string) (map[string]string, error) {
	secrets := map[string]string{}
	for name, keys := range map[string]map[string]string{
		e.values["ORG_KEYS_SECRET_ID"]:    orgKeys,
		e.values["SYSTEM_KEYS_SECRET_ID"]: systemKeys,
	} {
		value, err := json.Marshal(keys)
		if err != nil {
			return nil, fmt.Errorf("writing secret %s: %w", name, err)
		}
		secrets[name] = string(value)
	}
	for provider, key := range orgKeys {
		secrets[e.values["ORG_KEYS_PREFIX"]+provider] = key
	}
	return secrets, nil
}

// findBinaries returns the path of each function's binary.
func findBinaries(cfg Config, functions []template.Function) (map[string]string, error) {
	dist := cfg.Dist
	if dist == "" {
		root, err := template.Root(cfg.Dir)
		if err != nil {
			return nil, err
		}
		dist = filepath.Join(root, "dist")
	}
	binaries := map[string]string{}
	for _, f := range functions {
		binary := filepath.Join(dist, f.Name, "bootstrap")
		_, err := os.Stat(binary)
		if err != nil {
			return nil, fmt.Errorf("%s is missing: run `make build` first", binary)
		}
		binaries[f.Name] = binary
	}
	return binaries, nil
}
