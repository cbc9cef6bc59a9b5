package fake

import (
	"maps"
	"net/http"
	"strings"
)

// Oddities are answers that AgentMail may give on a bad day. They last until they are switched off.
type Oddities struct {
	// MissingPods answers every call about a pod by its id with 404, as a replica does that has not
	// heard of it. POST and the list of pods know it.
	MissingPods bool `json:"missing_pods"`
	// MissingLists answers the lists in a pod with 404. The pod itself is found.
	MissingLists bool `json:"missing_lists"`
	// EmptyLists answers every list as if it had nothing.
	EmptyLists bool `json:"empty_lists"`
	// RoundLists lets the last page of every list name the first one as the next.
	RoundLists bool `json:"round_lists"`
	// DeletionStatus is answered to every DELETE in place of carrying it out, with a page that is
	// no JSON. Zero: DELETE works.
	DeletionStatus int `json:"deletion_status"`
	// RefusedDeletions are the statuses that a DELETE of one thing in a pod is refused with, by the
	// thing's id. 409 is cannot_delete.
	RefusedDeletions map[string]int `json:"refused_deletions"`
	// NoOrganizationID leaves organization_id out of pods: no published type has it.
	NoOrganizationID bool `json:"no_organization_id"`
}

// odd is the answer that an oddity gives to a call in place of carrying it out, if one does. Caller
// holds the lock.
func (s *Server) odd(c *call) (answer, bool) {
	o := s.switches.Oddities
	deletes := c.route.method == http.MethodDelete
	status := o.RefusedDeletions[c.item]
	switch {
	case o.MissingPods && c.pod != "", o.MissingLists && c.pod != "" && c.item == "" && strings.HasPrefix(c.route.operation, "list_"):
		return answerTo(refuse("not_found", "")), true
	case deletes && o.DeletionStatus != 0:
		return answer{status: o.DeletionStatus, verbatim: "<html>We are back soon</html>"}, true
	case deletes && status == http.StatusConflict:
		return answerTo(refuse("cannot_delete", "")), true
	case deletes && status != 0:
		return refusalOf(status, ""), true
	}
	return answer{}, false
}

// oddList is a list's page as the oddities have it. Caller holds the lock.
func (s *Server) oddList(name string, page map[string]any) map[string]any {
	o := s.switches.Oddities
	_, more := page["next_page_token"]
	page = maps.Clone(page)
	if o.EmptyLists {
		page["count"], page[name] = 0, []any{}
		delete(page, "next_page_token")
	}
	if o.RoundLists && !more {
		page["next_page_token"] = cursor{}.token()
	}
	return page
}

// oddShape is how the body of an answer is put, as the oddities have it. Caller holds the lock.
func (s *Server) oddShape(c *call) (omit []string) {
	ofPods := c.route.operation == CreatePod || c.route.operation == GetPod || c.route.operation == ListPods
	if s.switches.NoOrganizationID && ofPods {
		return []string{"organization_id"}
	}
	return nil
}
