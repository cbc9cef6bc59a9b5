package agentmail

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
)

// errRound: a list that does not come to an end.
var errRound = errors.New("the list goes round: it names a page that it has named before, or page after page that is empty")

// maxEmptyPages is how many pages in a row may be empty. AgentMail says that a page may be, and not
// the last.
const maxEmptyPages = 5

// walk reads a list page by page.
type walk[T any] struct {
	client       *client
	org          credential.Secret
	path, member string

	// ended: there is no further page, or it could not be read.
	ended bool
	token string
	seen  map[string]bool
	empty int // pages in a row
}

func newWalk[T any](c *client, org credential.Secret, path, member string) *walk[T] {
	return &walk[T]{client: c, org: org, path: path, member: member, seen: map[string]bool{}}
}

// next returns the next page. With errRound it returns what the page has, and is at its end.
func (w *walk[T]) next(ctx context.Context) ([]T, error) {
	items, next, err := page[T](ctx, w.client, w.org, w.path, w.member, w.token)
	w.empty++
	if len(items) > 0 {
		w.empty = 0
	}
	if err == nil && next != "" && (w.seen[next] || w.empty > maxEmptyPages) {
		err = fmt.Errorf("GET %s: %w", w.path, errRound)
	}
	w.ended = err != nil || next == ""
	w.token = next
	w.seen[next] = true
	return items, err
}

// pages returns up to n pages. With an error it returns what was read before.
func (w *walk[T]) pages(ctx context.Context, n int) ([]T, error) {
	var all []T
	for range n {
		items, err := w.next(ctx)
		all = append(all, items...)
		if err != nil || w.ended {
			return all, err
		}
	}
	return all, nil
}

// place is how far a list was read of which each page is asked for by somebody else. It goes round
// if it comes back to Mark, which stays behind for Reach pages, twice as many each time: that finds
// every round, whatever its length, without a note of each page.
type place struct {
	Token string `json:"token"`
	Mark  string `json:"mark,omitempty"`
	Reach int    `json:"reach"`
	Steps int    `json:"steps"` // since the mark
	Empty int    `json:"empty,omitempty"`
}

// advance is the place of the page that next stands for, after one of so many items.
func (p place) advance(next string, items int) (place, error) {
	if next == "" {
		return place{}, nil
	}
	p.Steps, p.Empty = p.Steps+1, p.Empty+1
	if items > 0 {
		p.Empty = 0
	}
	if next == p.Token || next == p.Mark || p.Empty > maxEmptyPages {
		return place{}, errRound
	}
	if p.Steps > p.Reach {
		p.Mark, p.Steps, p.Reach = next, 0, 2*p.Reach+1
	}
	p.Token = next
	return p, nil
}

// String is the place as a cursor; "" is the start, and the end.
func (p place) String() string {
	if p.Token == "" {
		return ""
	}
	text, err := json.Marshal(p)
	if err != nil {
		panic(err) // cannot be: plain members
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func parsePlace(cursor string) (place, error) {
	var p place
	if cursor == "" {
		return p, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		return p, &managed.Error{Class: managed.Permanent, Err: errors.New("the cursor is not one that this provider gave")}
	}
	return p, nil
}

// list reads a list to its last page.
func list[T any](ctx context.Context, c *client, org credential.Secret, path, member string) ([]T, error) {
	w := newWalk[T](c, org, path, member)
	var all []T
	for !w.ended {
		items, err := w.next(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
	}
	return all, nil
}

// page reads the page of a list that token stands for, and returns the token of the next; "" is the
// first, and after the last. A page may be empty and still not be the last.
func page[T any](ctx context.Context, c *client, org credential.Secret, path, member, token string) (items []T, next string, err error) {
	query := url.Values{"limit": {"100"}}
	if token != "" {
		query.Set("page_token", token)
	}
	var answer map[string]json.RawMessage
	err = c.get(ctx, org, path+"?"+query.Encode(), &answer)
	if err != nil {
		return nil, "", err
	}
	err = json.Unmarshal(answer[member], &items)
	if err == nil && answer["next_page_token"] != nil {
		err = json.Unmarshal(answer["next_page_token"], &next)
	}
	if err != nil { // also if there is no list: that is not an empty one
		return nil, "", fmt.Errorf("GET %s: %w", path, errAnswer)
	}
	return items, next, nil
}
