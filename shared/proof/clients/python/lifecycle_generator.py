"""A credential's whole life, by the client that OpenAPI Generator makes of docs/openapi.yaml."""

import os
import uuid

import managed_credentials as api

configuration = api.Configuration(host=os.environ["API_URL"], access_token=os.environ["TOKEN"])
credentials = api.CredentialsApi(api.ApiClient(configuration))


def refused(status, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except api.ApiException as answer:
        if answer.status == status:
            return
        raise
    raise SystemExit(f"the answer is no {status}")


def etag(answer):
    return {name.lower(): value for name, value in answer.headers.items()}["etag"]


key, body = str(uuid.uuid4()), api.NewCredential(api.NewApiKey(type="api_key", title="Work", api_key="ghp_example"))
mine = credentials.create_credential("github", body, idempotency_key=key).id
assert credentials.create_credential("github", body, idempotency_key=key).id == mine

listed = credentials.list_credentials()
assert mine in [c.id for c in listed]
managed = next(c for c in listed if c.is_managed)

old = etag(credentials.get_credential_with_http_info("github", mine))
home, late = (api.CredentialChange(api.TitleChange(title=title)) for title in ("Home", "Late"))
changed = credentials.update_credential_with_http_info("github", mine, home, if_match=old)
assert changed.data.title == "Home"
refused(412, credentials.update_credential, "github", mine, late, if_match=old)

scoped = api.NewHostScoped(type="host_scoped", host="example.com", headers={"X-Key": "example"})
other = credentials.create_credential("intranet", api.NewCredential(scoped))
assert other.stored == ["headers.X-Key"]

assert credentials.delete_credential("github", mine, if_match=etag(changed)).deleted
refused(404, credentials.get_credential, "github", mine)
refused(403, credentials.delete_credential, "agent_mail", managed.id)
print("done")
