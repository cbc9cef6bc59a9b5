// The life of a key, through OpenRouter's official SDK. Run by lifecycle_test.go against the fake;
// it asks nothing of a fake, so that
//
//   OPENROUTER_BASE_URL=https://openrouter.ai/api/v1 OPENROUTER_API_KEY=… npm test
//
// with a management key tells whether the real service still behaves as the fake does. It deletes
// everything that it creates.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, describe, test } from "node:test";
import { OpenRouter } from "@openrouter/sdk";
import * as errors from "@openrouter/sdk/models/errors";

const serverURL = process.env.OPENROUTER_BASE_URL;
const apiKey = process.env.OPENROUTER_API_KEY;
assert.ok(serverURL && apiKey, "set OPENROUTER_BASE_URL and OPENROUTER_API_KEY");

// A create that is repeated makes another key: the SDK would do so for an hour.
const connect = (key) => new OpenRouter({ serverURL, apiKey: key, retryConfig: { strategy: "none" } });
const org = connect(apiKey);

const create = (requestBody) => org.apiKeys.create({ requestBody });
const get = async (hash) => (await org.apiKeys.get({ hash })).data;

// drain reads the list of keys to its end, by offsets.
async function drain(query) {
    const all = [];
    for (;;) {
        const { data } = await org.apiKeys.list({ ...query, offset: all.length });
        if (data.length === 0) {
            return all;
        }
        all.push(...data);
    }
}

// refusal is what assert.rejects expects of an error by the API itself.
const refusal = (errorClass, status) => (error) => {
    assert.ok(error instanceof errorClass, `${error.name} is not a ${errorClass.name}: ${error.message}`);
    assert.equal(error.statusCode, status);
    assert.equal(error.error.code, status);
    assert.equal(typeof error.error.message, "string");
    return true;
};

describe("a key", () => {
    const name = `sdktest-${randomUUID()}`;
    const made = []; // hashes of what is to be deleted
    let workspace;
    let key;

    after(async () => {
        for (const hash of made) {
            await org.apiKeys.delete({ hash });
        }
    });

    test("a management key says that it is one, and sees its workspaces", async () => {
        const { data } = await org.apiKeys.getCurrentKeyMetadata();
        assert.equal(data.isManagementKey, true);
        const all = [];
        for await (const page of await org.workspaces.list()) {
            all.push(...page.result.data);
        }
        assert.ok(all.length > 0);
        workspace = all[0].id;
    });

    test("it is created in a workspace, with a limit, and its secret told", async () => {
        key = await create({ name, limit: 0.5, limitReset: "monthly", workspaceId: workspace });
        made.push(key.data.hash);
        assert.match(key.key, /^sk-or-v1-[0-9a-f]{64}$/);
        assert.equal(key.data.name, name);
        assert.equal(key.data.limit, 0.5);
        assert.equal(key.data.limitRemaining, 0.5);
        assert.equal(key.data.limitReset, "monthly");
        assert.equal(key.data.workspaceId, workspace);
        assert.equal(key.data.disabled, false);
        assert.equal(key.data.usage, 0);
        assert.equal(key.key.includes(key.data.hash), false);
    });

    test("names are not unique, and no repeat gives the same key", async () => {
        const again = await create({ name, workspaceId: workspace });
        made.push(again.data.hash);
        assert.notEqual(again.data.hash, key.data.hash);
        assert.equal(again.data.limit, null);
        assert.equal(again.data.expiresAt, null);
    });

    test("it may expire, to the second", async () => {
        const expiresAt = new Date("2099-01-02T03:04:05Z");
        const short = await create({ name, expiresAt, workspaceId: workspace });
        made.push(short.data.hash);
        assert.deepEqual(short.data.expiresAt, expiresAt);
    });

    test("it is found by its hash, and listed, newest first, without its secret", async () => {
        assert.deepEqual(await get(key.data.hash), key.data);
        const listed = (await drain({ workspaceId: workspace, includeDisabled: true })).filter((k) => k.name === name);
        assert.deepEqual(listed.map((k) => k.hash), made.toReversed());
        assert.deepEqual(listed.at(-1), key.data);
        assert.equal(JSON.stringify(listed).includes(key.key), false);
    });

    test("what is disabled is not listed unless one asks for it", async () => {
        const { data } = await org.apiKeys.update({ hash: key.data.hash, requestBody: { disabled: true, limit: 1 } });
        assert.equal(data.disabled, true);
        assert.equal(data.limit, 1);
        assert.equal(typeof data.updatedAt, "string");
        const hashes = async (query) => (await drain({ workspaceId: workspace, ...query })).map((k) => k.hash);
        assert.equal((await hashes()).includes(key.data.hash), false);
        assert.equal((await hashes({ includeDisabled: true })).includes(key.data.hash), true);
        await org.apiKeys.update({ hash: key.data.hash, requestBody: { disabled: false } });
    });

    test("it tells of itself, and manages no keys", async () => {
        const own = connect(key.key);
        const { data } = await own.apiKeys.getCurrentKeyMetadata();
        assert.equal(data.isManagementKey, false);
        assert.equal(data.limit, 1);
        assert.equal(data.label, key.data.label);
        await assert.rejects(own.apiKeys.create({ requestBody: { name } }), refusal(errors.ForbiddenResponseError, 403));
    });

    test("what is malformed, unknown or not allowed is refused", async () => {
        const hash = "0".repeat(64);
        await assert.rejects(create({ name: "" }), refusal(errors.BadRequestResponseError, 400));
        await assert.rejects(create({ name, limit: -1 }), refusal(errors.BadRequestResponseError, 400));
        await assert.rejects(org.apiKeys.get({ hash }), refusal(errors.NotFoundResponseError, 404));
        await assert.rejects(org.apiKeys.delete({ hash }), refusal(errors.NotFoundResponseError, 404));
        await assert.rejects(org.apiKeys.update({ hash, requestBody: { name } }), refusal(errors.NotFoundResponseError, 404));
        await assert.rejects(connect(`sk-or-v1-${hash}`).apiKeys.list(), refusal(errors.UnauthorizedResponseError, 401));
    });

    test("it is deleted, and is nowhere any more", async () => {
        const { hash } = key.data;
        assert.deepEqual(await org.apiKeys.delete({ hash }), { deleted: true });
        made.shift();
        await assert.rejects(get(hash), refusal(errors.NotFoundResponseError, 404));
        await assert.rejects(org.apiKeys.delete({ hash }), refusal(errors.NotFoundResponseError, 404));
        assert.equal((await drain({ workspaceId: workspace, includeDisabled: true })).some((k) => k.hash === hash), false);
        await assert.rejects(connect(key.key).apiKeys.getCurrentKeyMetadata(), refusal(errors.UnauthorizedResponseError, 401));
    });
});
