// A credential's whole life, by the client that Hey API makes of docs/openapi.yaml.
import { strict as assert } from "node:assert";
import { randomUUID } from "node:crypto";
import { client } from "./hey/client.gen";
import { createCredential, deleteCredential, getCredential, listCredentials, updateCredential } from "./hey/sdk.gen";

client.setConfig({ baseUrl: process.env.API_URL!, auth: process.env.TOKEN! });

const create = (key: string) =>
  createCredential({
    path: { provider: "github" },
    headers: { "Idempotency-Key": key },
    body: { type: "api_key", title: "Work", api_key: "ghp_example" },
  });
const key = randomUUID();
const made = await create(key);
const again = await create(key);
assert(made.data && made.data.id === again.data?.id);
const mine = { provider: "github", id: made.data.id };

const listed = await listCredentials();
assert(listed.data);
assert(listed.data.some((c) => c.id === mine.id));
const managed = listed.data.find((c) => c.is_managed);
assert(managed);

const update = (title: string, etag: string) =>
  updateCredential({ path: mine, headers: { "If-Match": etag }, body: { title } });
const old = (await getCredential({ path: mine })).response!.headers.get("ETag")!;
const changed = await update("Home", old);
assert.equal(changed.data?.title, "Home");
assert.equal((await update("Late", old)).response!.status, 412);

const other = await createCredential({
  path: { provider: "intranet" },
  body: { type: "host_scoped", host: "example.com", headers: { "X-Key": "example" } },
});
assert.deepEqual(other.data?.stored, ["headers.X-Key"]);

const gone = await deleteCredential({ path: mine, headers: { "If-Match": changed.response!.headers.get("ETag")! } });
assert(gone.data?.deleted);
assert.equal((await getCredential({ path: mine })).response!.status, 404);
const refused = await deleteCredential({ path: { provider: managed.provider, id: managed.id } });
assert.equal(refused.response!.status, 403);
console.log("done");
