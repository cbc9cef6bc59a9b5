package functions_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"managed-credentials/shared/credential"
)

// callWith is call with one more header.
func (s *service) callWith(name, value, method, path, token, body string) answer {
	s.t.Helper()
	req, err := http.NewRequest(method, s.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set(name, value)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	read, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(read)}
}

const changedElsewhere = `{"detail":"The credential was changed elsewhere: see what is there now."}`

func TestAFormThatWasOpenedEarlierPutsNothingBack(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)
	created := s.call("POST", "/github/credentials", token, ownKey)
	path := "/github/credentials/" + decode[credential.Metadata](t, created.body).ID
	opened := s.call("GET", path, token, "").header.Get("ETag")
	if opened == "" || opened != created.header.Get("ETag") {
		t.Fatalf("the ETag is %s, and was %s", opened, created.header.Get("ETag"))
	}
	changed := s.callWith("If-Match", opened, "PUT", path, token, `{"title":"one"}`)
	changed.want(t, http.StatusOK, "")
	for _, tag := range []string{opened, "garbage", "W/" + changed.header.Get("ETag")} {
		s.callWith("If-Match", tag, "PUT", path, token, `{"title":"two"}`).want(t, http.StatusPreconditionFailed, changedElsewhere)
		s.callWith("If-Match", tag, "DELETE", path, token, "").want(t, http.StatusPreconditionFailed, changedElsewhere)
	}
	s.callWith("If-Match", opened, "DELETE", "/github/credentials/"+someID, token, "").want(t, http.StatusNotFound, notFound)
	got := s.call("GET", path, token, "")
	if got.body != changed.body || got.header.Get("ETag") != changed.header.Get("ETag") {
		t.Errorf("it is %s with %s", got.body, got.header.Get("ETag"))
	}
	s.callWith("If-Match", "*", "PUT", path, token, `{"title":"three"}`).want(t, http.StatusOK, "")
	last := s.call("PUT", path, token, `{"title":"four"}`)
	last.want(t, http.StatusOK, "")
	s.callWith("If-Match", opened+", "+last.header.Get("ETag"), "DELETE", path, token, "").want(t, http.StatusOK, "")
}

func TestALostAnswerToACreationIsAskedForAgain(t *testing.T) {
	t.Parallel()
	s := start(t, map[string]string{"MAX_CREDENTIALS": "1"})
	token := s.token(alice)
	const key = "2c1f8a54-7d7e-4c39-9a4b-3b1b4b8f3a10"
	again := func(body string) answer {
		return s.callWith("Idempotency-Key", key, "POST", "/github/credentials", token, body)
	}
	first := again(ownKey)
	first.want(t, http.StatusCreated, "")
	repeat := again(ownKey)
	repeat.want(t, http.StatusCreated, first.body)
	if repeat.header.Get("ETag") != first.header.Get("ETag") {
		t.Errorf("the ETags are %s and %s", first.header.Get("ETag"), repeat.header.Get("ETag"))
	}
	if n := len(decode[[]credential.Metadata](t, s.call("GET", "/github/credentials", token, "").body)); n != 1 {
		t.Errorf("there are %d credentials", n)
	}
	s.call("DELETE", "/github/credentials/"+decode[credential.Metadata](t, first.body).ID, token, "").want(t, http.StatusOK, "")
	again(ownKey).want(t, http.StatusCreated, "")
	theirs := s.callWith("Idempotency-Key", key, "POST", "/github/credentials", s.token(bob), ownKey)
	theirs.want(t, http.StatusCreated, "")
	if decode[credential.Metadata](t, theirs.body).ID == decode[credential.Metadata](t, first.body).ID {
		t.Error("two users have one id")
	}
}

func TestAnIdempotencyKeyIsOfOneRequest(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	token := s.token(alice)
	s.callWith("Idempotency-Key", "0123456789abcdef", "POST", "/github/credentials", token, ownKey).want(t, http.StatusCreated, "")
	s.callWith("Idempotency-Key", "0123456789abcdef", "POST", "/github/credentials", token, `{"type":"api_key","api_key":"other"}`).
		want(t, http.StatusUnprocessableEntity, `{"detail":"Idempotency-Key: was sent with another body before: send a new one with this"}`)
	for _, key := range []string{"short", ""} {
		s.callWith("Idempotency-Key", key, "POST", "/github/credentials", token, ownKey).
			want(t, http.StatusUnprocessableEntity, `{"detail":"Idempotency-Key: must have 16 to 255 visible ASCII characters: take a UUID"}`)
	}
}
