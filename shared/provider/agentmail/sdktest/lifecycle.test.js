// The life of a pod and its key, through AgentMail's official SDK. Run by lifecycle_test.go against
// the fake; it asks nothing of a fake, so that
//
//   AGENTMAIL_BASE_URL=https://api.agentmail.to AGENTMAIL_API_KEY=… npm test
//
// tells whether the real service still behaves as the fake does. It deletes everything that it
// creates.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { AgentMail, AgentMailClient, AgentMailError } from "agentmail";

const baseUrl = process.env.AGENTMAIL_BASE_URL;
const apiKey = process.env.AGENTMAIL_API_KEY;
assert.ok(baseUrl && apiKey, "set AGENTMAIL_BASE_URL and AGENTMAIL_API_KEY");

const connect = (key) => new AgentMailClient({ baseUrl, apiKey: key, maxRetries: 0 });
const org = connect(apiKey);

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

// drain reads a list to its end. A page may be empty and still not be the last.
async function drain(list, items) {
    const all = [];
    let pageToken;
    do {
        const page = await list({ limit: 2, pageToken });
        assert.equal(page.count, page[items].length);
        all.push(...page[items]);
        pageToken = page.nextPageToken;
    } while (pageToken);
    return all;
}

// refusal is what assert.rejects expects of an error by the API itself.
const refusal = (errorClass, statusCode, code) => (error) => {
    assert.ok(error instanceof errorClass, `${error.name} is not a ${errorClass.name}`);
    assert.ok(error instanceof AgentMailError);
    assert.equal(error.statusCode, statusCode);
    assert.equal(error.body.code, code);
    assert.equal(typeof error.body.name, "string");
    assert.equal(typeof error.body.message, "string");
    return true;
};

// eventually repeats what is refused with 409 cannot_delete until it is done.
async function eventually(attempt) {
    const deadline = Date.now() + 120_000;
    for (;;) {
        try {
            return await attempt();
        } catch (error) {
            if (error.body?.code !== "cannot_delete" || Date.now() > deadline) {
                throw error;
            }
            await sleep(50);
        }
    }
}

describe("a pod and its key", () => {
    const clientId = `sdktest-${randomUUID()}`;
    const others = []; // pods that only fill the list
    let pod;
    let key;
    let inbox;

    before(async () => {
        for (let i = 0; i < 3; i++) {
            others.push(await org.pods.create({ name: `sdktest ${i}` }));
        }
    });

    after(async () => {
        for (const other of others) {
            await org.pods.delete(other.podId);
        }
    });

    test("the organisation's key knows whose it is", async () => {
        const me = await org.auth.me();
        assert.equal(me.scopeType, "organization");
        assert.equal(me.scopeId, me.organizationId);
        assert.equal(me.podId, undefined);
    });

    test("a pod is created with a client_id", async () => {
        pod = await org.pods.create({ name: "sdktest", clientId });
        assert.match(pod.podId, uuid);
        assert.equal(pod.clientId, clientId);
        assert.equal(pod.name, "sdktest");
        assert.ok(pod.createdAt instanceof Date && pod.updatedAt instanceof Date);
    });

    test("the same client_id gives the same pod, whatever the name", async () => {
        const again = await org.pods.create({ name: "another name", clientId });
        assert.deepEqual(again, pod);
        assert.deepEqual(await org.pods.get(pod.podId), pod);
    });

    test("a pod without a name is called My Pod", async () => {
        const unnamed = await org.pods.create({});
        others.push(unnamed);
        assert.equal(unnamed.name, "My Pod");
        assert.equal(unnamed.clientId, undefined);
    });

    test("pods are listed page by page, newest first, the Default Pod among them", async () => {
        const { organizationId } = await org.auth.me();
        const pods = await drain((page) => org.pods.list(page), "pods");
        const ids = pods.map((p) => p.podId);
        assert.equal(new Set(ids).size, ids.length);
        assert.deepEqual(pods.find((p) => p.podId === pod.podId), pod);
        assert.ok(ids.indexOf(pod.podId) < ids.indexOf(others[0].podId));
        assert.equal(pods.find((p) => p.podId === organizationId).name, "Default Pod");
        const page = await org.pods.list({ limit: 2 });
        assert.equal(page.limit, 2);
    });

    test("a key is created, and its secret told", async () => {
        key = await org.pods.apiKeys.create(pod.podId, { name: "sdktest key" });
        assert.match(key.apiKey, /^am_/);
        assert.equal(key.prefix, key.apiKey.slice(0, 12));
        assert.equal(key.name, "sdktest key");
        assert.equal(key.podId, pod.podId);
        assert.ok(key.createdAt instanceof Date);
    });

    test("the key is listed without its secret, in a form that the SDK maps", async () => {
        const keys = await drain((page) => org.pods.apiKeys.list(pod.podId, page), "apiKeys");
        assert.equal(keys.length, 1);
        const [listed] = keys;
        assert.equal(listed.type, "bearer");
        assert.equal(listed.apiKeyId, key.apiKeyId);
        assert.equal(listed.prefix, key.prefix);
        assert.equal(listed.name, "sdktest key");
        assert.equal(listed.podId, pod.podId);
        assert.ok(listed.createdAt instanceof Date && listed.updatedAt instanceof Date);
        assert.equal(JSON.stringify(listed).includes(key.apiKey.slice(12)), false);
    });

    test("the key opens its own pod and nothing else", async () => {
        const own = connect(key.apiKey);
        const me = await own.auth.me();
        assert.equal(me.scopeType, "pod");
        assert.equal(me.scopeId, pod.podId);
        assert.equal(me.podId, pod.podId);
        assert.equal(me.organizationId, (await org.auth.me()).organizationId);
        assert.deepEqual(await own.pods.get(pod.podId), pod);
        await assert.rejects(own.pods.get(others[0].podId), refusal(AgentMail.NotFoundError, 404, "not_found"));
    });

    test("an inbox is created with the key, and listed", async () => {
        inbox = await connect(key.apiKey).pods.inboxes.create(pod.podId, { displayName: "sdktest" });
        assert.equal(inbox.podId, pod.podId);
        assert.equal(inbox.inboxId, inbox.email);
        assert.ok(inbox.createdAt instanceof Date);
        const inboxes = await drain((page) => org.pods.inboxes.list(pod.podId, page), "inboxes");
        assert.deepEqual(inboxes, [inbox]);
    });

    test("a pod that holds something is not deleted", async () => {
        await assert.rejects(org.pods.delete(pod.podId), refusal(AgentMailError, 409, "cannot_delete"));
        await org.pods.get(pod.podId);
    });

    test("what is malformed is a ValidationError that names the member", async () => {
        await assert.rejects(org.pods.create({ clientId: "not allowed" }), (error) => {
            refusal(AgentMail.ValidationError, 400, "validation_error")(error);
            assert.deepEqual(error.body.errors[0].path, ["client_id"]);
            return true;
        });
        await assert.rejects(org.pods.list({ limit: 0 }), refusal(AgentMailError, 400, "validation_error"));
    });

    test("what does not exist is a NotFoundError", async () => {
        const missing = randomUUID();
        for (const call of [
            () => org.pods.get(missing),
            () => org.pods.get("not-a-uuid"),
            () => org.pods.delete(missing),
            () => org.pods.apiKeys.list(missing),
            () => org.pods.apiKeys.create(missing, {}),
            () => org.pods.apiKeys.delete(pod.podId, missing),
            () => org.pods.inboxes.delete(pod.podId, `${missing}@agentmail.to`),
        ]) {
            await assert.rejects(call, refusal(AgentMail.NotFoundError, 404, "not_found"));
        }
    });

    test("a key that is none is refused at the edge, without a code", async () => {
        await assert.rejects(connect(`am_us_${"0".repeat(64)}`).pods.list(), (error) => {
            assert.ok(error instanceof AgentMailError);
            assert.equal(error.statusCode, 403);
            assert.deepEqual(error.body, { message: "Forbidden" });
            return true;
        });
    });

    test("every answer names its request", async () => {
        const { rawResponse } = await org.pods.get(pod.podId).withRawResponse();
        assert.ok(rawResponse.headers.get("apigw-requestid"));
    });

    test("domains and webhooks are listed", async () => {
        assert.deepEqual(await drain((page) => org.pods.domains.list(pod.podId, page), "domains"), []);
        assert.deepEqual(await drain((page) => org.pods.webhooks.list(pod.podId, page), "webhooks"), []);
    });

    test("the key, the inbox and then the pod are deleted", async () => {
        await org.pods.apiKeys.delete(pod.podId, key.apiKeyId);
        assert.deepEqual(await drain((page) => org.pods.apiKeys.list(pod.podId, page), "apiKeys"), []);
        await assert.rejects(org.pods.apiKeys.delete(pod.podId, key.apiKeyId), refusal(AgentMail.NotFoundError, 404, "not_found"));

        await org.pods.inboxes.delete(pod.podId, inbox.inboxId);
        await eventually(() => org.pods.delete(pod.podId));
        await assert.rejects(org.pods.get(pod.podId), refusal(AgentMail.NotFoundError, 404, "not_found"));
        await assert.rejects(org.pods.delete(pod.podId), refusal(AgentMail.NotFoundError, 404, "not_found"));
    });

    test("the deleted pod's client_id makes a fresh pod", async () => {
        const fresh = await org.pods.create({ clientId });
        others.push(fresh);
        assert.notEqual(fresh.podId, pod.podId);
    });
});
