package credential

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"unicode/utf8"
)

// Object is a JSON object of outside data: its members by their names. A name counts to the letter,
// as encoding/json's structs do not take it, and stands there once.
type Object map[string]json.RawMessage

// ReadObject reads a JSON object in UTF-8, which may begin with a byte-order mark. What is none, or
// has a name twice, is a *FieldError; what is the name for the whole.
func ReadObject(what string, data []byte) (Object, error) {
	all := Object{}
	twice := ""
	err := Members(data, func(name string, value json.RawMessage) {
		_, ok := all[name]
		if ok {
			twice = name
		}
		all[name] = value
	})
	switch {
	case err != nil:
		return nil, &FieldError{what, "must be a JSON object in UTF-8"}
	case twice != "":
		return nil, &FieldError{what, "must not have a name twice"} // which one may be anything, a secret too
	default:
		return all, nil
	}
}

// errNoObject: the defect itself may quote a secret.
var errNoObject = errors.New("not a JSON object in UTF-8")

// Members calls do for each member of a JSON object, in their order, one that is there twice
// included. It calls nothing for what is no JSON object in UTF-8 as a whole, and returns an error
// that quotes nothing of it. A byte-order mark at the start is skipped.
func Members(data []byte, do func(name string, value json.RawMessage)) error {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if !utf8.Valid(data) || !json.Valid(data) {
		return errNoObject
	}
	tokens := json.NewDecoder(bytes.NewReader(data))
	first, err := tokens.Token()
	if err != nil || first != json.Delim('{') {
		return errNoObject
	}
	for tokens.More() {
		name, err := tokens.Token()
		if err != nil {
			return errNoObject
		}
		var value json.RawMessage
		err = tokens.Decode(&value)
		if err != nil {
			return errNoObject
		}
		do(fmt.Sprint(name), value)
	}
	return nil
}

// Decode reads a JSON object into the struct that v points to, by the names of its fields' json
// tags, and structs in it likewise. Members that no field has are ignored, and one that is null
// counts as absent. It returns the errors of ReadObject, and a *FieldError for a member that is not
// of its field's type. It panics for a field that would lead encoding/json to a struct.
func Decode(what string, data []byte, v any) error {
	return decode(what, data, reflect.ValueOf(v).Elem())
}

func decode(what string, data []byte, into reflect.Value) error {
	all, err := ReadObject(what, data)
	if err != nil {
		return err
	}
	for i := range into.NumField() {
		name := into.Type().Field(i).Tag.Get("json")
		raw := all[name]
		if isNull(raw) {
			continue
		}
		err := decodeField(name, raw, into.Field(i))
		if err != nil {
			return err
		}
	}
	return nil
}

func decodeField(name string, raw json.RawMessage, field reflect.Value) error {
	if field.Kind() == reflect.Pointer {
		field.Set(reflect.New(field.Type().Elem()))
		field = field.Elem()
	}
	if field.Kind() == reflect.Struct {
		return decode(name, raw, field)
	}
	problem, ok := problems[field.Kind()]
	_, isRaw := field.Interface().(json.RawMessage)
	if !ok && !isRaw {
		panic("no member is decoded into a " + field.Type().String())
	}
	err := json.Unmarshal(raw, field.Addr().Interface())
	if err != nil {
		return &FieldError{name, problem}
	}
	return nil
}

// problems are what is wrong with a member that cannot be decoded into a field of some kind.
var problems = map[reflect.Kind]string{
	reflect.String: "must be a text",
	reflect.Bool:   "must be true or false",
	reflect.Int:    "must be a whole number",
	reflect.Int64:  "must be a whole number",
}
