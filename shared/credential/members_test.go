package credential

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"unicode/utf8"
)

// byDecoder are an object's members as encoding/json's decoder finds them, one token after the
// other.
func byDecoder(data []byte) (all []string, ok bool) {
	tokens := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))
	first, err := tokens.Token()
	if err != nil || first != json.Delim('{') {
		return nil, false
	}
	for tokens.More() {
		name, err := tokens.Token()
		if err != nil {
			return nil, false
		}
		var value json.RawMessage
		err = tokens.Decode(&value)
		if err != nil {
			return nil, false
		}
		all = append(all, fmt.Sprintf("%s: %s", name, value))
	}
	return all, true
}

// The members are found without a token for each, which was half of what a list allocated.
func FuzzMembers(f *testing.F) {
	for _, text := range []string{
		`{}`, ` { } `, "\ufeff{\"a\":1}", `{"a":1,"b":true , "c" : null}`, "\t{\r\n\"a\"\n:\t-1.5e3\r}\n", `{"a":"}\"],:{\\","b":"\\\\"}`,
		`{"a":{"b":[1,{"c":"]"}]},"d":[[],{}]}`, `{"a\"b\u0041\ud800":0,"":""}`, `{"a":1,"a":2}`, `{"ä€😀":"ö"}`,
		``, ` `, `[]`, `1`, `"a"`, `{"a"}`, `{"a":1}{`, `{"a":1,}`, "{\"\xff\":1}", `{"a":12`, `{"a":"b`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := slices.Clone(data)
		var got []string
		err := Members(data, func(name string, value json.RawMessage) {
			got = append(got, fmt.Sprintf("%s: %s", name, value))
			_ = append(value, "appended"...) // which is not to change what comes after it
		})
		if !bytes.Equal(data, before) {
			t.Fatalf("%q became %q", before, data)
		}
		if err != nil {
			whole := map[string]any{}
			plain := bytes.TrimPrefix(data, []byte("\ufeff"))
			object := utf8.Valid(data) && json.Unmarshal(plain, &whole) == nil && string(bytes.TrimSpace(plain)) != "null"
			if object || len(got) > 0 {
				t.Errorf("%q has the members %q, and is refused: %v", data, got, err)
			}
			return
		}
		want, ok := byDecoder(data)
		if !ok || !slices.Equal(got, want) {
			t.Errorf("the members of %q are %q, want %q (%v)", data, got, want, ok)
		}
	})
}
