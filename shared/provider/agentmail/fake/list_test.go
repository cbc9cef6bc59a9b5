package fake_test

import (
	"fmt"
	"slices"
	"testing"

	"managed-credentials/shared/provider/agentmail/fake"
)

// kinds are the lists that a pod has.
var kinds = []struct {
	path, member, id string
	create           string // a body with %d in it
	orderAndLimit    bool   // it can be sorted, and repeats the limit
}{
	{"api-keys", "api_keys", "api_key_id", `{"name":"k%d"}`, false},
	{"inboxes", "inboxes", "inbox_id", `{"username":"u%d"}`, true},
	{"domains", "domains", "domain_id", `{"domain":"d%d.example.com"}`, true},
	{"webhooks", "webhooks", "webhook_id", `{"url":"https://example.com/%d"}`, true},
}

// drain reads a list to its end and returns the ids in order, and how many pages it took.
func (s service) drain(path, member, id, query string) (ids []string, pages int) {
	s.t.Helper()
	token := ""
	for {
		page := s.want(200, "GET", path+"?"+query+token, "")
		pages++
		items := page.items(member)
		if page.body["count"] != float64(len(items)) {
			s.t.Errorf("%s: count %v of %d items", path, page.body["count"], len(items))
		}
		for _, item := range items {
			ids = append(ids, item[id].(string))
		}
		next, more := page.body["next_page_token"]
		if !more {
			return ids, pages
		}
		token = "&page_token=" + next.(string)
	}
}

func TestListsAreNewestFirstAndPaged(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		t.Run(kind.path, func(t *testing.T) {
			t.Parallel()
			s := start(t, fake.Config{Now: newClock().Now}) // all created at the same instant
			path := s.pod("c") + "/" + kind.path
			var created []string
			for i := range 5 {
				created = append(created, s.want(200, "POST", path, fmt.Sprintf(kind.create, i)).text(kind.id))
			}
			newestFirst := slices.Clone(created)
			slices.Reverse(newestFirst)

			for _, c := range []struct {
				query string
				want  []string
				pages int
			}{
				{"", newestFirst, 1},
				{"limit=2", newestFirst, 3},
				{"limit=5", newestFirst, 1},
				{"limit=4&unknown=1", newestFirst, 2},
			} {
				ids, pages := s.drain(path, kind.member, kind.id, c.query)
				if !slices.Equal(ids, c.want) || pages != c.pages {
					t.Errorf("%q: %v in %d pages, want %v in %d", c.query, ids, pages, c.want, c.pages)
				}
			}
			ascending, _ := s.drain(path, kind.member, kind.id, "limit=2&ascending=true")
			want := newestFirst
			if kind.orderAndLimit {
				want = created
			}
			if !slices.Equal(ascending, want) {
				t.Errorf("ascending: %v, want %v", ascending, want)
			}

			_, echoed := s.want(200, "GET", path+"?limit=2", "").body["limit"]
			_, invented := s.want(200, "GET", path, "").body["limit"]
			if echoed != kind.orderAndLimit || invented {
				t.Errorf("limit repeated: %v when sent, %v when not", echoed, invented)
			}
		})
	}
}

func TestThePodListEchoesItsLimitAndSorts(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{})
	for i := range 3 {
		s.pod(fmt.Sprint("c", i))
	}
	page := s.want(200, "GET", "/v0/pods?limit=101", "")
	if page.body["limit"] != 101.0 || page.body["count"] != 4.0 {
		t.Errorf("limit=101: %s", page.raw)
	}
	oldestFirst, _ := s.drain("/v0/pods", "pods", "pod_id", "ascending=1&limit=3")
	if oldestFirst[0] != fake.OrganizationID {
		t.Errorf("the oldest pod is %s, want the Default Pod", oldestFirst[0])
	}
}

func TestAPageMayBeEmptyAndCarryAToken(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{Switches: fake.Switches{EmptyPages: true, PageSize: 2}})
	path := s.pod("c") + "/api-keys"
	for range 3 {
		s.want(200, "POST", path, "")
	}
	first := s.want(200, "GET", path, "")
	if len(first.items("api_keys")) != 0 || first.text("next_page_token") == "" {
		t.Errorf("first page: %s", first.raw)
	}
	ids, pages := s.drain(path, "api_keys", "api_key_id", "")
	if len(ids) != 3 || pages != 4 {
		t.Errorf("%d keys in %d pages, want 3 in 4", len(ids), pages)
	}
	none, pages := s.drain(s.pod("d")+"/api-keys", "api_keys", "api_key_id", "")
	if len(none) != 0 || pages != 2 {
		t.Errorf("an empty list: %d keys in %d pages", len(none), pages)
	}
}

func TestDeletingBetweenPagesSkipsNothing(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Config{Switches: fake.Switches{PageSize: 2}})
	path := s.pod("c") + "/api-keys"
	for range 7 {
		s.want(200, "POST", path, "")
	}
	token, deleted := "", 0
	for {
		page := s.want(200, "GET", path+"?"+token, "")
		for _, key := range page.items("api_keys") {
			s.want(204, "DELETE", path+"/"+key["api_key_id"].(string), "")
			deleted++
		}
		if page.text("next_page_token") == "" {
			break
		}
		token = "page_token=" + page.text("next_page_token")
	}
	if deleted != 7 {
		t.Errorf("deleted %d of 7 while paging", deleted)
	}
}
