package fake

import (
	crand "crypto/rand"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
)

// What else a pod may hold, and has to be rid of before it can be deleted: inboxes, domains and
// webhooks.

type inbox struct {
	stamp
	address, displayName, clientID string // the address is also the id
	pod                            *pod
	deleting, paused               bool
	keys                           []*apiKey
}

func (i *inbox) view() any {
	return struct {
		OrganizationID string    `json:"organization_id"`
		PodID          string    `json:"pod_id"`
		InboxID        string    `json:"inbox_id"`
		Email          string    `json:"email"`
		DisplayName    string    `json:"display_name"`
		ClientID       string    `json:"client_id,omitempty"`
		Status         string    `json:"status,omitempty"`
		UpdatedAt      timestamp `json:"updated_at"`
		CreatedAt      timestamp `json:"created_at"`
	}{i.pod.organization, i.pod.id, i.address, i.address, i.displayName, i.clientID, i.status(), timestamp(i.updated), timestamp(i.created)}
}

// status is left out of an inbox that is active.
func (i *inbox) status() string {
	if i.paused {
		return "paused"
	}
	return ""
}

// updateInbox pauses an inbox, lets it go on, or gives it another display name.
func (s *Server) updateInbox(c *call) (any, error) {
	var in struct {
		DisplayName *string `json:"display_name"`
		Status      string  `json:"status"`
	}
	err := decode(c.body, &in)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(c.target.inboxes, func(i *inbox) bool { return i.address == strings.ToLower(c.item) })
	if at < 0 {
		return nil, refuse("not_found", "Inbox not found")
	}
	i := c.target.inboxes[at]
	switch in.Status {
	case "":
	case "active", "paused":
		i.paused = in.Status == "paused"
	default:
		return nil, invalid("invalid_value", "Invalid option: expected active or paused", "status")
	}
	if in.DisplayName != nil {
		i.displayName = *in.DisplayName
	}
	i.updated = s.now()
	return i.view(), nil
}

var usernames = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$`)

type inboxRequest struct {
	Username    string  `json:"username"` // empty: made up
	Domain      string  `json:"domain"`   // any will do
	DisplayName string  `json:"display_name"`
	ClientID    *string `json:"client_id"`
}

func readInboxRequest(body []byte) (inboxRequest, error) {
	in := inboxRequest{Domain: "agentmail.to", DisplayName: "AgentMail"}
	err := decode(body, &in)
	if err != nil {
		return in, err
	}
	if in.Username != "" && !usernames.MatchString(in.Username) {
		return in, invalid("invalid_format", "Invalid username", "username")
	}
	return in, checkClientID(in.ClientID)
}

// createInbox makes an inbox, or returns the pod's one that has the client_id.
func (s *Server) createInbox(c *call) (any, error) {
	in, err := readInboxRequest(c.body)
	if err != nil {
		return nil, err
	}
	p := c.target
	made := &inbox{displayName: in.DisplayName}
	if in.ClientID != nil {
		made.clientID = *in.ClientID
		existing := slices.IndexFunc(p.inboxes, func(i *inbox) bool { return i.clientID == made.clientID })
		if existing >= 0 {
			return p.inboxes[existing].view(), nil
		}
	}
	made.address = strings.ToLower(in.Username + "@" + in.Domain)
	if in.Username == "" {
		made.address = s.freeAddress(strings.ToLower(in.Domain))
	}
	if s.addresses[made.address] {
		return nil, refuse("already_exists", "Inbox already exists")
	}
	s.addInbox(p, made)
	return made.view(), nil
}

func (s *Server) addInbox(p *pod, i *inbox) {
	i.stamp, i.pod = s.stamp(), p
	p.inboxes = append(p.inboxes, i)
	s.addresses[i.address] = true
}

// freeAddress makes up an address in AgentMail's manner: adjective, noun, three digits.
func (s *Server) freeAddress(domain string) string {
	adjectives := []string{"amber", "brisk", "calm", "early", "gentle", "humble", "keen", "lucky"}
	nouns := []string{"badger", "cedar", "falcon", "harbor", "lantern", "meadow", "otter", "pebble"}
	for {
		address := fmt.Sprintf("%s%s%03d@%s", adjectives[rand.IntN(len(adjectives))], nouns[rand.IntN(len(nouns))], rand.IntN(1000), domain)
		if !s.addresses[address] {
			return address
		}
	}
}

func (s *Server) listInboxes(c *call) (any, error) {
	var visible []*inbox
	for _, i := range c.target.inboxes {
		if !i.deleting || !s.switches.HideDeletingInboxes {
			visible = append(visible, i)
		}
	}
	return list(s, c, "inboxes", visible, sorted|limitEchoed)
}

// deleteInbox only begins: until the deletion has finished, the pod holds the inbox.
func (s *Server) deleteInbox(c *call) (any, error) {
	p := c.target
	at := slices.IndexFunc(p.inboxes, func(i *inbox) bool { return i.address == strings.ToLower(c.item) })
	if at < 0 || p.inboxes[at].deleting && s.switches.HideDeletingInboxes {
		return nil, refuse("not_found", "Inbox not found")
	}
	s.beginDeletion(p, p.inboxes[at])
	return nil, nil
}

// beginDeletion lets an inbox be gone after a while. A second call changes nothing.
func (s *Server) beginDeletion(p *pod, i *inbox) {
	if i.deleting {
		return
	}
	i.deleting = true
	s.after(s.switches.InboxDeletion, func() {
		p.inboxes = without(p.inboxes, i)
		delete(s.addresses, i.address)
	})
}

type domain struct {
	stamp
	name string // also the id
	pod  *pod
}

// domainItem is a domain in a list.
type domainItem struct {
	OrganizationID    string    `json:"organization_id"`
	PodID             string    `json:"pod_id"`
	DomainID          string    `json:"domain_id"`
	Domain            string    `json:"domain"`
	FeedbackEnabled   bool      `json:"feedback_enabled"`
	SubdomainsEnabled bool      `json:"subdomains_enabled"`
	TrackingEnabled   bool      `json:"tracking_enabled"`
	UpdatedAt         timestamp `json:"updated_at"`
	CreatedAt         timestamp `json:"created_at"`
}

func (d *domain) item() domainItem {
	return domainItem{
		OrganizationID: d.pod.organization, PodID: d.pod.id, DomainID: d.name, Domain: d.name,
		UpdatedAt: timestamp(d.updated), CreatedAt: timestamp(d.created),
	}
}

func (d *domain) view() any { return d.item() }

// createDomain takes any name, and never comes to verify it.
func (s *Server) createDomain(c *call) (any, error) {
	p := c.target
	var in struct {
		Domain string `json:"domain"`
	}
	err := decode(c.body, &in)
	if err != nil {
		return nil, err
	}
	if in.Domain == "" {
		return nil, invalid("invalid_type", "Invalid input: expected string, received undefined", "domain")
	}
	made := &domain{name: strings.ToLower(in.Domain)}
	if s.domainTaken(made.name) {
		return nil, refuse("already_exists", "Domain already exists")
	}
	s.addDomain(p, made)
	return struct {
		domainItem
		Status  string   `json:"status"`
		Records []string `json:"records"`
	}{made.item(), "NOT_STARTED", []string{}}, nil
}

func (s *Server) addDomain(p *pod, d *domain) {
	d.stamp, d.pod = s.stamp(), p
	p.domains = append(p.domains, d)
}

func (s *Server) domainTaken(name string) bool {
	return slices.ContainsFunc(s.pods, func(p *pod) bool {
		return slices.ContainsFunc(p.domains, func(d *domain) bool { return d.name == name })
	})
}

func (s *Server) listDomains(c *call) (any, error) {
	return list(s, c, "domains", c.target.domains, sorted|limitEchoed)
}

func (s *Server) deleteDomain(c *call) (any, error) {
	p := c.target
	i := slices.IndexFunc(p.domains, func(d *domain) bool { return d.name == strings.ToLower(c.item) })
	if i < 0 {
		return nil, refuse("not_found", "Domain not found")
	}
	p.domains = slices.Delete(p.domains, i, i+1)
	return nil, nil
}

type webhook struct {
	stamp
	id, url    string
	eventTypes []string
	pod        *pod
}

// view shows a secret for verifying signatures. Nothing is ever signed or sent, so it is the same
// for all.
func (w *webhook) view() any {
	return struct {
		OrganizationID string    `json:"organization_id"`
		WebhookID      string    `json:"webhook_id"`
		URL            string    `json:"url"`
		EventTypes     []string  `json:"event_types,omitempty"`
		PodIDs         []string  `json:"pod_ids"`
		Secret         string    `json:"secret"`
		Enabled        bool      `json:"enabled"`
		UpdatedAt      timestamp `json:"updated_at"`
		CreatedAt      timestamp `json:"created_at"`
	}{w.pod.organization, w.id, w.url, w.eventTypes, []string{w.pod.id}, "whsec_ZmFrZQ==", true, timestamp(w.updated), timestamp(w.created)}
}

func (s *Server) createWebhook(c *call) (any, error) {
	p := c.target
	var in struct {
		URL        string   `json:"url"`
		EventTypes []string `json:"event_types"`
	}
	err := decode(c.body, &in)
	if err != nil {
		return nil, err
	}
	if in.URL == "" {
		return nil, invalid("invalid_type", "Invalid input: expected string, received undefined", "url")
	}
	made := &webhook{url: in.URL, eventTypes: in.EventTypes}
	s.addWebhook(p, made)
	return made.view(), nil
}

func (s *Server) addWebhook(p *pod, w *webhook) {
	w.stamp, w.id, w.pod = s.stamp(), "ep_"+crand.Text(), p
	p.webhooks = append(p.webhooks, w)
}

func (s *Server) listWebhooks(c *call) (any, error) {
	return list(s, c, "webhooks", c.target.webhooks, sorted|limitEchoed)
}

func (s *Server) deleteWebhook(c *call) (any, error) {
	p := c.target
	i := slices.IndexFunc(p.webhooks, func(w *webhook) bool { return w.id == c.item })
	if i < 0 {
		return nil, refuse("not_found", "Webhook not found")
	}
	p.webhooks = slices.Delete(p.webhooks, i, i+1)
	return nil, nil
}
