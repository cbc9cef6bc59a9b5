package flat_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/flat"
	"managed-credentials/shared/provider/rest"
)

// archive is a third party with two organisations, and in each a list of so many keys, which it
// shows in pages of 100. Every hundredth is a user's.
type archive struct{ keys int }

func (archive) Name() string  { return "archive" }
func (archive) Title() string { return "Archive" }

func (archive) Owns(context.Context, credential.Secret) ([]string, error) {
	return []string{"o-1", "o-2"}, nil
}

func (a archive) key(organization string, n int) flat.Key {
	k := flat.Key{ID: fmt.Sprintf("%s-%d", organization, n), Name: "somebody's", Organization: organization, CreatedAt: time.Unix(1, 0)}
	if n%100 == 0 {
		k.Name = flat.KeyName(k.ID, "", 1)
	}
	return k
}

func (a archive) List(_ credential.Secret, organization string) rest.Page[flat.Key] {
	return rest.Offsets(func(_ context.Context, offset int) ([]flat.Key, error) {
		var page []flat.Key
		for n := offset; n < min(offset+100, a.keys); n++ {
			page = append(page, a.key(organization, n))
		}
		return page, nil
	}, func(k flat.Key) string { return k.ID })
}

func (archive) Create(context.Context, credential.Secret, string) (flat.Made, error) {
	return flat.Made{}, nil
}

func (archive) Get(context.Context, credential.Secret, string, string) (flat.Key, error) {
	return flat.Key{}, &rest.Refusal{Status: http.StatusNotFound}
}

func (archive) Delete(context.Context, credential.Secret, string, string) error { return nil }

// Each page is asked for by another process, which has the cursor alone.
func TestAnAuditGetsToTheEndOfAListOfAnyLength(t *testing.T) {
	t.Parallel()
	for _, keys := range []int{0, 1, 99, 100, 101, 100_000} {
		var users []string
		pages, longest := 0, 0
		for cursor, more := "", true; more; more = cursor != "" {
			p := flat.New(archive{keys}, 0)
			var page []managed.Holding
			var err error
			page, cursor, err = p.Enumerate(t.Context(), credential.NewSecret("key"), cursor)
			if err != nil {
				t.Fatalf("of %d keys, page %d: %v", keys, pages, err)
			}
			for _, h := range page {
				users = append(users, h.User)
			}
			pages++
			longest = max(longest, len(cursor))
		}
		var want []string
		for _, organization := range []string{"o-1", "o-2"} {
			for n := 0; n < keys; n += 100 {
				want = append(want, organization+"-"+strconv.Itoa(n))
			}
		}
		if !slices.Equal(users, want) {
			t.Errorf("of %d keys in each list it found those of %d users, not %d", keys, len(users), len(want))
		}
		if pages > 2*(keys/95+2) || longest > 1000 {
			t.Errorf("of %d keys in each list it read %d pages, and a cursor had %d characters", keys, pages, longest)
		}
	}
}
