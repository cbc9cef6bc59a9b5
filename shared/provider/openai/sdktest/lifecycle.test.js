// The life of a service account and its keys, through OpenAI's official SDK. Run by
// lifecycle_test.go against the fake; it asks nothing of a fake, so that
//
//   OPENAI_BASE_URL=https://api.openai.com/v1 OPENAI_ADMIN_KEY=… OPENAI_PROJECT_ID=proj_… npm test
//
// tells whether the real service still behaves as the fake does. It deletes everything that it
// creates.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import OpenAI, { AuthenticationError, BadRequestError, NotFoundError, PermissionDeniedError } from "openai";

const baseURL = process.env.OPENAI_BASE_URL;
const adminAPIKey = process.env.OPENAI_ADMIN_KEY;
const project_id = process.env.OPENAI_PROJECT_ID;
assert.ok(baseURL && adminAPIKey && project_id, "set OPENAI_BASE_URL, OPENAI_ADMIN_KEY and OPENAI_PROJECT_ID");

// A create that is repeated makes another account: the SDK would do so after a 500.
const connect = (key) => new OpenAI({ baseURL, adminAPIKey: key, maxRetries: 0 }).admin.organization.projects;
const projects = connect(adminAPIKey);
const { serviceAccounts, apiKeys } = projects;

// drain reads a list to its end, two a page.
async function drain(list, query) {
    const all = [];
    for await (const item of list.list(project_id, { ...query, limit: 2 })) {
        all.push(item);
    }
    return all;
}

// refusal is what assert.rejects expects of an error by the API itself.
const refusal = (errorClass, status) => (error) => {
    assert.ok(error instanceof errorClass, `${error.name} is not a ${errorClass.name}: ${error.message}`);
    assert.equal(error.status, status);
    assert.equal(typeof error.type, "string");
    assert.equal(typeof error.error.message, "string");
    assert.equal(typeof error.requestID, "string");
    return true;
};

const seconds = () => Math.floor(Date.now() / 1000);

describe("a service account and its keys", () => {
    const name = `sdktest-${randomUUID()}`;
    const made = []; // ids of what is to be deleted
    let account;

    const create = async (body) => {
        const one = await serviceAccounts.create(project_id, body);
        made.push(one.id);
        return one;
    };

    before(async () => {
        account = await create({ name });
    });

    after(async () => {
        for (const id of made) {
            await serviceAccounts.delete(id, { project_id });
        }
    });

    test("the project is there, and active", async () => {
        const project = await projects.retrieve(project_id);
        assert.equal(project.id, project_id);
        assert.equal(project.object, "organization.project");
        assert.equal(project.status, "active");
    });

    test("an account is created with a key, and its secret told", () => {
        assert.equal(account.object, "organization.project.service_account");
        assert.equal(account.name, name);
        assert.equal(account.role, "member");
        assert.ok(Math.abs(account.created_at - seconds()) < 300);
        assert.equal(account.api_key.object, "organization.project.service_account.api_key");
        assert.match(account.api_key.value, /^sk-/);
        assert.equal(account.api_key.expires_at ?? null, null);
    });

    test("names are not unique, and no repeat gives the same account", async () => {
        const again = await create({ name, expires_in_seconds: 3600 });
        assert.notEqual(again.id, account.id);
        assert.ok(Math.abs(again.api_key.expires_at - seconds() - 3600) < 300);
    });

    test("an account may have no key, or several", async () => {
        const bare = await create({ name, create_service_account_only: true });
        assert.equal(bare.api_key, null);
        assert.equal(bare.role, "none");
        const key = await serviceAccounts.apiKeys.create(bare.id, { project_id, name: "sdktest key", expires_in_seconds: 60 });
        assert.match(key.value, /^sk-/);
        assert.equal(key.name, "sdktest key");
        assert.ok(key.expires_at > key.created_at);
    });

    test("accounts are found by their ids, and listed page by page", async () => {
        const one = await serviceAccounts.retrieve(account.id, { project_id });
        const { api_key: _, ...shown } = account;
        assert.deepEqual(one, shown);
        const listed = (await drain(serviceAccounts)).filter((a) => a.name === name);
        assert.deepEqual(listed.map((a) => a.id).sort(), made.toSorted());
        assert.deepEqual(listed.find((a) => a.id === account.id), shown);
    });

    test("keys are listed with their owners, without their secrets", async () => {
        const listed = await drain(apiKeys, { owner_project_access: "any" });
        const key = listed.find((k) => k.id === account.api_key.id);
        assert.equal(key.object, "organization.project.api_key");
        assert.equal(key.owner.type, "service_account");
        assert.equal(key.owner.service_account.id, account.id);
        assert.equal(key.owner.service_account.name, name);
        assert.equal(key.owner_project_access, "active");
        assert.equal(JSON.stringify(listed).includes(account.api_key.value), false);
        assert.deepEqual(await apiKeys.retrieve(key.id, { project_id }), key);
        const active = await drain(apiKeys, { owner_project_access: "active" });
        assert.equal(active.length, listed.length - 1);
    });

    test("an account's key manages nothing", async () => {
        const own = connect(account.api_key.value);
        await assert.rejects(own.retrieve(project_id), refusal(PermissionDeniedError, 403));
    });

    test("what is malformed, unknown or not allowed is refused", async () => {
        const none = { project_id: "proj_none" };
        await assert.rejects(serviceAccounts.create(project_id, { name: "" }), refusal(BadRequestError, 400));
        await assert.rejects(serviceAccounts.create(project_id, { name, expires_in_seconds: 0 }), refusal(BadRequestError, 400));
        await assert.rejects(serviceAccounts.list(project_id, { limit: 0 }), refusal(BadRequestError, 400));
        await assert.rejects(serviceAccounts.retrieve("svc_acct_none", { project_id }), refusal(NotFoundError, 404));
        await assert.rejects(serviceAccounts.retrieve(account.id, none), refusal(NotFoundError, 404));
        await assert.rejects(serviceAccounts.delete("svc_acct_none", { project_id }), refusal(NotFoundError, 404));
        await assert.rejects(apiKeys.delete("key_none", { project_id }), refusal(NotFoundError, 404));
        await assert.rejects(projects.retrieve(none.project_id), refusal(NotFoundError, 404));
        await assert.rejects(connect("sk-admin-none").retrieve(project_id), (error) => {
            refusal(AuthenticationError, 401)(error);
            assert.equal(error.code, "invalid_api_key");
            return true;
        });
    });

    test("a key is deleted by itself", async () => {
        const key = await serviceAccounts.apiKeys.create(account.id, { project_id });
        assert.deepEqual(await apiKeys.delete(key.id, { project_id }), {
            object: "organization.project.api_key.deleted", id: key.id, deleted: true,
        });
        await assert.rejects(apiKeys.retrieve(key.id, { project_id }), refusal(NotFoundError, 404));
    });

    test("an account is deleted with its keys, and is nowhere any more", async () => {
        assert.deepEqual(await serviceAccounts.delete(account.id, { project_id }), {
            object: "organization.project.service_account.deleted", id: account.id, deleted: true,
        });
        made.shift();
        await assert.rejects(serviceAccounts.retrieve(account.id, { project_id }), refusal(NotFoundError, 404));
        await assert.rejects(serviceAccounts.delete(account.id, { project_id }), refusal(NotFoundError, 404));
        await assert.rejects(apiKeys.retrieve(account.api_key.id, { project_id }), refusal(NotFoundError, 404));
        await assert.rejects(connect(account.api_key.value).retrieve(project_id), refusal(AuthenticationError, 401));
    });
});
