package credential_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"managed-credentials/shared/credential"
)

// leak is the secret that must not be seen anywhere.
const leak = "sk-live-4815162342"

// carrier has secrets in every sort of field. fmt cannot call the methods of what a field holds
// that is not exported.
type carrier struct {
	Secret   credential.Secret
	Material credential.Material
	Pointer  *credential.Secret
	Any      any
	hidden   credential.Secret
	material credential.Material
	pointer  *credential.Material
	list     []credential.Secret
	byName   map[string]credential.Secret
	inside   struct{ secret credential.Secret }
}

// carriers are all the ways in which a secret may be handed to something that prints.
func carriers(t *testing.T) map[string]any {
	t.Helper()
	secret := credential.NewSecret(leak)
	wanted, err := credential.ParseNew([]byte(`{"type":"host_scoped","host":"example.com","headers":{"Authorization":"` + leak + `"}}`))
	if err != nil {
		t.Fatal(err)
	}
	material := wanted.Material
	c := carrier{secret, material, &secret, secret, secret, material, &material, []credential.Secret{secret},
		map[string]credential.Secret{"key": secret}, struct{ secret credential.Secret }{secret}}
	return map[string]any{
		"secret":              secret,
		"pointer to secret":   &secret,
		"list of secrets":     []credential.Secret{secret},
		"map of secrets":      map[string]credential.Secret{"key": secret},
		"map by secret":       map[credential.Secret]string{secret: "name"},
		"material":            material,
		"pointer to material": &material,
		"api_key material":    credential.APIKeyMaterial(secret),
		"list of materials":   []credential.Material{material},
		"new":                 wanted,
		"change":              credential.Change{Type: material.Type(), Material: &material},
		"struct":              c,
		"pointer to struct":   &c,
		"list of structs":     []carrier{c},
	}
}

func TestNoVerbPrintsASecret(t *testing.T) {
	t.Parallel()
	for name, value := range carriers(t) {
		for _, verb := range "vTtbcdoOqxXUeEfFgGspw?" {
			for _, flags := range []string{"", "+", "#", "+#", " ", "# ", "-", "0", "40", ".3", "*", "[2]"} {
				format := "%" + flags + string(verb)
				printed := fmt.Sprintf(format, value)
				if strings.Contains(printed, leak) {
					t.Errorf("%s of a %s shows the secret: %s", format, name, printed)
				}
				// The secret's bytes, one by one, as this verb would print them.
				spelt := strings.Trim(fmt.Sprintf("%"+strings.Trim(flags, "*[2]")+string(verb), []byte(leak)), "[]")
				if verb != 'T' && strings.Contains(printed, spelt) {
					t.Errorf("%s of a %s spells the secret: %s", format, name, printed)
				}
			}
		}
	}
}

func TestASecretPrintsAsRedacted(t *testing.T) {
	t.Parallel()
	for _, value := range []any{credential.NewSecret(leak), credential.Secret{}, credential.APIKeyMaterial(credential.NewSecret(leak))} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			printed := fmt.Sprintf(format, value)
			if printed != "[redacted]" {
				t.Errorf("%s printed %q", format, printed)
			}
		}
		printed := value.(fmt.Stringer).String()
		if printed != "[redacted]" {
			t.Errorf("String returned %q", printed)
		}
	}
}

func TestNoLogLineHasASecret(t *testing.T) {
	t.Parallel()
	var lines bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&lines, nil), slog.NewJSONHandler(&lines, nil)} {
		log := slog.New(handler)
		for name, value := range carriers(t) {
			lines.Reset()
			log.Info("attribute", "value", value)
			log.Info("group", slog.Group("group", "value", value))
			log.With("value", value).Info("with")
			log.WithGroup("group").Info("in a group", "value", value)
			log.Info("message: " + fmt.Sprint(value))
			log.Info("error", "error", fmt.Errorf("failing with %v", value))
			if strings.Contains(lines.String(), leak) {
				t.Errorf("%T logs the secret of a %s:\n%s", handler, name, &lines)
			}
			if !strings.Contains(lines.String(), "[redacted]") {
				t.Errorf("%T logs a %s without saying that something was left out:\n%s", handler, name, &lines)
			}
		}
	}
}

func TestNoJSONHasASecret(t *testing.T) {
	t.Parallel()
	for name, value := range carriers(t) {
		marshalled, err := json.Marshal(value)
		if err != nil {
			t.Errorf("marshalling a %s: %v", name, err)
		}
		if bytes.Contains(marshalled, []byte(leak)) {
			t.Errorf("the JSON of a %s shows the secret: %s", name, marshalled)
		}
	}
	marshalled, err := json.Marshal(credential.NewSecret(leak))
	if err != nil || string(marshalled) != `"[redacted]"` {
		t.Errorf("a secret marshals to %s, %v", marshalled, err)
	}
}

func TestRevealReadsTheSecret(t *testing.T) {
	t.Parallel()
	for _, text := range []string{leak, "", " ", "ключ\x00"} {
		secret := credential.NewSecret(text)
		if secret.Reveal() != text || secret.Empty() != (text == "") {
			t.Errorf("the secret %q reads %q, empty: %t", text, secret.Reveal(), secret.Empty())
		}
	}
	var zero credential.Secret
	if zero.Reveal() != "" || !zero.Empty() {
		t.Error("the zero secret is not the empty one")
	}
}

// What rotates keys tells by this whether a key was replaced.
func TestSecretsAreEqualIfTheirTextsAre(t *testing.T) {
	t.Parallel()
	if credential.NewSecret(leak) != credential.NewSecret(strings.Clone(leak)) {
		t.Error("two secrets of one text differ")
	}
	if credential.NewSecret(leak) == credential.NewSecret(leak+" ") {
		t.Error("two secrets of different texts are equal")
	}
	if credential.NewSecret("") != (credential.Secret{}) {
		t.Error("the secret of an empty text is not the zero value")
	}
}
