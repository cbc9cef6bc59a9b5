package credential_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"managed-credentials/shared/credential"
)

// request is of every kind that Decode knows.
type request struct {
	User   string `json:"user"`
	Repair bool   `json:"repair"`
	Count  int64  `json:"count"`
	Inner  struct {
		User string `json:"user"`
	} `json:"inner"`
	Pointed *struct {
		User string `json:"user"`
	} `json:"pointed"`
	Named *string         `json:"named"`
	Raw   json.RawMessage `json:"raw"`
}

func TestAnObjectIsDecodedByExactNames(t *testing.T) {
	t.Parallel()
	const all = `{"user":"a","repair":true,"count":7,"inner":{"user":"b","x":[]},"pointed":{"user":"c"},"named":"d","raw":[1],"other":{"user":{}}}`
	var r request
	err := credential.Decode("event", []byte("\ufeff \n"+all+"\n"), &r)
	if err != nil || r.User != "a" || !r.Repair || r.Count != 7 || r.Inner.User != "b" || r.Pointed.User != "c" || *r.Named != "d" || string(r.Raw) != "[1]" {
		t.Errorf("got %+v, %v", r, err)
	}
	for _, nothing := range []string{
		`{}`, strings.ToUpper(all[:8]) + `"a"}`, `{"User":"a","USER":"b"," user":"c","named ":"d","Inner":{"user":"b"}}`,
		`{"user":null,"repair":null,"count":null,"inner":null,"pointed":null,"named":null,"raw":null}`, `{"inner":{"User":"b"}}`,
	} {
		var r request
		err := credential.Decode("event", []byte(nothing), &r)
		if err != nil || r.User != "" || r.Inner.User != "" || r.Pointed != nil || r.Named != nil || r.Raw != nil {
			t.Errorf("%s: got %+v, %v", nothing, r, err)
		}
	}
}

func TestWhatCannotBeDecodedIsNamed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		``: "event", `null`: "event", `[]`: "event", `"a"`: "event", `{"user":"a"`: "event", `{"user":"a"}{}`: "event", `{"user" "a"}`: "event",
		"{\"user\":\"\xff\"}": "event", `{"user":"a","user":"a"}`: "event", `{"user":"a","\u0075ser":"b"}`: "event", `{"x":1,"x":1}`: "event",
		"\ufeff\ufeff{}": "event", strings.Repeat(`{"inner":`, 20_000): "event", `{"inner":{"user":"a","user":"b"}}`: "inner",
		`{"user":7}`: "user", `{"user":["Zj7q"]}`: "user", `{"repair":"true"}`: "repair", `{"count":1.5}`: "count", `{"inner":"Zj7q"}`: "inner",
		`{"inner":{"user":7}}`: "user", `{"pointed":[]}`: "pointed", `{"named":{}}`: "named",
	} {
		var r request
		err := credential.Decode("event", []byte(text), &r)
		var field *credential.FieldError
		if !errors.As(err, &field) || field.Field != want || strings.Contains(err.Error(), "Zj7q") {
			t.Errorf("%.80s: %v", text, err)
		}
	}
}
