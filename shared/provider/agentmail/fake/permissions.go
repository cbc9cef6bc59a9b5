package fake

import "slices"

// permissions are all that a key can have, by the names of PyPI's agentmail 2.0.18. A name that is
// none of them is a 400: also what two of them were called before.
var permissions = []string{
	"inbox_read", "inbox_create", "inbox_update", "inbox_delete", "message_read", "message_reply",
	"message_send", "message_update", "message_delete", "agent_armor_release", "label_spam_read", "label_blocked_read",
	"label_unauthenticated_read", "label_trash_read", "draft_read", "draft_create", "draft_update", "draft_delete",
	"draft_send", "webhook_read", "webhook_create", "webhook_update", "webhook_delete", "domain_read",
	"domain_create", "domain_update", "domain_delete", "list_entry_read", "list_entry_create", "list_entry_delete",
	"metrics_read", "api_key_read", "api_key_create", "api_key_update", "api_key_delete", "app_connect",
	"app_share_owner", "account_update", "pod_read", "pod_create", "pod_update", "pod_delete",
	"calendar_read", "calendar_update", "calendar_event_read", "calendar_event_create", "calendar_event_update", "calendar_event_delete",
	"file_read", "file_create", "file_update", "file_delete",
}

// optIn are the permissions that a key has only where it was given them: one without permissions
// does not.
var optIn = []string{"agent_armor_release", "app_connect"}

// may tells whether a caller has a permission. "" is one that everybody has.
func (i identity) may(permission string) bool {
	if i.permissions == nil {
		return !slices.Contains(optIn, permission)
	}
	return permission == "" || i.permissions[permission]
}

// checkPermissions refuses names that are none.
func checkPermissions(asked map[string]bool) error {
	for name := range asked {
		if !slices.Contains(permissions, name) {
			return invalid("unrecognized_keys", "Unrecognized key: "+name, "permissions", name)
		}
	}
	return nil
}
