package credential

import (
	"bytes"
	"encoding/json"
	"errors"
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
// that quotes nothing of it. A byte-order mark at the start is skipped. The values are parts of
// data, and no copies.
func Members(data []byte, do func(name string, value json.RawMessage)) error {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if !utf8.Valid(data) || !json.Valid(data) {
		return errNoObject
	}
	rest := bytes.TrimLeft(data, blanks)
	if rest[0] != '{' {
		return errNoObject
	}
	for rest = after(rest, 1); rest[0] != '}'; {
		end := valueEnd(rest)
		name, err := unquote(rest[:end])
		if err != nil {
			return errNoObject
		}
		rest = after(rest, end) // the colon
		rest = after(rest, 1)
		end = valueEnd(rest)
		do(name, json.RawMessage(rest[:end:end]))
		rest = after(rest, end)
		if rest[0] == ',' {
			rest = after(rest, 1)
		}
	}
	return nil
}

// blanks are what may stand between JSON's tokens.
const blanks = " \t\r\n"

// after is what follows the first n bytes and the blanks behind them.
func after(data []byte, n int) []byte { return bytes.TrimLeft(data[n:], blanks) }

// valueEnd is where the value ends with which data begins, which is valid JSON up to there and goes
// on after it.
func valueEnd(data []byte) int {
	depth := 0
	for i := 0; ; i++ {
		switch data[i] {
		case '"':
			for i++; data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		default:
			if depth > 0 || !bytes.ContainsRune([]byte(",:}] \t\r\n"), rune(data[i+1])) {
				continue
			}
		}
		if depth == 0 {
			return i + 1
		}
	}
}

// unquote is a JSON text's value.
func unquote(quoted []byte) (string, error) {
	if !bytes.ContainsRune(quoted, '\\') {
		return string(quoted[1 : len(quoted)-1]), nil
	}
	var text string
	err := json.Unmarshal(quoted, &text)
	return text, err
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
