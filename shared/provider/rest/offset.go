package rest

import (
	"context"
	"encoding/json"
	"slices"
)

// overlap is how many items of one page are asked for again with the next.
const overlap = 5

// mostBack is how often a reading goes back a page. A list that shifts more is not to be read.
const mostBack = 100

// Offsets are the pages of a list that can only be asked for by an offset. Such a list shifts while
// it is read: what is deleted before the offset moves items to where nobody looks any more, and
// what is added shows some twice. So each page is asked for with the last items of the one before.
// Where none of them is in it, pages further back are read, until one has them. An item can come
// twice, and none that is there all the while is missed.
//
// read returns what the list has from the offset on, and id tells one item from another. The list
// is at its end when a page has nothing after the last items: no page size is assumed, but that it
// is more than one.
func Offsets[T any](read func(ctx context.Context, offset int) ([]T, error), id func(T) string) Page[T] {
	return func(ctx context.Context, token string) ([]T, string, error) {
		at := reading{}
		if token != "" {
			err := json.Unmarshal([]byte(token), &at)
			if err != nil || at.Offset < 0 {
				return nil, "", ErrCursor
			}
		}
		items, err := read(ctx, at.Offset)
		for err == nil && at.Offset > 0 && len(at.Last) > 0 && at.find(ids(items, id)) < 0 {
			at.Offset = max(0, at.Offset-max(len(items), overlap))
			at.Back++
			if at.Back > mostBack {
				return nil, "", ErrRound
			}
			items, err = read(ctx, at.Offset)
		}
		if err != nil {
			return nil, "", err
		}
		last := at.find(ids(items, id))
		fresh := items[last+1:]
		shifted := last+1 != len(at.Last)
		if len(fresh) == 0 && (len(items) == 0 || !shifted || len(items) < at.Size) {
			return nil, "", nil
		}
		at.Size = max(at.Size, len(items))
		again := max(0, min(overlap, len(items)-1)) // or it would not get any further
		at.Offset += len(items) - again
		at.Pages++
		at.Last = ids(items[len(items)-again:], id)
		return fresh, at.String(), nil
	}
}

// reading is how far such a list was read.
type reading struct {
	Offset int      `json:"offset"` // of the next page, which begins with the last items
	Last   []string `json:"last"`   // the last items' ids
	Size   int      `json:"size"`   // of the largest page
	Pages  int      `json:"pages"`  // that were read; the same place may come again, and is no round
	Back   int      `json:"back"`   // how often it went back a page
}

// find is where the last of the last items is that are in the page; -1 if none is.
func (r reading) find(page []string) int {
	for i := len(page) - 1; i >= 0; i-- {
		if slices.Contains(r.Last, page[i]) {
			return i
		}
	}
	return -1
}

// String is the reading as a token.
func (r reading) String() string {
	text, err := json.Marshal(r)
	if err != nil {
		panic(err) // cannot be: plain members
	}
	return string(text)
}

func ids[T any](items []T, id func(T) string) []string {
	var all []string
	for _, item := range items {
		all = append(all, id(item))
	}
	return all
}
