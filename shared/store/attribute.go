package store

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// version is the form of the items that this code reads and writes. An item of another version is
// left alone.
const version = 1

// ErrUndecodable: the item is not of the form that this code knows.
var ErrUndecodable = errors.New("the item cannot be decoded")

// reader takes attributes out of an item and notes whether any was missing or of the wrong type.
type reader struct {
	item map[string]types.AttributeValue
	bad  bool
}

func (r *reader) has(name string) bool { return r.item[name] != nil }

func (r *reader) str(name string) string {
	value, ok := r.item[name].(*types.AttributeValueMemberS)
	if !ok {
		r.bad = true
		return ""
	}
	return value.Value
}

func (r *reader) optional(name string) *string {
	if !r.has(name) {
		return nil
	}
	value := r.str(name)
	return &value
}

func (r *reader) text(name string) string {
	if !r.has(name) {
		return ""
	}
	return r.str(name)
}

func (r *reader) num(name string) int64 {
	value, ok := r.item[name].(*types.AttributeValueMemberN)
	if !ok {
		r.bad = true
		return 0
	}
	n, err := strconv.ParseInt(value.Value, 10, 64)
	if err != nil {
		r.bad = true
	}
	return n
}

func (r *reader) count(name string) int64 {
	if !r.has(name) {
		return 0
	}
	return r.num(name)
}

func (r *reader) time(name string) time.Time {
	if !r.has(name) {
		return time.Time{}
	}
	n := r.num(name)
	if n <= 0 {
		r.bad = true
	}
	return time.UnixMilli(n)
}

func (r *reader) flag(name string) bool {
	value, ok := r.item[name].(*types.AttributeValueMemberBOOL)
	if !ok {
		r.bad = true
		return false
	}
	return value.Value
}

func keyOf(item map[string]types.AttributeValue) Key {
	r := reader{item: item}
	return Key{r.str("pk"), r.str("sk")}
}

// What is only shown, and nothing depends on, is read leniently: items of before it was stored have
// none of it, and an item that has it in another form is whole without.

func shownTime(item map[string]types.AttributeValue, name string) time.Time {
	r := reader{item: item}
	at := r.time(name)
	if r.bad {
		return time.Time{}
	}
	return at
}

func shownText(item map[string]types.AttributeValue, name string) string {
	r := reader{item: item}
	return r.text(name)
}

func shownTexts(item map[string]types.AttributeValue, name string) []string {
	set, ok := item[name].(*types.AttributeValueMemberSS)
	if !ok {
		return nil
	}
	return slices.Sorted(slices.Values(set.Value))
}

// seconds is a time in Unix seconds, as the API shows it; nil for the zero time.
func seconds(at time.Time) *int64 {
	if at.IsZero() {
		return nil
	}
	s := at.Unix()
	return &s
}
