package agentmail

import (
	"encoding/json"
	"errors"
	"net/http"
	"regexp"

	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/rest"
)

// codeForm is what AgentMail's codes look like.
var codeForm = regexp.MustCompile(`^[a-z_]{1,64}$`)

// explain reads an answer that is no success: {"code":…,"errors":[{"path":[…]}]}, and from the edge
// neither. A 403 without a code is the edge's, which does not accept the org key.
func explain(status int, header http.Header, answer []byte) rest.Explanation {
	var body struct {
		Code   string `json:"code"`
		Errors []struct {
			Path []any `json:"path"`
		} `json:"errors"`
	}
	_ = json.Unmarshal(answer, &body) // an answer from the edge has no code
	if body.Code != "" && !codeForm.MatchString(body.Code) {
		body.Code = "malformed_code" // it is logged, and could be anything
	}
	e := rest.Explanation{Code: body.Code, RequestID: header.Get("apigw-requestid"), Repeat: body.Code == "race_condition"}
	for _, wrong := range body.Errors {
		if len(wrong.Path) > 0 && e.Member == "" {
			e.Member, _ = wrong.Path[0].(string)
		}
	}
	switch {
	case status == http.StatusForbidden && body.Code == "limit_exceeded":
		e.Class = managed.Quota
	case status == http.StatusForbidden && body.Code != "":
		e.Class = managed.Permanent
	case status == http.StatusConflict && (body.Code == "cannot_delete" || body.Code == "resource_deleting"):
		e.Class = managed.NotYet
	}
	return e
}

// isDeleting reports whether AgentMail is at the deletion of what a call was about.
func isDeleting(err error) bool {
	var refusal *rest.Refusal
	return errors.As(err, &refusal) && refusal.Code == "resource_deleting"
}

// holdsMore reports whether AgentMail refused to delete a pod for what is in it.
func holdsMore(err error) bool {
	var refusal *rest.Refusal
	return errors.As(err, &refusal) && refusal.Status == http.StatusConflict && refusal.Code == "cannot_delete"
}

// isLimited reports whether AgentMail has had too many calls.
func isLimited(err error) bool {
	var refusal *rest.Refusal
	return errors.As(err, &refusal) && refusal.Status == http.StatusTooManyRequests
}
