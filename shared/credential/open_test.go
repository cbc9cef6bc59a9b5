package credential_test

import (
	"errors"
	"strings"
	"testing"

	"managed-credentials/shared/credential"
)

func TestAMaterialVouchesForTheFieldsBesideIt(t *testing.T) {
	t.Parallel()
	text := func(s string) *string { return &s }
	stored := map[credential.Type]credential.Open{
		credential.HostScoped: {Host: text("example.com")},
		credential.OAuth2:     {Username: text("ada"), Scopes: []string{"read", "write"}},
	}
	changed := map[credential.Type][]credential.Open{
		credential.HostScoped: {{}, {Host: text("")}, {Host: text("evil.example")}, {Host: text("example.com"), Username: text("ada")}},
		credential.OAuth2: {
			{}, {Username: text("eve"), Scopes: []string{"read", "write"}}, {Scopes: []string{"read", "write"}},
			{Username: text("ada"), Scopes: []string{"read"}}, {Username: text("ada"), Scopes: []string{"read", "write", "admin"}},
		},
	}
	for typ, open := range stored {
		m := material(t, typ).WithOpen(open)
		again, err := credential.ParseMaterial(typ, reveal(t, m))
		if err != nil || !again.OpenProven() || again.CheckOpen(open) != nil {
			t.Errorf("%s: read back as %v, %v; proven: %v", typ, again.CheckOpen(open), err, again.OpenProven())
		}
		for _, other := range changed[typ] {
			if !errors.Is(again.CheckOpen(other), credential.ErrOpenChanged) {
				t.Errorf("%s: %+v passes for %+v", typ, other, open)
			}
		}
		old, err := credential.ParseMaterial(typ, reveal(t, material(t, typ)))
		if err != nil || old.OpenProven() || old.CheckOpen(open) != nil || old.CheckOpen(changed[typ][0]) != nil {
			t.Errorf("%s: what was sealed before cannot be read any more: %v", typ, err)
		}
	}
}

// The table keeps scopes as one text, and reads none as an empty list.
func TestNoScopesAreAsGoodAsNoListOfThem(t *testing.T) {
	t.Parallel()
	m := material(t, credential.OAuth2).WithOpen(credential.Open{Scopes: nil})
	err := m.CheckOpen(credential.Open{Scopes: []string{}})
	if err != nil {
		t.Error(err)
	}
}

func TestATypeWithoutOpenFieldsIsSealedAsEver(t *testing.T) {
	t.Parallel()
	for _, typ := range []credential.Type{credential.APIKey, credential.UserPassword} {
		m := material(t, typ)
		bound := m.WithOpen(credential.Open{})
		if string(reveal(t, bound)) != string(reveal(t, m)) || !m.OpenProven() {
			t.Errorf("%s: sealed as %s, proven: %v", typ, reveal(t, bound), m.OpenProven())
		}
	}
}

// What is sealed so is read by later versions, too.
func TestTheSealedFormOfTheChecksumStaysWhatItIs(t *testing.T) {
	t.Parallel()
	host := "example.com"
	plain := reveal(t, material(t, credential.HostScoped).WithOpen(credential.Open{Host: &host}))
	const want = `{"headers":{"Accept":"h-2","X-Key":"h-1"},` +
		`"open_sha256":"73422df3693556d7217d009e7f830fe05526f151456ca7d2a3708494570409c2","type":"host_scoped"}`
	if string(plain) != want {
		t.Errorf("sealed as\n%s, want\n%s", plain, want)
	}
}

func TestAMalformedChecksumIsAnError(t *testing.T) {
	t.Parallel()
	sum := strings.Repeat("0", 64)
	for _, plain := range []string{
		`{"headers":{"X":"h"},"type":"host_scoped","open_sha256":""}`,
		`{"headers":{"X":"h"},"type":"host_scoped","open_sha256":null}`,
		`{"headers":{"X":"h"},"type":"host_scoped","open_sha256":1}`,
		`{"headers":{"X":"h"},"type":"host_scoped","open_sha256":"` + sum + `0"}`,
		`{"api_key":"k","type":"api_key","open_sha256":"` + sum + `"}`,
	} {
		typ := credential.HostScoped
		if strings.Contains(plain, "api_key") {
			typ = credential.APIKey
		}
		m, err := credential.ParseMaterial(typ, []byte(plain))
		if err == nil || m.Type() != "" {
			t.Errorf("%s is read as %v, %v", plain, m, err)
		}
	}
}
