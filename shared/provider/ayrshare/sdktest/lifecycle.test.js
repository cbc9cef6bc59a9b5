// The life of a profile, through Ayrshare's official client. Run by lifecycle_test.go against the
// fake; it asks nothing of a fake, so that
//
//   AYRSHARE_BASE_URL=https://api.ayrshare.com AYRSHARE_API_KEY=… npm test
//
// with an account's key tells whether the real service still behaves as the fake does. It deletes
// everything that it creates. Lists of the real service are up to five minutes old, so that what is
// said of them here holds for the fake alone, unless one waits.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import http from "node:http";
import https from "node:https";
import { after, describe, test } from "node:test";
import SocialMediaAPI from "social-media-api";

const apiKey = process.env.AYRSHARE_API_KEY;
assert.ok(process.env.AYRSHARE_BASE_URL && apiKey, "set AYRSHARE_BASE_URL and AYRSHARE_API_KEY");
const base = new URL(process.env.AYRSHARE_BASE_URL);

// The client knows one origin alone: what it sends there goes to ours.
const { request } = https;
https.request = (url, options, answered) => {
    assert.equal(url.hostname, "api.ayrshare.com");
    const target = new URL(url.pathname + url.search, base);
    return (base.protocol === "https:" ? request : http.request)(target, { ...options, agent: undefined }, answered);
};

const connect = (key) => new SocialMediaAPI(key);
const org = connect(apiKey);
const keyForm = /^[0-9A-Z]{7}(-[0-9A-Z]{7}){3}$/;

// refused checks that an answer is an error. The client hands out the body alone.
function refused(answer, message) {
    assert.equal(answer.status, "error", JSON.stringify(answer));
    assert.match(answer.message, message);
}

// drain reads the list of profiles to its end.
async function drain() {
    const all = [];
    for (let cursor; ;) {
        const page = await org.getProfiles(cursor ? { cursor } : {});
        assert.equal(page.count, page.profiles.length);
        assert.ok(Date.parse(page.nextUpdate) >= Date.parse(page.lastUpdated));
        all.push(...page.profiles);
        if (!page.pagination.hasMore) {
            return all;
        }
        cursor = page.pagination.nextCursor;
    }
}

describe("a profile", () => {
    const titles = [1, 2, 3].map((n) => `sdktest-${randomUUID()}/${n}`);
    const left = new Set();
    let made;

    after(async () => {
        for (const title of left) {
            await org.deleteProfile({ title });
        }
    });

    test("an account's key tells of its primary profile", async () => {
        const user = await org.user();
        assert.match(user.refId, /^[0-9a-f]{40}$/);
        assert.deepEqual(user.activeSocialAccounts, []);
    });

    test("it is created, and its key told", async () => {
        for (const title of titles) {
            made = await org.createProfile({ title, hideTopHeader: true });
            left.add(title);
            assert.equal(made.status, "success");
            assert.equal(made.title, title);
            assert.match(made.refId, /^[0-9a-f]{40}$/);
            assert.match(made.profileKey, keyForm);
        }
    });

    test("its title is unique, and a repeat does not tell the key", async () => {
        const again = await org.createProfile({ title: titles[0] });
        refused(again, /^Profile title already exists\.$/);
        assert.equal("profileKey" in again, false);
    });

    test("it is listed, without its key", async () => {
        const listed = (await drain()).filter((p) => titles.includes(p.title));
        assert.deepEqual(listed.map((p) => p.title), titles.toReversed());
        assert.equal(listed[0].refId, made.refId);
        assert.ok(Date.parse(listed[0].createdUTC) > 0);
        assert.equal(JSON.stringify(listed).includes(made.profileKey), false);
        const [found, ...others] = (await org.getProfiles({ title: titles[2] })).profiles;
        assert.deepEqual([found.refId, others], [made.refId, []]);
    });

    test("its key acts for it beside the account's", async () => {
        const own = await connect(apiKey).setProfileKey(made.profileKey).user();
        assert.deepEqual([own.refId, own.title], [made.refId, made.title]);
    });

    test("what is missing, unknown or not allowed is refused", async () => {
        refused(await org.createProfile({}), /required/i);
        refused(await org.deleteProfile({}), /required/i);
        refused(await org.deleteProfile({ title: `${titles[0]}x` }), /not found/i);
        refused(await connect("0000000-0000000-0000000-0000000").getProfiles(), /not valid/i);
        refused(await connect(apiKey).setProfileKey("0000000-0000000-0000000-0000000").user(), /not valid/i);
    });

    test("it is deleted by its key, or by its exact title, and its key opens nothing", async () => {
        const gone = await org.deleteProfile({ profileKey: made.profileKey });
        assert.deepEqual([gone.status, gone.refId], ["success", made.refId]);
        left.delete(titles[2]);
        for (const title of titles.slice(0, 2)) {
            assert.equal((await org.deleteProfile({ title })).status, "success");
            left.delete(title);
        }
        assert.deepEqual((await drain()).filter((p) => titles.includes(p.title)), []);
        refused(await connect(apiKey).setProfileKey(made.profileKey).user(), /not valid/i);
    });
});
