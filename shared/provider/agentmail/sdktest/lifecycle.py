"""The operations that this service uses, through AgentMail's official Python SDK. Run by python_test.go against the fake; like
lifecycle.test.js it asks nothing of a fake. If it succeeds, it has deleted everything that it created:

    AGENTMAIL_BASE_URL=https://api.agentmail.to AGENTMAIL_API_KEY=... python lifecycle.py
"""

import os
import time
import uuid

from agentmail import AgentMail
from agentmail.api_keys.types import ApiKeyPermissions, CreateBearerApiKeyRequest
from agentmail.core.api_error import ApiError
from agentmail.environment import AgentMailEnvironment
from agentmail.errors import NotFoundError, ValidationError

BASE_URL = os.environ["AGENTMAIL_BASE_URL"]
API_KEY = os.environ["AGENTMAIL_API_KEY"]

# The SDK repeats what is refused with 409, unless it is told not to.
ONCE = {"max_retries": 0}


def connect(key):
    """A client of the service at BASE_URL."""
    return AgentMail(api_key=key, environment=AgentMailEnvironment(http=BASE_URL, websockets=BASE_URL))


def drain(list_page, items):
    """A list to its end. A page may be empty and still not be the last."""
    found, token = [], None
    while True:
        page = list_page(limit=2, page_token=token)
        assert page.count == len(getattr(page, items)), page
        found += getattr(page, items)
        token = page.next_page_token
        if not token:
            return found


def refused(kind, status, code, call):
    """Sees a call refused with this status and code."""
    try:
        call()
    except kind as error:
        assert error.status_code == status, error
        body = error.body if isinstance(error.body, dict) else error.body.__dict__
        assert body["code"] == code and body["name"] and body["message"], body
        return body
    raise AssertionError(f"it was not refused with {status} {code}")


def eventually(call):
    """Repeats what is refused because something is still being deleted."""
    for _ in range(600):
        try:
            return call()
        except ApiError as error:
            if error.status_code != 409:
                raise
            time.sleep(0.05)
    raise AssertionError("it is still refused")


def life_of_a_pod(org, pod, client_id):
    """Everything between the creation of a pod and its deletion."""
    assert pod.client_id == client_id and pod.name == "sdktest" and pod.created_at.tzinfo, pod
    assert org.pods.create(name="another", client_id=client_id) == pod
    assert org.pods.get(pod.pod_id) == pod
    assert pod in drain(org.pods.list, "pods")

    key = org.pods.api_keys.create(
        pod.pod_id,
        request=CreateBearerApiKeyRequest(
            name="sdktest key",
            permissions=ApiKeyPermissions(inbox_read=True, inbox_create=True),
        ),
    )
    assert key.api_key.startswith("am_") and key.prefix == key.api_key[:12] and key.pod_id == pod.pod_id, key
    own = connect(key.api_key)
    me = own.auth.me()
    assert me.scope_type == "pod" and me.scope_id == pod.pod_id, me

    # The key is brought up to date: a new name, then new permissions, which hold at once.
    changed = org.pods.api_keys.update(pod.pod_id, key.api_key_id, name="renamed")
    assert changed.name == "renamed" and changed.permissions.inbox_create, changed
    changed = org.pods.api_keys.update(pod.pod_id, key.api_key_id, permissions=ApiKeyPermissions(inbox_read=True))
    assert changed.name == "renamed" and changed.permissions.inbox_read and not changed.permissions.inbox_create, changed
    [listed] = drain(lambda **page: org.pods.api_keys.list(pod.pod_id, **page), "api_keys")
    assert listed == changed and key.api_key not in repr(listed), listed
    try:
        own.pods.inboxes.create(pod.pod_id)
        raise AssertionError("the key may still make inboxes")
    except ApiError as error:
        assert error.status_code == 403, error

    # An inbox is paused, and goes on.
    inbox = org.pods.inboxes.create(pod.pod_id, display_name="sdktest")
    assert inbox.inbox_id == inbox.email and inbox.pod_id == pod.pod_id, inbox
    assert org.pods.inboxes.update(pod.pod_id, inbox.inbox_id, status="paused").status == "paused"
    [paused] = drain(lambda **page: org.pods.inboxes.list(pod.pod_id, **page), "inboxes")
    assert paused.status == "paused", paused
    assert org.pods.inboxes.update(pod.pod_id, inbox.inbox_id, status="active").status in (None, "active")

    inbox_key = org.inboxes.api_keys.create(inbox.inbox_id, request=CreateBearerApiKeyRequest(name="sdktest inbox key"))
    keys = drain(lambda **page: org.inboxes.api_keys.list(inbox.inbox_id, **page), "api_keys")
    assert [k.api_key_id for k in keys] == [inbox_key.api_key_id], keys
    org.inboxes.api_keys.delete(inbox.inbox_id, inbox_key.api_key_id)

    assert drain(lambda **page: org.pods.domains.list(pod.pod_id, **page), "domains") == []
    assert drain(lambda **page: org.pods.webhooks.list(pod.pod_id, **page), "webhooks") == []
    refused(ApiError, 409, "cannot_delete", lambda: org.pods.delete(pod.pod_id, request_options=ONCE))

    org.pods.api_keys.delete(pod.pod_id, key.api_key_id)
    assert drain(lambda **page: org.pods.api_keys.list(pod.pod_id, **page), "api_keys") == []
    refused(NotFoundError, 404, "not_found", lambda: org.pods.api_keys.delete(pod.pod_id, key.api_key_id))
    refused(NotFoundError, 404, "not_found", lambda: org.pods.api_keys.update(pod.pod_id, key.api_key_id, name="x"))
    org.pods.inboxes.delete(pod.pod_id, inbox.inbox_id)


def main():
    org = connect(API_KEY)
    me = org.auth.me()
    assert me.scope_type == "organization" and me.scope_id == me.organization_id, me
    refused(ValidationError, 400, "validation_error", lambda: org.pods.create(client_id="not allowed"))
    client_id = f"sdktest-{uuid.uuid4()}"
    pod = org.pods.create(name="sdktest", client_id=client_id)
    life_of_a_pod(org, pod, client_id)
    eventually(lambda: org.pods.delete(pod.pod_id, request_options=ONCE))
    refused(NotFoundError, 404, "not_found", lambda: org.pods.get(pod.pod_id))


main()
