package credential

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxMaterial is how many bytes a credential's material may have: what KMS encrypts directly
// (https://docs.aws.amazon.com/kms/latest/APIReference/API_Encrypt.html).
const MaxMaterial = 4096

// maxLabel bounds, in characters, the texts that are shown in lists.
const maxLabel = 256

// maxOpen bounds, in bytes, the open fields of one credential together: with the longest title, all
// that is stored of it in the clear has at most 4 KB.
const maxOpen = 4096 - utf8.UTFMax*maxLabel

// field is one member of a credential of some type.
type field struct {
	name     string
	kind     kind
	required bool
	// open fields are shown in the metadata and stored as they are; all others are sealed.
	open bool
}

type kind int

const (
	text kind = iota
	unixSeconds
	scopeList
	textMap
)

// fieldsOf is the one table of what each type consists of. The first field of a type tells it from
// the others.
var fieldsOf = map[Type][]field{
	APIKey: {
		{name: "api_key", kind: text, required: true},
		{name: "expires_at", kind: unixSeconds},
	},
	OAuth2: {
		{name: "access_token", kind: text, required: true},
		{name: "access_token_expires_at", kind: unixSeconds},
		{name: "refresh_token", kind: text},
		{name: "refresh_token_expires_at", kind: unixSeconds},
		{name: "username", kind: text, open: true},
		{name: "scopes", kind: scopeList, open: true},
	},
	UserPassword: {
		{name: "password", kind: text, required: true},
		{name: "username", kind: text, required: true},
	},
	HostScoped: {
		{name: "headers", kind: textMap, required: true},
		{name: "host", kind: text, required: true, open: true},
	},
}

// types gives the types an order, so that an error does not depend on a map's.
var types = []Type{APIKey, OAuth2, UserPassword, HostScoped}

// Open is the part of a credential's fields that is no secret.
type Open struct {
	Username *string  // oauth2
	Scopes   []string // oauth2; never nil there
	Host     *string  // host_scoped
}

// Material is the sealed part of a credential: its secret fields, under their API names. It redacts
// itself in fmt, slog and JSON.
type Material struct {
	typ    Type
	fields map[string]Secret // each the text of a JSON value
	// openSum vouches for the open fields; "" if nothing does.
	openSum string
}

// APIKeyMaterial is the material of an api_key credential that never expires.
func APIKeyMaterial(key Secret) Material {
	quoted, _ := encode(key.Reveal()) // a string always encodes
	return Material{typ: APIKey, fields: map[string]Secret{"api_key": NewSecret(string(quoted)), "expires_at": NewSecret("null")}}
}

// Expiring is m, the material of an api_key credential, with the time at which its key expires;
// zero leaves m as it is.
func (m Material) Expiring(at time.Time) Material {
	if at.IsZero() {
		return m
	}
	m.fields = maps.Clone(m.fields)
	m.fields["expires_at"] = NewSecret(strconv.FormatInt(at.Unix(), 10))
	return m
}

// Type is the type of the credential that m belongs to.
func (m Material) Type() Type { return m.typ }

// Reveal returns the plaintext that is sealed: a JSON object of the secret fields and the type, and
// after WithOpen a checksum. It returns ErrTooLarge for more than MaxMaterial bytes, and an error
// for what ParseMaterial would not take back, such as a material of an empty key.
func (m Material) Reveal() ([]byte, error) {
	all := map[string]any{"type": m.typ}
	for name, value := range m.Fields() {
		if !isNull(value) {
			all[name] = value
		}
	}
	if m.openSum != "" {
		all[openSum] = m.openSum
	}
	plain, err := encode(all)
	if err != nil {
		return nil, fmt.Errorf("encoding %s material: %w", m.typ, errShape)
	}
	if len(plain) > MaxMaterial {
		return nil, ErrTooLarge
	}
	_, err = ParseMaterial(m.typ, plain)
	if err != nil {
		return nil, err
	}
	return plain, nil
}

// Fields returns the secret fields by their API names, for the one caller that hands them out.
func (m Material) Fields() map[string]json.RawMessage {
	all := make(map[string]json.RawMessage, len(m.fields))
	for name, value := range m.fields {
		all[name] = json.RawMessage(value.Reveal())
	}
	return all
}

// String redacts.
func (m Material) String() string { return redacted }

// Format redacts, whatever the verb.
func (m Material) Format(f fmt.State, v rune) { Secret{}.Format(f, v) }

// LogValue redacts.
func (m Material) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText redacts, in JSON and in every other text encoding.
func (m Material) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// errShape stands for every defect of a plaintext: the defect itself may quote the secret.
var errShape = errors.New("not of the expected shape")

// ParseMaterial reads back what Reveal gave. Anything that is not a whole material of the type t is
// an error, never a partial result: an empty value could be stored by the next write.
func ParseMaterial(t Type, plain []byte) (Material, error) {
	all, err := ReadObject("material", plain)
	if err != nil {
		return Material{}, fmt.Errorf("reading %s material: %w", t, errShape)
	}
	var typ Type
	err = json.Unmarshal(all["type"], &typ)
	if err != nil || typ != t || !t.Valid() {
		return Material{}, fmt.Errorf("reading %s material: %w", t, errShape)
	}
	sum, err := takeOpenSum(t, all)
	if err != nil {
		return Material{}, fmt.Errorf("reading %s material: %w", t, errShape)
	}
	m, _, err := pick(t, all, func(f field) bool { return !f.open })
	if err != nil {
		return Material{}, fmt.Errorf("reading %s material: %w", t, errShape)
	}
	m.openSum = sum
	for name := range all {
		_, known := m.fields[name]
		if !known && name != "type" {
			return Material{}, fmt.Errorf("reading %s material: %w", t, errShape)
		}
	}
	return m, nil
}

// New is a request to create a credential, checked.
type New struct {
	Title    *string
	Open     Open
	Material Material
}

// Change is a request to update a credential, checked.
type Change struct {
	// Type is what the credential has to be for the change to apply; empty if the request does not
	// say.
	Type Type
	// Title is the new title; nil keeps the old one.
	Title *string
	// Material replaces all secret fields, and Open those that go with them; nil keeps both.
	Material *Material
	Open     Open
	// Named are the fields that the request gives, or says that there is to be none of, each header
	// as "headers." and its name.
	Named []string
	// Match are the revisions that the change is meant for; nil for any.
	Match []string
}

// ParseNew reads the body of a create request. What the service itself decides (id, provider,
// metadata) is ignored; a claim to be managed is ErrForged, too much cleartext is
// ErrOpenTooLarge, and anything else that is wrong a *FieldError.
func ParseNew(body []byte) (New, error) {
	all, err := parse(body)
	if err != nil {
		return New{}, err
	}
	title, err := readTitle(all)
	if err != nil {
		return New{}, err
	}
	if isNull(all["type"]) {
		return New{}, &FieldError{"type", "is required: " + typeNames}
	}
	t, err := typeOf(all)
	if err != nil {
		return New{}, err
	}
	err = checkUnknown(t, all)
	if err != nil {
		return New{}, err
	}
	err = legal(t, all)
	if err != nil {
		return New{}, err
	}
	m, open, err := pick(t, all, func(field) bool { return true })
	if err != nil {
		return New{}, err
	}
	return New{Title: title, Open: open, Material: m}, nil
}

// ParseChange reads the body of an update request. Secret fields come all together or not at all;
// their type may be left out. A field or a header that is null is to be removed. It returns the
// same errors as ParseNew.
func ParseChange(body []byte) (Change, error) {
	all, err := parse(body)
	if err != nil {
		return Change{}, err
	}
	title, err := readTitle(all)
	if err != nil {
		return Change{}, err
	}
	t, err := typeOf(all)
	if err != nil {
		return Change{}, err
	}
	err = checkUnknown(t, all)
	if err != nil {
		return Change{}, err
	}
	given := givenField(all)
	if given == "" {
		if title == nil {
			return Change{}, &FieldError{"body", "gives nothing to change: send title, the secret fields, or both"}
		}
		return Change{Type: t, Title: title}, nil
	}
	if t == "" {
		return Change{}, &FieldError{given, "needs the other fields of its type beside it, and the type: " + typeNames}
	}
	err = legal(t, all)
	if err != nil {
		return Change{}, err
	}
	named, err := takeNamed(t, all)
	if err != nil {
		return Change{}, err
	}
	m, open, err := pick(t, all, func(field) bool { return true })
	if err != nil {
		return Change{}, err
	}
	return Change{Type: t, Title: title, Material: &m, Open: open, Named: named}, nil
}

// takeNamed returns the fields of type t that a body has, and takes the headers out of it that are
// null.
func takeNamed(t Type, all map[string]json.RawMessage) ([]string, error) {
	var names []string
	for _, f := range fieldsOf[t] {
		raw, ok := all[f.name]
		switch {
		case ok && f.kind == textMap:
			headers, err := ReadObject(f.name, raw)
			if err != nil {
				continue // pick says what is wrong with it
			}
			for _, header := range slices.Sorted(maps.Keys(headers)) {
				names = append(names, headersField+"."+header)
				if isNull(headers[header]) {
					delete(headers, header)
				}
			}
			all[f.name], err = encode(headers)
			if err != nil {
				return nil, err
			}
		case ok:
			names = append(names, f.name)
		}
	}
	return names, nil
}

// CheckLoss returns a *FieldError that names what the credential m has and the change would take
// away without a word: what goes with its secret, and is neither given anew nor null. Headers are
// the same in whatever case.
func (c Change) CheckLoss(m Metadata) error {
	has := slices.Clone(m.Stored)
	if m.Username != nil && *m.Username != "" {
		has = append(has, "username")
	}
	if len(m.Scopes) > 0 {
		has = append(has, "scopes")
	}
	lost := slices.DeleteFunc(has, func(name string) bool {
		return slices.ContainsFunc(c.Named, func(named string) bool { return strings.EqualFold(named, name) })
	})
	if c.Material == nil || len(lost) == 0 {
		return nil
	}
	return &FieldError{"body", "would lose " + strings.Join(lost, ", ") + ": give it again, or null to remove it"}
}

func readTitle(all map[string]json.RawMessage) (*string, error) {
	title, err := label(all, "title")
	if err != nil {
		return nil, err
	}
	return title, checkTitle(title)
}

// typeNames lists the types for an error's text.
const typeNames = "one of api_key, oauth2, user_password, host_scoped"

// parse reads a request's body into its members and refuses a forged managed credential.
func parse(body []byte) (map[string]json.RawMessage, error) {
	all, err := ReadObject("body", body)
	if err != nil {
		return nil, err
	}
	var wrong error
	for _, name := range []string{"autogpt_managed", "is_managed"} {
		var forged bool
		err := json.Unmarshal(orNull(all[name]), &forged)
		if err != nil {
			wrong = &FieldError{name, "must be a boolean"}
		}
		if forged {
			return nil, ErrForged
		}
	}
	return all, wrong
}

// typeOf is the type that a body names, or else the one whose first field it has, or none.
func typeOf(all map[string]json.RawMessage) (Type, error) {
	raw := all["type"]
	if !isNull(raw) {
		var t Type
		err := json.Unmarshal(raw, &t)
		if err != nil || !t.Valid() {
			return "", &FieldError{"type", "must be " + typeNames}
		}
		return t, nil
	}
	for _, t := range types {
		_, ok := all[fieldsOf[t][0].name]
		if ok {
			return t, nil
		}
	}
	return "", nil
}

// givenField is the name of some credential field that a body has, of whatever type; "" if it has
// none.
func givenField(all map[string]json.RawMessage) string {
	for _, t := range types {
		for _, f := range fieldsOf[t] {
			_, ok := all[f.name]
			if ok {
				return f.name
			}
		}
	}
	return ""
}

// pick takes the wanted fields of type t out of all, checked.
func pick(t Type, all map[string]json.RawMessage, wanted func(field) bool) (Material, Open, error) {
	m := Material{typ: t, fields: map[string]Secret{}}
	var open Open
	for _, f := range fieldsOf[t] {
		if !wanted(f) {
			continue
		}
		raw := all[f.name]
		if isNull(raw) && f.required {
			return Material{}, Open{}, &FieldError{f.name, "is required"}
		}
		if f.open {
			err := open.take(f, all)
			if err != nil {
				return Material{}, Open{}, err
			}
			continue
		}
		value, err := f.check(raw)
		if err != nil {
			return Material{}, Open{}, err
		}
		m.fields[f.name] = NewSecret(string(value))
	}
	if open.size() > maxOpen {
		return Material{}, Open{}, ErrOpenTooLarge
	}
	return m, open, nil
}

// size is how many bytes the open fields take in the table.
func (o *Open) size() int {
	n := len(strings.Join(o.Scopes, " "))
	for _, s := range []*string{o.Username, o.Host} {
		if s != nil {
			n += len(*s)
		}
	}
	return n
}

func (o *Open) take(f field, all map[string]json.RawMessage) error {
	var err error
	switch {
	case f.kind == scopeList:
		o.Scopes, err = scopes(f.name, all[f.name])
	case f.name == "host":
		o.Host, err = label(all, f.name)
		if err == nil && *o.Host == "" {
			err = &FieldError{f.name, "must not be empty"}
		}
	default:
		o.Username, err = label(all, f.name)
	}
	return err
}

// check returns the field's value in canonical JSON.
func (f field) check(raw json.RawMessage) (json.RawMessage, error) {
	if isNull(raw) {
		return json.RawMessage("null"), nil
	}
	switch f.kind {
	case unixSeconds:
		var n int64
		err := json.Unmarshal(raw, &n)
		if err != nil || n < 0 {
			return nil, &FieldError{f.name, "must be a time in Unix seconds, a whole number, or null"}
		}
		return encode(n)
	case textMap:
		return f.checkMap(raw)
	default:
		s, err := str(f.name, raw)
		if err != nil {
			return nil, err
		}
		if s == "" {
			return nil, &FieldError{f.name, "must not be empty"}
		}
		return encode(s)
	}
}

func (f field) checkMap(raw json.RawMessage) (json.RawMessage, error) {
	members, err := ReadObject(f.name, raw)
	if err != nil || len(members) == 0 {
		return nil, &FieldError{f.name, "must be an object of at least one name, none of them twice, and its text value"}
	}
	values := make(map[string]string, len(members))
	for name, member := range members {
		value, err := str(f.name, member)
		if err != nil || strings.ContainsRune(name, utf8.RuneError) {
			return nil, &FieldError{f.name, "must have a text for every value, and no broken characters"}
		}
		values[name] = value
	}
	return encode(values)
}

// scopes reads OAuth 2 scope tokens, which have no white space (RFC 6749, section 3.3).
func scopes(name string, raw json.RawMessage) ([]string, error) {
	if isNull(raw) {
		return []string{}, nil
	}
	var members []json.RawMessage
	err := json.Unmarshal(raw, &members)
	if err != nil {
		return nil, &FieldError{name, "must be a list of texts"}
	}
	list := make([]string, 0, len(members))
	for _, member := range members {
		s, err := str(name, member)
		if err != nil || s == "" || strings.ContainsFunc(s, unicode.IsSpace) {
			return nil, &FieldError{name, "must be a list of texts, none of them empty or with white space"}
		}
		list = append(list, s)
	}
	return list, nil
}

// label reads an optional text of at most maxLabel characters; nil if it is absent or null.
func label(all map[string]json.RawMessage, name string) (*string, error) {
	raw := all[name]
	if isNull(raw) {
		return nil, nil
	}
	s, err := str(name, raw)
	if err != nil {
		return nil, err
	}
	if utf8.RuneCountInString(s) > maxLabel {
		return nil, &FieldError{name, fmt.Sprintf("must have at most %d characters", maxLabel)}
	}
	return &s, nil
}

// str reads a JSON string. U+FFFD, which encoding/json and others put in the place of what they
// cannot read (an unpaired surrogate, say), is an error: a secret is stored as it was sent or not
// at all.
func str(name string, raw json.RawMessage) (string, error) {
	var s string
	err := json.Unmarshal(raw, &s)
	if err != nil || isNull(raw) {
		return "", &FieldError{name, "must be a text"}
	}
	if strings.ContainsRune(s, utf8.RuneError) {
		return "", &FieldError{name, "must be a text without broken characters"}
	}
	return s, nil
}

// encode is json.Marshal without its escapes for HTML, which would make a secret longer than it is.
func encode(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func orNull(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("null")
	}
	return raw
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }
