package credential

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// What people type and paste is checked here, when it comes in. What was stored before a rule stays
// readable.

// legal checks the fields that a body gives of type t, and puts each as it is to be stored in its
// place: trimmed where it goes into an HTTP header.
func legal(t Type, all map[string]json.RawMessage) error {
	for _, f := range fieldsOf[t] {
		raw := all[f.name]
		if isNull(raw) {
			continue
		}
		value, err := f.legal(t, raw)
		if err != nil {
			return err
		}
		all[f.name] = value
	}
	return nil
}

func (f field) legal(t Type, raw json.RawMessage) (json.RawMessage, error) {
	switch {
	case f.kind == unixSeconds:
		return legalTime(f.name, raw)
	case f.kind == textMap:
		return legalHeaders(f.name, raw)
	case f.kind == scopeList || f.open && f.name != "host":
		return raw, nil
	}
	s, err := str(f.name, raw)
	if err != nil {
		return nil, err
	}
	var problem string
	switch {
	case f.name == "host":
		s = strings.ToLower(strings.TrimFunc(s, isBlank))
		problem = hostProblem(s)
	case t == UserPassword || f.name == "api_key" && isFile(s): // stored as typed
		problem = controlProblem(s)
	default:
		problem = headerProblem(s)
		s = strings.TrimFunc(s, isBlank)
		if hasBearer(s) {
			problem = `begins with "Bearer ", which is no part of it: leave that out`
		}
	}
	if problem != "" {
		return nil, &FieldError{f.name, problem}
	}
	return encode(s)
}

// isFile reports whether an API key is a file: PEM, an SSH key, or JSON such as a service
// account's. It keeps its line breaks, and every other byte.
func isFile(s string) bool {
	return strings.Contains(s, "-----BEGIN ") || strings.HasPrefix(strings.TrimFunc(s, isBlank), "{")
}

// isBlank is what is trimmed: white space of all sorts, what has no width, and marks of direction.
func isBlank(r rune) bool {
	return unicode.IsSpace(r) || strings.ContainsRune("\u200b\u200c\u200d\u2060\ufeff", r) || unicode.Is(unicode.Bidi_Control, r)
}

func hasBearer(s string) bool {
	const scheme = "bearer"
	return len(s) > len(scheme) && strings.EqualFold(s[:len(scheme)], scheme) && (s[len(scheme)] == ' ' || s[len(scheme)] == '\t')
}

// headerProblem is what of s no HTTP header carries, apart from the blanks around it that are
// trimmed; "" if there is nothing.
func headerProblem(s string) string {
	return problemAt(s, func(r rune) bool { return r != '\t' && (r < ' ' || r > '~') })
}

// controlProblem is what of s no text holds: a control character that is neither a tab nor a line
// break.
func controlProblem(s string) string {
	return placeOf(s, 0, func(r rune) bool { return unicode.IsControl(r) && !strings.ContainsRune("\t\n\r", r) })
}

// problemAt is placeOf without the blanks around s.
func problemAt(s string, wrong func(rune) bool) string {
	left := strings.TrimLeftFunc(s, isBlank)
	return placeOf(strings.TrimRightFunc(left, isBlank), utf8.RuneCountInString(s)-utf8.RuneCountInString(left), wrong)
}

// placeOf says where the first wrong character of s is, which stands behind others before it, and
// what sort it is of.
func placeOf(s string, before int, wrong func(rune) bool) string {
	i := strings.IndexFunc(s, wrong)
	if i < 0 {
		return ""
	}
	r, _ := utf8.DecodeRuneInString(s[i:])
	return fmt.Sprintf("character %d is %s", before+utf8.RuneCountInString(s[:i])+1, sortOf(r))
}

// sortOf names a character by its sort alone: it is part of a secret.
func sortOf(r rune) string {
	switch {
	case r == '\n' || r == '\r' || r == '\u2028' || r == '\u2029':
		return "a line break"
	case r == '\u200b':
		return "a zero-width space"
	case r == '\u200c' || r == '\u200d':
		return "a zero-width joiner"
	case r == '\u2060' || r == '\ufeff':
		return "a zero-width no-break space"
	case unicode.Is(unicode.Bidi_Control, r):
		return "a mark of direction"
	case unicode.IsControl(r):
		return "a control character"
	case unicode.IsSpace(r):
		return "a no-break or other special space"
	case strings.ContainsRune("‘’‚‛“”„‟", r):
		return "a curly quote"
	default:
		return "not a letter, digit or sign of ASCII, which is all that an HTTP header carries"
	}
}

// hostName is a name or an address, for all names below it if "*." stands before it, and for one
// port if that stands behind it.
var hostName = regexp.MustCompile(`^((\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?$`)

func hostProblem(s string) string {
	switch {
	case hostName.MatchString(s):
		return ""
	case strings.Contains(s, "/"):
		return "must be a host name such as api.example.com, not a URL"
	default:
		return "must be a host name such as api.example.com or *.example.com, with a port behind it if need be"
	}
}

// headerName is a token (RFC 9110, section 5.6.2).
var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// legalHeaders checks names and values. A name is not in an error: somebody may have put the value
// there.
func legalHeaders(name string, raw json.RawMessage) (json.RawMessage, error) {
	members, err := ReadObject(name, raw)
	if err != nil {
		return raw, nil //nolint:nilerr // what reads it afterwards says what is wrong with it
	}
	seen := map[string]bool{}
	for _, header := range slices.Sorted(maps.Keys(members)) {
		lower := strings.ToLower(header)
		switch {
		case !headerName.MatchString(header):
			return nil, &FieldError{name, "must have names of letters, digits and !#$%&'*+-.^_`|~ alone"}
		case seen[lower]:
			return nil, &FieldError{name, "must not have one name twice, in whatever case"}
		}
		seen[lower] = true
		if isNull(members[header]) {
			continue
		}
		value, err := str(name, members[header])
		if err != nil {
			return nil, &FieldError{name, "must have a text for every value, and no broken characters"}
		}
		problem := headerProblem(value)
		value = strings.TrimFunc(value, isBlank)
		if value == "" {
			return nil, &FieldError{name, "must have a value for every name"}
		}
		if problem != "" {
			return nil, &FieldError{name, "must have values that a header carries: " + problem}
		}
		members[header], err = encode(value)
		if err != nil {
			return nil, err
		}
	}
	return encode(members)
}

// The times that an expiry may be. Milliseconds typed for seconds come after them.
var (
	firstExpiry = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	lastExpiry  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).Unix()
)

// legalTime takes any JSON number that is whole, as 1893456000.0 is.
func legalTime(name string, raw json.RawMessage) (json.RawMessage, error) {
	var n float64
	err := json.Unmarshal(raw, &n)
	switch {
	case err != nil || n != math.Trunc(n):
		return nil, &FieldError{name, "must be a time in Unix seconds, a whole number, or null"}
	case n < float64(firstExpiry):
		return nil, &FieldError{name, "is before the year 2000: it is a time in Unix seconds"}
	case n > float64(lastExpiry):
		return nil, &FieldError{name, "is after the year 9999: it is a time in Unix seconds, not in milliseconds"}
	default:
		return json.RawMessage(strconv.FormatInt(int64(n), 10)), nil
	}
}

// CheckExpiry returns a *FieldError for the first of m's expiries that is not after now.
func (m Material) CheckExpiry(now time.Time) error {
	for _, f := range fieldsOf[m.typ] {
		at := m.seconds(f.name)
		if f.kind == unixSeconds && at != nil && *at <= now.Unix() {
			return &FieldError{f.name, "is in the past"}
		}
	}
	return nil
}

// checkTitle: a title that nobody sees is none.
func checkTitle(title *string) error {
	if title != nil && !strings.ContainsFunc(*title, isSeen) {
		return &FieldError{"title", "must have a character that can be seen, or be null"}
	}
	return nil
}

func isSeen(r rune) bool { return !unicode.Is(unseen, r) }

// unseen is what is printed without a trace: blanks of all sorts, control and format characters,
// and the fillers that Unicode counts as letters, signs or marks. docs/openapi.yaml has the same
// ranges.
var unseen = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0, Hi: 0x20, Stride: 1}, {Lo: 0x7f, Hi: 0xa0, Stride: 1}, {Lo: 0xad, Hi: 0xad, Stride: 1}, {Lo: 0x34f, Hi: 0x34f, Stride: 1},
		{Lo: 0x61c, Hi: 0x61c, Stride: 1}, {Lo: 0x115f, Hi: 0x1160, Stride: 1}, {Lo: 0x1680, Hi: 0x1680, Stride: 1}, {Lo: 0x17b4, Hi: 0x17b5, Stride: 1},
		{Lo: 0x180b, Hi: 0x180f, Stride: 1}, {Lo: 0x2000, Hi: 0x200f, Stride: 1}, {Lo: 0x2028, Hi: 0x202f, Stride: 1}, {Lo: 0x205f, Hi: 0x206f, Stride: 1},
		{Lo: 0x2800, Hi: 0x2800, Stride: 1}, {Lo: 0x3000, Hi: 0x3000, Stride: 1}, {Lo: 0x3164, Hi: 0x3164, Stride: 1}, {Lo: 0xfe00, Hi: 0xfe0f, Stride: 1},
		{Lo: 0xfeff, Hi: 0xfeff, Stride: 1}, {Lo: 0xffa0, Hi: 0xffa0, Stride: 1}, {Lo: 0xfff9, Hi: 0xfffb, Stride: 1},
	},
	R32:         []unicode.Range32{{Lo: 0xe0000, Hi: 0xe0fff, Stride: 1}},
	LatinOffset: 3,
}
