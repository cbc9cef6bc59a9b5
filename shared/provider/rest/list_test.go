package rest_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"

	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/rest"
)

// numbers is a list of so many pages, of which those that empty names have nothing; the last names
// the page back as the next, if that is one.
func numbers(pages int, empty func(int) bool, back int) rest.Page[int] {
	return func(_ context.Context, token string) ([]int, string, error) {
		n, _ := strconv.Atoi(token)
		next := strconv.Itoa(n + 1)
		if n == pages-1 {
			next = strconv.Itoa(back)
		}
		if next == "0" {
			next = ""
		}
		if empty(n) {
			return nil, next, nil
		}
		return []int{n}, next, nil
	}
}

func none(int) bool { return false }

func TestAListIsReadToItsLastPage(t *testing.T) {
	t.Parallel()
	all, err := rest.All(t.Context(), numbers(100, func(n int) bool { return n%6 != 0 }, 0))
	if err != nil || len(all) != 17 {
		t.Errorf("%v: %v", err, all)
	}
	w := rest.NewWalk(numbers(5, none, 0))
	some, err := w.Pages(t.Context(), 2)
	if err != nil || !slices.Equal(some, []int{0, 1}) || w.Ended {
		t.Errorf("%v: %v, ended: %t", err, some, w.Ended)
	}
	some, err = w.Pages(t.Context(), 9)
	if err != nil || !slices.Equal(some, []int{2, 3, 4}) || !w.Ended {
		t.Errorf("%v: %v, ended: %t", err, some, w.Ended)
	}
}

func TestAListThatGoesRoundIsAnErrorWithWhatItHad(t *testing.T) {
	t.Parallel()
	for name, page := range map[string]rest.Page[int]{
		"back to a page":   numbers(9, none, 3),
		"the same page":    numbers(9, none, 8),
		"page after empty": numbers(1000, func(n int) bool { return n > 8 }, 0),
	} {
		w := rest.NewWalk(page)
		all, err := w.Pages(t.Context(), 1000)
		if !errors.Is(err, rest.ErrRound) || len(all) != 9 || !w.Ended {
			t.Errorf("%s: %v: %v", name, err, all)
		}
		all, err = rest.All(t.Context(), page)
		if !errors.Is(err, rest.ErrRound) || all != nil {
			t.Errorf("%s: %v: %v", name, err, all)
		}
	}
}

// follow reads a list as somebody does who keeps a cursor alone, and returns how many pages it had.
func follow(t *testing.T, page rest.Page[int]) (pages int, err error) {
	t.Helper()
	cursor := ""
	for range 10_000 {
		at, err := rest.ParsePlace(cursor)
		if err != nil {
			t.Fatal(err)
		}
		items, next, err := page(t.Context(), at.Token)
		if err != nil {
			t.Fatal(err)
		}
		pages++
		at, err = at.Advance(next, len(items))
		if err != nil || at.String() == "" {
			return pages, err
		}
		cursor = at.String()
	}
	t.Fatal("it does not end")
	return pages, nil
}

func TestACursorGetsToTheEndAndNoticesARound(t *testing.T) {
	t.Parallel()
	for pages := range 20 {
		n, err := follow(t, numbers(pages+1, none, 0))
		if err != nil || n != pages+1 {
			t.Errorf("of %d pages it read %d: %v", pages+1, n, err)
		}
		for back := 1; back <= pages; back++ {
			_, err := follow(t, numbers(pages+1, none, back))
			if !errors.Is(err, rest.ErrRound) {
				t.Errorf("from page %d back to %d: %v", pages, back, err)
			}
		}
	}
	_, err := follow(t, numbers(1000, func(n int) bool { return n > 8 }, 0))
	if !errors.Is(err, rest.ErrRound) {
		t.Errorf("page after empty page: %v", err)
	}
}

func TestAnythingElseIsNoCursor(t *testing.T) {
	t.Parallel()
	for _, cursor := range []string{"x", "bm8", "%"} {
		_, err := rest.ParsePlace(cursor)
		var classed *managed.Error
		if !errors.As(err, &classed) || classed.Class != managed.Permanent {
			t.Errorf("%q: %v", cursor, err)
		}
	}
}
