package rest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"

	"managed-credentials/shared/managed"
)

// ErrRound: a list that does not come to an end.
var ErrRound = errors.New("the list does not end: it names a page that it has named before, or one empty page after another")

// ErrCursor: a cursor, or the token of a page, that was not given here.
var ErrCursor = &managed.Error{Class: managed.Permanent, Err: errors.New("the cursor is not one that this provider gave")}

// maxEmptyPages is how many pages in a row may be empty, and not the last.
const maxEmptyPages = 5

// Page reads the page of a list that token stands for, and returns the token of the next; "" is the
// first, and after the last. A page may be empty and still not be the last.
type Page[T any] func(ctx context.Context, token string) (items []T, next string, err error)

// Walk reads a list page by page. It is not safe for concurrent use.
type Walk[T any] struct {
	// Ended: there is no further page, or it could not be read.
	Ended bool

	page  Page[T]
	token string
	seen  map[string]bool
	empty int // pages in a row
}

// NewWalk returns a walk that begins with the first page.
func NewWalk[T any](page Page[T]) *Walk[T] { return &Walk[T]{page: page, seen: map[string]bool{}} }

// Next returns the next page. With ErrRound it returns what the page has, and is at its end.
func (w *Walk[T]) Next(ctx context.Context) ([]T, error) {
	items, next, err := w.page(ctx, w.token)
	w.empty++
	if len(items) > 0 {
		w.empty = 0
	}
	if err == nil && next != "" && (w.seen[next] || w.empty > maxEmptyPages) {
		err = ErrRound
	}
	w.Ended = err != nil || next == ""
	w.token = next
	w.seen[next] = true
	return items, err
}

// Pages returns up to n pages. With an error it returns what was read before.
func (w *Walk[T]) Pages(ctx context.Context, n int) ([]T, error) {
	var all []T
	for range n {
		items, err := w.Next(ctx)
		all = append(all, items...)
		if err != nil || w.Ended {
			return all, err
		}
	}
	return all, nil
}

// All reads a list to its last page. With an error it returns nothing.
func All[T any](ctx context.Context, page Page[T]) ([]T, error) {
	w := NewWalk(page)
	var all []T
	for !w.Ended {
		items, err := w.Next(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
	}
	return all, nil
}

// Place is how far a list was read of which each page is asked for by somebody else. It goes round
// if it comes back to Mark, which stays behind for Reach pages, twice as many each time: that finds
// every round, whatever its length, without a note of each page. The zero Place is the start, and
// the end.
type Place struct {
	Token string `json:"token"`
	Mark  string `json:"mark,omitempty"`
	Reach int    `json:"reach"`
	Steps int    `json:"steps"` // since the mark
	Empty int    `json:"empty,omitempty"`
}

// Advance is the place of the page that next stands for, after one of so many items. It returns
// ErrRound if the list goes round.
func (p Place) Advance(next string, items int) (Place, error) {
	if next == "" {
		return Place{}, nil
	}
	p.Steps, p.Empty = p.Steps+1, p.Empty+1
	if items > 0 {
		p.Empty = 0
	}
	if next == p.Token || next == p.Mark || p.Empty > maxEmptyPages {
		return Place{}, ErrRound
	}
	if p.Steps > p.Reach {
		p.Mark, p.Steps, p.Reach = next, 0, 2*p.Reach+1
	}
	p.Token = next
	return p, nil
}

// String is the place as a cursor; "" is the start, and the end.
func (p Place) String() string {
	if p.Token == "" {
		return ""
	}
	text, err := json.Marshal(p)
	if err != nil {
		panic(err) // cannot be: plain members
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// ParsePlace reads a cursor. What no Place has given is an error of class Permanent.
func ParsePlace(cursor string) (Place, error) {
	var p Place
	if cursor == "" {
		return p, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		return p, ErrCursor
	}
	return p, nil
}
