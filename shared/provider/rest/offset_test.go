package rest_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"managed-credentials/shared/provider/rest"
)

// Whatever comes and goes while a list is read, what is there all the while is in it, or the list
// is an error.
func TestAListThatShiftsHidesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(2, 12).Draw(t, "page size")
		var list, stays []int
		next := 0
		for n := range rapid.IntRange(0, 40).Draw(t, "items") {
			list = append(list, n)
			if rapid.Bool().Draw(t, "stays") {
				stays = append(stays, n)
			}
			next++
		}
		changes := rapid.IntRange(0, 12).Draw(t, "changes")
		page := rest.Offsets(func(_ context.Context, offset int) ([]int, error) {
			items := slices.Clone(list[min(offset, len(list)):min(offset+size, len(list))])
			if changes > 0 {
				changes--
				list = slices.DeleteFunc(list, func(n int) bool {
					return !slices.Contains(stays, n) && rapid.IntRange(0, 3).Draw(t, "goes") == 0
				})
				for range rapid.IntRange(0, 2).Draw(t, "come") {
					list = slices.Insert(list, 0, next)
					next++
				}
			}
			return items, nil
		}, strconv.Itoa)
		all, err := rest.All(t.Context(), page)
		if errors.Is(err, rest.ErrRound) { // it shifts faster than it can be read, and says so
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range stays {
			if !slices.Contains(all, n) {
				t.Errorf("%d is missing in %v", n, all)
			}
		}
	})
}

func TestAListWithoutChangesIsReadOnceWhateverThePageSize(t *testing.T) {
	t.Parallel()
	for size := 1; size < 9; size++ {
		for n := range 30 {
			var list []int
			for i := range n {
				list = append(list, i)
			}
			all, err := rest.All(t.Context(), rest.Offsets(func(_ context.Context, offset int) ([]int, error) {
				return list[min(offset, n):min(offset+size, n)], nil
			}, strconv.Itoa))
			if err != nil || !slices.Equal(all, list) {
				t.Errorf("of %d, %d a page: %v: %v", n, size, err, all)
			}
		}
	}
}

func TestAListThatIgnoresTheOffsetIsAnError(t *testing.T) {
	t.Parallel()
	same := []int{1, 2, 3, 4, 5, 6, 7, 8, 9}
	page := rest.Offsets(func(context.Context, int) ([]int, error) { return same, nil }, strconv.Itoa)
	all, err := rest.All(t.Context(), page)
	if !errors.Is(err, rest.ErrRound) {
		t.Errorf("%v: %v", err, all)
	}
}

func TestAPageThatNobodyGaveIsAnError(t *testing.T) {
	t.Parallel()
	page := rest.Offsets(func(context.Context, int) ([]int, error) { return nil, nil }, strconv.Itoa)
	for _, token := range []string{"7", "{}x", `{"offset":-1}`} {
		_, _, err := page(t.Context(), token)
		if !errors.Is(err, rest.ErrCursor) {
			t.Errorf("%q: %v", token, err)
		}
	}
}
