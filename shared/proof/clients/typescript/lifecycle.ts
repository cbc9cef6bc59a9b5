// A credential's whole life, by openapi-fetch and the types that openapi-typescript makes of
// docs/openapi.yaml.
import { strict as assert } from "node:assert";
import { randomUUID } from "node:crypto";
import createClient from "openapi-fetch";
import type { paths } from "./schema";

const api = createClient<paths>({
  baseUrl: process.env.API_URL!,
  headers: { Authorization: `Bearer ${process.env.TOKEN}` },
});

// The same key with the same body makes no second credential, however often it is sent.
const create = (key: string) =>
  api.POST("/{provider}/credentials", {
    params: { path: { provider: "github" }, header: { "Idempotency-Key": key } },
    body: { type: "api_key", title: "Work", api_key: "ghp_example" },
  });
const key = randomUUID();
const made = await create(key);
const again = await create(key);
assert(made.data && made.data.id === again.data?.id);
const mine = { provider: "github", id: made.data.id };

const listed = await api.GET("/credentials");
assert(listed.data);
assert(listed.data.some((c) => c.id === mine.id));
const managed = listed.data.find((c) => c.is_managed);
assert(managed);
assert.match(listed.response.headers.get("Managed-Credentials")!, /agent_mail=ready/);

// A change that somebody else has overtaken is a 412, and changes nothing.
const update = (title: string, etag: string) =>
  api.PUT("/{provider}/credentials/{id}", {
    params: { path: mine, header: { "If-Match": etag } },
    body: { title },
  });
const shown = await api.GET("/{provider}/credentials/{id}", { params: { path: mine } });
const old = shown.response.headers.get("ETag")!;
const changed = await update("Home", old);
assert.equal(changed.data?.title, "Home");
const late = await update("Late", old);
assert.equal(late.response.status, 412);

const other = await api.POST("/{provider}/credentials", {
  params: { path: { provider: "intranet" } },
  body: { type: "host_scoped", host: "example.com", headers: { "X-Key": "example" } },
});
assert.deepEqual(other.data?.stored, ["headers.X-Key"]);

const gone = await api.DELETE("/{provider}/credentials/{id}", {
  params: { path: mine, header: { "If-Match": changed.response.headers.get("ETag")! } },
});
assert(gone.data?.deleted);
const missing = await api.GET("/{provider}/credentials/{id}", { params: { path: mine } });
assert.equal(missing.response.status, 404);
const refused = await api.DELETE("/{provider}/credentials/{id}", {
  params: { path: { provider: managed.provider, id: managed.id } },
});
assert.equal(refused.response.status, 403);
console.log("done");
