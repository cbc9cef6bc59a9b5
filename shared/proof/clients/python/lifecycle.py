"""A credential's whole life, by the client that openapi-python-client makes of docs/openapi.yaml."""

import os
import uuid

from managed_credentials import AuthenticatedClient
from managed_credentials.api.credentials import (
    create_credential,
    delete_credential,
    get_credential,
    list_credentials,
    update_credential,
)
from managed_credentials.models import Headers, NewApiKey, NewHostScoped, TitleChange

client = AuthenticatedClient(base_url=os.environ["API_URL"], token=os.environ["TOKEN"])


def expect(answer, status):
    if answer.status_code != status:
        raise SystemExit(f"the answer is {answer.status_code} {answer.content}, not {status}")
    return answer


# The same key with the same body makes no second credential, however often it is sent.
key, body = str(uuid.uuid4()), NewApiKey(type_="api_key", title="Work", api_key="ghp_example")
made = expect(create_credential.sync_detailed("github", client=client, body=body, idempotency_key=key), 201)
again = expect(create_credential.sync_detailed("github", client=client, body=body, idempotency_key=key), 201)
mine = made.parsed.id
assert again.parsed.id == mine

listed = expect(list_credentials.sync_detailed(client=client), 200)
assert mine in [c.id for c in listed.parsed]
managed = next(c for c in listed.parsed if c.is_managed)
assert "agent_mail=ready" in listed.headers["managed-credentials"]

# A change that somebody else has overtaken is a 412, and changes nothing.
old = expect(get_credential.sync_detailed("github", mine, client=client), 200).headers["etag"]
home, late = TitleChange(title="Home"), TitleChange(title="Late")
changed = expect(update_credential.sync_detailed("github", mine, client=client, body=home, if_match=old), 200)
assert changed.parsed.title == "Home"
expect(update_credential.sync_detailed("github", mine, client=client, body=late, if_match=old), 412)

headers = Headers.from_dict({"X-Key": "example"})
scoped = NewHostScoped(type_="host_scoped", host="example.com", headers=headers)
other = expect(create_credential.sync_detailed("intranet", client=client, body=scoped), 201)
assert other.parsed.stored == ["headers.X-Key"]

gone = expect(delete_credential.sync_detailed("github", mine, client=client, if_match=changed.headers["etag"]), 200)
assert gone.parsed.deleted
expect(get_credential.sync_detailed("github", mine, client=client), 404)
expect(delete_credential.sync_detailed("agent_mail", managed.id, client=client), 403)
print("done")
