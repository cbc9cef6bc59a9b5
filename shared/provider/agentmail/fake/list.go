package fake

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// resource is what lists hold.
type resource interface {
	order() int64 // grows with each creation
	view() any
}

// listing says what a list has beyond the limit and the page token that all have.
type listing int

const (
	sorted      listing = 1 << iota // the caller may ask for the oldest first
	limitEchoed                     // the answer repeats the limit, if the caller named one
)

// cursor is what a page token holds.
type cursor struct {
	After  int64 `json:"after,omitempty"`  // the last resource that was shown
	Filled bool  `json:"filled,omitempty"` // the empty page before the next one was shown already
}

// list answers one page of resources, which come oldest first and are shown newest first. A cursor
// remembers a place rather than a number, so that deleting what was listed does not make the next
// page skip anything.
func list[T resource](s *Server, c *call, name string, all []T, kind listing) (any, error) {
	limit, err := limitOf(c.query)
	if err != nil {
		return nil, err
	}
	ascending, err := ascendingOf(c.query)
	if err != nil {
		return nil, err
	}
	from, err := cursorOf(c.query)
	if err != nil {
		return nil, err
	}
	ascending = ascending && kind&sorted != 0

	var rest []T
	for _, r := range all {
		switch {
		case from.After == 0, ascending && r.order() > from.After, !ascending && r.order() < from.After:
			rest = append(rest, r)
		}
	}
	if !ascending {
		slices.Reverse(rest)
	}

	size := s.switches.PageSize
	if size <= 0 {
		size = defaultPageSize
	}
	if limit > 0 {
		size = min(size, limit)
	}
	views := []any{}
	body := map[string]any{}
	switch {
	case s.switches.EmptyPages && !from.Filled:
		body["next_page_token"] = cursor{After: from.After, Filled: true}.token()
	default:
		for _, r := range rest[:min(size, len(rest))] {
			views = append(views, r.view())
		}
		if len(rest) > size {
			body["next_page_token"] = cursor{After: rest[size-1].order()}.token()
		}
	}
	body["count"] = len(views)
	body[name] = views
	if limit > 0 && kind&limitEchoed != 0 {
		body["limit"] = limit
	}
	return s.oddList(name, body), nil
}

func (c cursor) token() string {
	encoded, err := json.Marshal(c)
	if err != nil {
		panic(err) // cannot be: two plain members
	}
	return base64.RawURLEncoding.EncodeToString(encoded)
}

func cursorOf(query url.Values) (cursor, error) {
	var c cursor
	if !query.Has("page_token") {
		return c, nil
	}
	malformed := invalid("invalid_format", "Invalid base64url-encoded string", "page_token")
	encoded, err := base64.RawURLEncoding.DecodeString(query.Get("page_token"))
	if err != nil {
		return c, malformed
	}
	err = json.Unmarshal(encoded, &c)
	if err != nil {
		return c, malformed
	}
	return c, nil
}

// limitOf returns zero when there is none. An empty one counts as zero, which is refused.
func limitOf(query url.Values) (int, error) {
	if !query.Has("limit") {
		return 0, nil
	}
	text := query.Get("limit")
	if text == "" {
		text = "0"
	}
	limit, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return 0, invalid("invalid_type", "Invalid input: expected number, received NaN", "limit")
	case limit <= 0:
		return 0, invalid("too_small", "Too small: expected number to be >0", "limit")
	}
	return limit, nil
}

func ascendingOf(query url.Values) (bool, error) {
	if !query.Has("ascending") {
		return false, nil
	}
	switch strings.ToLower(query.Get("ascending")) {
	case "true", "1", "yes", "on", "y", "enabled":
		return true, nil
	case "false", "0", "no", "off", "n", "disabled":
		return false, nil
	}
	return false, invalid("invalid_value", "Invalid option: expected a boolean", "ascending")
}
