package store_test

import (
	"errors"
	"reflect"
	"sync"
	"testing"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/store"
)

func TestAChangeThatWasMeantForAnotherRevisionIsRefused(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(ownKey, ownItem)
	update := func(title string, match ...string) (credential.Metadata, error) {
		return tb.Update(t.Context(), user, "github", ownID, credential.Change{Title: &title, Match: match}, nil)
	}
	first, err := update("first", "0") // of before there were revisions
	if err != nil || first.Revision == "0" {
		t.Fatalf("got %+v, %v", first, err)
	}
	second, err := update("second", "0", first.Revision)
	if err != nil || second.Revision == first.Revision {
		t.Fatalf("got %+v, %v", second, err)
	}
	for _, match := range [][]string{{"0"}, {first.Revision}, {"none"}, {}} {
		_, err = tb.Update(t.Context(), user, "github", ownID, credential.Change{Title: str("late"), Match: match}, nil)
		wantError(t, "update", err, credential.ErrChanged)
		wantError(t, "delete", tb.Delete(t.Context(), user, "github", ownID, match...), credential.ErrChanged)
	}
	got, err := tb.Get(t.Context(), user, "github", ownID)
	if err != nil || !reflect.DeepEqual(got, second) {
		t.Errorf("it is %+v, %v", got, err)
	}
	third, err := update("third")
	if err != nil {
		t.Fatal(err)
	}
	err = tb.Delete(t.Context(), user, "github", ownID, third.Revision)
	if err != nil {
		t.Error(err)
	}
	_, err = update("fourth", third.Revision)
	wantError(t, "of what is not there", err, credential.ErrNotFound)
}

func TestAChangeForOneRevisionWhoseAnswerIsLostSucceeds(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	tb.put(ownKey, ownItem)
	tb.on("TransactWriteItems", fault.LoseAnswer())
	got, err := tb.Update(t.Context(), user, "github", ownID, credential.Change{Title: str("New"), Match: []string{"0"}}, nil)
	if err != nil || *got.Title != "New" || tb.proxy.Count("TransactWriteItems") != 2 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestARepeatedRequestMakesOneCredential(t *testing.T) {
	t.Parallel()
	tb := newTable(t)
	m := credential.Metadata{ID: credential.RepeatedID(user, "github", "key"), Provider: "github", Type: credential.APIKey}
	var all [5]credential.Metadata
	var wait sync.WaitGroup
	for i := range all {
		wait.Go(func() {
			got, err := tb.CreateOnce(t.Context(), user, m, "request", []byte("sealed"))
			if err != nil {
				t.Error(err)
			}
			all[i] = got
		})
	}
	wait.Wait()
	for _, got := range all {
		if !reflect.DeepEqual(got, all[0]) {
			t.Errorf("a repeat got %+v, and the first %+v", got, all[0])
		}
	}
	_, err := tb.CreateOnce(t.Context(), user, m, "another", []byte("sealed"))
	if !errors.Is(err, credential.ErrRepeated) {
		t.Errorf("another request under the id: %v", err)
	}
	tb.wantItem(store.CredentialKey(user, "github", m.ID), attributes{
		"v": 1, "type": "api_key", "autogpt_managed": false, "secret": []byte("sealed"), "created_at": ms(now), "request": "request",
	})
	// A repeat is none too many, and another one is.
	err = tb.CheckRoom(t.Context(), user, 1, "request")
	if err != nil {
		t.Error(err)
	}
	var limit *credential.LimitError
	for _, request := range []string{"", "another"} {
		err = tb.CheckRoom(t.Context(), user, 1, request)
		if !errors.As(err, &limit) {
			t.Errorf("%q: %v", request, err)
		}
	}
}
